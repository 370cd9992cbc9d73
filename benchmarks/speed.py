"""How fast is the loop? The notebooks' loop, ours, and their ratio, measured in turn.

    python benchmarks/speed.py

A machine is rarely quiet: trust the ratio, not the times.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import notebooks
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import gan_mnist  # noqa: E402

WARM_UP = 20  # updates before the clock starts
UPDATES = 100  # in a round


def now(device):
    """The time when all that was asked of the device is done."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


class Clock(gan_mnist.Run):
    """A run of one epoch that notes the time of each batch and saves nothing."""

    times = ()

    def after_batch(self, *values):
        super().after_batch(*values)
        self.times += (now(self.device),)

    def after_epoch(self):
        pass


def seconds_of_notebooks(device):
    """An update of both networks in the notebooks' loop."""
    torch.set_float32_matmul_precision("highest")  # PyTorch's default
    batches = notebooks.train(ROOT / "data", device)
    times = [now(device) for _ in zip(range(WARM_UP + UPDATES), batches)]
    return (times[-1] - times[WARM_UP - 1]) / UPDATES


def seconds_of_ours(device):
    """The same for `train` of the script."""
    torch.set_float32_matmul_precision("medium")  # as `main` does
    settings = gan_mnist.DEFAULTS | {"epochs": 1, "batch_size": notebooks.BATCH_SIZE}
    checkpoint = {"settings": settings, "history": [], "batches": 0, "states": {}}
    clock = Clock(None, torch.device(device), checkpoint)
    images = gan_mnist.load_mnist(ROOT / "data")
    gan_mnist.train(images[: (WARM_UP + UPDATES) * notebooks.BATCH_SIZE], clock)
    return (clock.times[-1] - clock.times[WARM_UP - 1]) / UPDATES


def main():
    parser = argparse.ArgumentParser(description="Compare the notebooks' loop with ours.")
    parser.add_argument("--device", default="cpu", help="where both train (default: cpu)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    options = parser.parse_args()
    turns = (seconds_of_notebooks, seconds_of_ours)
    rounds = [[seconds(options.device) for seconds in turns] for _ in range(options.rounds)]
    theirs, ours = (600 * statistics.median(column) for column in zip(*rounds))
    ratios = sorted(theirs / ours for theirs, ours in rounds)
    print(f"seconds an epoch: the notebooks' loop {theirs:.1f}, ours {ours:.1f}")
    print(f"ratio: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
