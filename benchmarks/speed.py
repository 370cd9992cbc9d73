"""How fast is the loop? The notebooks' loop, ours, and their ratio, measured in turn.

    python benchmarks/speed.py

A machine is rarely quiet: trust the ratio, not the times.
"""

import argparse
import itertools
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


def now(device):
    """The time when all that was asked of the device is done."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def time_notebooks(batch_size, device, updates):
    """Seconds that the notebooks' loop takes for an update of both networks."""
    torch.set_float32_matmul_precision("highest")  # PyTorch's default
    batches = notebooks.train(ROOT / "data", device, batch_size)
    next(itertools.islice(batches, WARM_UP - 1, None))
    started = now(device)
    next(itertools.islice(batches, updates - 1, None))
    return (now(device) - started) / updates


class Clock(gan_mnist.Run):
    """A run of one epoch that notes the time of each batch and saves nothing."""

    times = ()

    def after_batch(self, *values):
        super().after_batch(*values)
        self.times += (now(self.device),)

    def after_epoch(self):
        pass


def time_ours(batch_size, device, updates):
    """The same for `train` of the script."""
    torch.set_float32_matmul_precision("medium")  # as `main` does
    settings = gan_mnist.DEFAULTS | {"epochs": 1, "batch_size": batch_size}
    checkpoint = {"settings": settings, "history": [], "batches": 0, "states": {}}
    clock = Clock(None, torch.device(device), checkpoint)
    images = gan_mnist.load_mnist(ROOT / "data")[: (WARM_UP + updates) * batch_size]
    gan_mnist.train(images, clock)
    return (clock.times[-1] - clock.times[WARM_UP - 1]) / updates


def main():
    parser = argparse.ArgumentParser(description="Compare the notebooks' loop with ours.")
    add = parser.add_argument
    add("--batch-size", type=int, default=gan_mnist.BATCH_SIZE, help="of both loops")
    add("--device", default="cpu", help="where both train (default: cpu)")
    add("--updates", type=int, default=100, help="updates in a round (default: 100)")
    add("--rounds", type=int, default=7, help="turns of each loop (default: 7)")
    options = parser.parse_args()
    arguments, rounds = (options.batch_size, options.device, options.updates), []
    for _ in range(options.rounds):
        rounds.append([time_notebooks(*arguments), time_ours(*arguments)])
    theirs, ours = (statistics.median(c) * 60_000 / options.batch_size for c in zip(*rounds))
    ratios = [theirs / ours for theirs, ours in rounds]
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"seconds an epoch: the notebooks' loop {theirs:.1f}, ours {ours:.1f}")
    print(f"ratio: {middle:.2f} (rounds: {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
