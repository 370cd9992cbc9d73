"""How soon are the digits of `gan_mnist.py` better than what the notebooks' settings reach?

    python benchmarks/race.py

Takes the Fréchet distance after each of 40 epochs of both loops, and every measure of quality.py
after the last. What it has measured is kept in `benchmarks/race.json`: for a loop that is in
there, nothing is trained again. Then it times both loops in turn, prints the result and draws
`outputs/reference/quality.png`; 64 digits of each loop are beside it, `race_*.png`. With the
name of a loop it trains only that one, anew.
"""

import argparse
import itertools
import json
import statistics
from pathlib import Path

import notebooks
import quality
import speed
import torch
from matplotlib.figure import Figure
from torchvision.utils import save_image

import gan_mnist

EPOCHS = 40
RECORD = Path(__file__).with_name("race.json")
PICTURE = quality.REFERENCE.with_name("quality.png")
LABELS = {"notebooks": "the notebooks' settings", "ours": "gan_mnist.py"}


def train_notebooks(after_epoch):
    """Call `after_epoch` with a function from noise to images in [0, 1]."""
    torch.manual_seed(0)
    batches = notebooks.train(speed.ROOT / "data", "cpu")
    for generator in itertools.islice(batches, 599, EPOCHS * 600, 600):
        after_epoch(lambda noise, generator=generator: generator(noise) / 2 + 0.5)


def train_ours(after_epoch):
    """The same with a default run of the script, on the CPU."""

    class Race(gan_mnist.Run):
        def save_epoch(self, epoch, averaged, parts):
            self.history.append(self.means)
            after_epoch(averaged)

    torch.set_float32_matmul_precision("medium")  # as `main` does
    options = gan_mnist.parse_options(["--epochs", str(EPOCHS)])
    images = gan_mnist.load_mnist(speed.ROOT / "data")
    run = Race(None, options, "cpu")
    gan_mnist.train(images, EPOCHS, options.batch_size, options.rate, "cpu", run)


def race(name):
    """The Fréchet distance to the test digits after each epoch, and all measures at the end."""
    classifier = quality.load_classifier()
    train_digits, test_digits = (quality.load_digits(train=train)[0] for train in (True, False))
    real = quality.look(classifier, test_digits)[0]
    distances, drawn = [], []

    def after_epoch(generator):
        drawn[:] = quality.draws(generator)
        each = [quality.frechet_distance(quality.look(classifier, d)[0], real) for d in drawn]
        distances.append(statistics.mean(each))
        print(f"{name} epoch {len(distances)}: Fréchet distance {distances[-1]:.1f}", flush=True)

    {"notebooks": train_notebooks, "ours": train_ours}[name](after_epoch)
    digits = drawn[0][:64].view(-1, 1, 28, 28)
    save_image(digits, PICTURE.with_name(f"race_{name}.png"))
    return {
        "distances": distances,
        "measures": quality.measure(drawn, classifier, train_digits, test_digits),
    }


def draw(record, epoch_seconds):
    """The distance over the training time, a point an epoch."""
    axes = Figure(figsize=(7, 4), layout="constrained").subplots()
    for name, label in LABELS.items():
        distances = record[name]["distances"]
        minutes = [epoch * epoch_seconds[name] / 60 for epoch in range(1, len(distances) + 1)]
        axes.semilogy(minutes, distances, ".-", label=label)
    goal = record["notebooks"]["distances"][-1]
    axes.axhline(goal, color="gray", linewidth=0.8, linestyle=":")
    axes.set_xlabel("training time, minutes")
    axes.set_ylabel("Fréchet distance to real digits (lower is better)")
    axes.legend()
    axes.figure.savefig(PICTURE)


def main():
    parser = argparse.ArgumentParser(description="Race the notebooks' settings against ours.")
    help = "train this loop anew (default: those without a record)"
    parser.add_argument("loop", nargs="?", choices=list(LABELS), help=help)
    loop = parser.parse_args().loop
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in [loop] if loop else LABELS.keys() - record.keys():
        result = {name: race(name)}
        record = (json.loads(RECORD.read_text()) if RECORD.exists() else {}) | result
        RECORD.write_text(json.dumps(record))
    if loop:
        return
    *medians, _ = speed.compare("cpu")
    epoch_seconds = dict(zip(LABELS, medians))
    theirs, ours = (record[name]["distances"] for name in LABELS)
    goal = theirs[-1]
    passed = next(epoch for epoch, distance in enumerate(ours, start=1) if distance < goal)
    print(f"\nFréchet distance of the notebooks' settings: {goal:.1f}; lowest: {min(theirs):.1f}")
    print(f"ours passes it in epoch {passed} ({ours[passed - 1]:.1f}); at the end: {ours[-1]:.1f}")
    for name in LABELS:
        measures = record[name]["measures"].items()
        print(f"{name} at the end:", *(f"{key} {value:.3f}" for key, value in measures))
        print(f"{name}: {epoch_seconds[name]:.1f} s an epoch")
    share = EPOCHS * epoch_seconds["notebooks"] / (passed * epoch_seconds["ours"])
    print(f"share of the notebooks' settings' training time: 1/{share:.1f}")
    draw(record, epoch_seconds)


if __name__ == "__main__":
    main()
