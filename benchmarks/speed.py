"""How fast is the loop? The notebooks' loop, ours, and their ratio, measured in turn.

    python benchmarks/speed.py

A machine is rarely quiet: trust the ratio, not the times."""

import argparse
import contextlib
import io
import itertools
import statistics
import tempfile
import time

import notebooks
import torch
from quality import ROOT
from torch.utils.data import DataLoader

import gan_mnist  # quality.py has made its folder known

WARM_UP, UPDATES = 20, 100  # before the clock starts, and then, in a round


def clocked(batches, device, times):
    """The first batches. Notes when the clock starts and stops; a GPU then has done its work."""
    for number, batch in enumerate(itertools.islice(batches, WARM_UP + UPDATES + 1)):
        if number in (WARM_UP, WARM_UP + UPDATES):
            if device != "cpu":
                torch.accelerator.synchronize()
            times.append(time.perf_counter())
        yield batch


def seconds_of_both(device):
    """An update of both networks in the notebooks' loop, and in the script."""
    theirs, ours = [], []
    torch.set_float32_matmul_precision("highest")  # PyTorch's default
    for _ in clocked(notebooks.train(ROOT / "data", device), device, theirs):
        pass
    gan_mnist.DataLoader = lambda *args, **more: clocked(DataLoader(*args, **more), device, ours)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        gan_mnist.main(["--epochs=1", f"--device={device}", f"--output-dir={folder}/run"])
    return [(stop - start) / UPDATES for start, stop in (theirs, ours)]


def main():
    parser = argparse.ArgumentParser(description="Compare the notebooks' loop with ours.")
    parser.add_argument("--device", default="cpu", help="where both train (default: cpu)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    options = parser.parse_args()
    rounds = [seconds_of_both(options.device) for _ in range(options.rounds)]
    theirs, ours = (600 * statistics.median(column) for column in zip(*rounds))
    ratios = sorted(theirs / ours for theirs, ours in rounds)
    print(f"seconds an epoch: the notebooks' loop {theirs:.1f}, ours {ours:.1f}")
    print(f"ratio: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
