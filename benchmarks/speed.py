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

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import notebooks  # noqa: E402

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


class Enough(Exception):
    """As many updates as were asked for."""


class Stopwatch(gan_mnist.Run):
    """Takes the place of a run: saves nothing, stops the time after some updates."""

    def __init__(self, device, updates):
        super().__init__(None, gan_mnist.parse_options([]), device)
        self.device, self.updates, self.count = device, updates, 0

    def show_progress(self, *arguments):
        super().show_progress(*arguments)
        self.count += 1
        if self.count == WARM_UP:
            self.begin = now(self.device)
        if self.count == WARM_UP + self.updates:
            self.seconds = now(self.device) - self.begin
            raise Enough

    def save_epoch(self, *_):
        pass


def time_ours(batch_size, device, updates):
    """Seconds that `train` of the script takes for an update of both networks."""
    torch.set_float32_matmul_precision("medium")  # as `main` does
    images = gan_mnist.load_mnist(ROOT / "data")
    stopwatch = Stopwatch(device, updates)
    try:
        gan_mnist.train(images, 1000, batch_size, gan_mnist.LEARNING_RATE, device, stopwatch)
    except Enough:
        return stopwatch.seconds / updates


def compare(device, batch_size=None, updates=100, rounds=7):
    """Rounds in turn, each loop in batches of this size or of its own. Median seconds of an
    epoch of the notebooks' loop and of ours, and the ratio of each round."""
    sizes = [batch_size or size for size in (notebooks.BATCH_SIZE, gan_mnist.BATCH_SIZE)]
    epochs = []
    for _ in range(rounds):
        update = time_notebooks(sizes[0], device, updates), time_ours(sizes[1], device, updates)
        epochs.append([seconds * 60_000 / size for seconds, size in zip(update, sizes)])
    medians = [statistics.median(column) for column in zip(*epochs)]
    return *medians, [theirs / ours for theirs, ours in epochs]


def main():
    parser = argparse.ArgumentParser(description="Compare the notebooks' loop with ours.")
    add = parser.add_argument
    add("--batch-size", type=int, help="of both loops (default: 100 and ours)")
    add("--device", default="cpu", help="where both train (default: cpu)")
    add("--updates", type=int, default=100, help="updates in a round (default: 100)")
    add("--rounds", type=int, default=7, help="turns of each loop (default: 7)")
    options = parser.parse_args()
    theirs, ours, ratios = compare(**vars(options))
    print(f"seconds an epoch: the notebooks' loop {theirs:.1f}, ours {ours:.1f}")
    print(
        f"ratio: {statistics.median(ratios):.2f} (rounds: {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
