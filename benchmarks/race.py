"""How soon are the digits of `gan_mnist.py` better than what the article's settings reach in 40 epochs?

    python benchmarks/race.py

Trains both loops, textbook and ours, for 40 epochs (an hour or more), and takes the Fréchet distance after each and
every measure of quality.py after the last, kept in `benchmarks/race.json`; then times both in turn. Prints the result
and draws `outputs/reference/quality.png`. With the name of a loop it only trains that one.
"""

import argparse
import itertools
import json
import statistics
from pathlib import Path

import quality
import speed
import textbook
import torch
from matplotlib.figure import Figure

from gan_mnist import GAN, load_mnist, train

EPOCHS = 40
RECORD = Path(__file__).with_name("race.json")
PICTURE = quality.REFERENCE.with_name("quality.png")
BATCH_SIZES = {"textbook": 32, "ours": 100}
LABELS = {"textbook": "the article's settings and loop", "ours": "gan_mnist.py"}


def textbook_epochs():
    """The article's generator after each epoch of the article's loop with its settings."""
    torch.set_float32_matmul_precision("highest")  # PyTorch's default
    loader = textbook.make_loader(speed.ROOT / "data", BATCH_SIZES["textbook"])
    discriminator, generator = textbook.make_discriminator(), textbook.make_generator()
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=1e-4) for network in (discriminator, generator)
    ]
    while True:
        for images, _ in loader:
            textbook.train_on_batch(discriminator, generator, *optimizers, images)
        yield generator


def our_epochs():
    """The averaged generator after each epoch of a default run."""
    torch.set_float32_matmul_precision("medium")  # as `main` does
    loader = load_mnist(speed.ROOT / "data", BATCH_SIZES["ours"], "cpu")
    gan = GAN(speed.LR, "cpu")
    while True:
        train(gan, loader, len(gan.history) + 1, 0, lambda epoch, batch, totals: None)
        gan.history.append([])
        yield gan.averaged


RUNS = {"textbook": textbook_epochs, "ours": our_epochs}


def race(name):
    """The Fréchet distance of 10,000 samples to the test digits after each epoch, and all measures of the last ones."""
    classifier = quality.load_classifier()
    train_digits, test_digits = (quality.load_digits(train=train)[0] for train in (True, False))
    test_features = quality.look(classifier, test_digits)[0]
    torch.manual_seed(0)
    distances = []
    for generator in itertools.islice(RUNS[name](), EPOCHS):
        samples = quality.sample(generator)
        distances.append(
            quality.frechet_distance(quality.look(classifier, samples)[0], test_features)
        )
        print(f"{name} epoch {len(distances)}: Fréchet distance {distances[-1]:.1f}", flush=True)
    measures = quality.measure(samples, classifier, train_digits, test_digits)
    return {"distances": distances, "measures": measures}


def read_record():
    """What `race` gave for each loop that has been trained, by its name."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def seconds_an_epoch(updates=100, rounds=7):
    """Median training time of an epoch of each loop, from rounds in turn."""
    loops = {name: speed.LOOPS[name](batch_size, "cpu") for name, batch_size in BATCH_SIZES.items()}
    times = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            times[name].append(
                speed.seconds(loop, updates, "cpu") / updates * -(-60_000 // BATCH_SIZES[name])
            )
    return {name: statistics.median(values) for name, values in times.items()}


def draw(record, epoch_seconds):
    axes = Figure(figsize=(7, 4), layout="constrained").subplots()
    for name, label in LABELS.items():
        values = record[name]["distances"]
        minutes = [epoch * epoch_seconds[name] / 60 for epoch in range(1, len(values) + 1)]
        axes.semilogy(minutes, values, ".-", label=label)
    axes.axhline(record["textbook"]["distances"][-1], color="gray", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="training time, minutes", ylabel="Fréchet distance to real digits (lower is better)"
    )
    axes.legend()
    axes.figure.savefig(PICTURE)


def main():
    parser = argparse.ArgumentParser(
        description="Race the article's loop with its settings against the script."
    )
    parser.add_argument(
        "loops",
        nargs="*",
        choices=[[], *RUNS],
        metavar="loop",
        help="only train these (default: everything)",
    )
    loops = parser.parse_args().loops
    for name in loops or RUNS:
        if loops or name not in read_record():
            result = race(name)
            RECORD.write_text(json.dumps(read_record() | {name: result}))
    if loops:
        return
    record = read_record()
    epoch_seconds = seconds_an_epoch()
    article, ours = (record[name]["distances"] for name in ("textbook", "ours"))
    goal = article[-1]
    passed = next(epoch for epoch, distance in enumerate(ours, start=1) if distance < goal)
    print(
        f"\nFréchet distance of the article's settings at the end: {goal:.1f}; lowest: {min(article):.1f}"
    )
    print(f"ours passes it in epoch {passed} ({ours[passed - 1]:.1f}); at the end: {ours[-1]:.1f}")
    for name in RUNS:
        print(
            f"{name} at the end:",
            *(f"{key} {value:.3f}" for key, value in record[name]["measures"].items()),
        )
    for name, seconds in epoch_seconds.items():
        print(f"{name}: {seconds:.1f} s an epoch")
    spent = passed * epoch_seconds["ours"]
    print(
        f"share of the article's training time: 1/{EPOCHS * epoch_seconds['textbook'] / spent:.1f}"
    )
    draw(record, epoch_seconds)


if __name__ == "__main__":
    main()
