"""How soon are the digits of `gan_mnist.py` better than what the notebooks' settings reach?

    python benchmarks/race.py

Trains the textbook's loop and ours for 40 epochs each (half an hour to an hour), and takes the
Fréchet distance after each epoch and every measure of quality.py after the last, kept in
`benchmarks/race.json`; then times both in turn. Prints the result and draws
`outputs/reference/quality.png`, and 64 digits of each loop beside it, `race_*.png`. With the name
of a loop it only trains that one.
"""

import argparse
import itertools
import json
import statistics
from collections import deque
from pathlib import Path

import quality
import speed
import textbook
import torch
from matplotlib.figure import Figure

from gan_mnist import GAN, NOISE_SIZE, load_mnist, parse_options, save_grid, train

EPOCHS = 40
RECORD = Path(__file__).with_name("race.json")
PICTURE = quality.REFERENCE.with_name("quality.png")
LABELS = {"textbook": "simplest loop, notebooks' settings", "ours": "gan_mnist.py"}


def textbook_epochs():
    """The generator of the textbook's loop after each epoch, its pixels scaled to [0, 1]."""
    torch.set_float32_matmul_precision("highest")  # PyTorch's default
    torch.manual_seed(0)
    for generator in textbook.train(speed.ROOT / "data", EPOCHS):
        yield lambda noise, generator=generator: generator(noise) / 2 + 0.5


def our_epochs():
    """The averaged generator after each epoch of a default run, with its random numbers."""
    torch.set_float32_matmul_precision("medium")  # as `main` does
    options = parse_options(["--device", "cpu"])
    digits = load_mnist(options.data_dir, options.device)
    torch.manual_seed(options.seed)
    torch.randn(64, NOISE_SIZE)  # that of the pictures
    gan = GAN(options.lr, options.device)
    while True:
        epoch = len(gan.history) + 1
        deque(train(gan, digits, options.batch_size, epoch, options.seed), maxlen=0)
        gan.history.append([])
        yield gan.averaged


RUNS = {"textbook": textbook_epochs, "ours": our_epochs}


def race(name):
    """The Fréchet distance to the test digits after each epoch, and all measures at the end."""
    classifier = quality.load_classifier()
    train_digits, test_digits = (quality.load_digits(train=train)[0] for train in (True, False))
    real = quality.look(classifier, test_digits)[0]
    distances = []
    for generator in itertools.islice(RUNS[name](), EPOCHS):
        drawn = quality.draws(generator)
        each = [quality.frechet_distance(quality.look(classifier, d)[0], real) for d in drawn]
        distances.append(statistics.mean(each))
        print(f"{name} epoch {len(distances)}: Fréchet distance {distances[-1]:.1f}", flush=True)
    save_grid(PICTURE.with_name(f"race_{name}.png"), drawn[0][:64].view(-1, 1, 28, 28))
    measures = quality.measure(drawn, classifier, train_digits, test_digits)
    return {"distances": distances, "measures": measures}


def read_record():
    """What `race` gave for each loop that has been trained, by its name."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def seconds_an_epoch(updates=100, rounds=7):
    """Median training time of an epoch of each loop in its own batches, from rounds in turn."""
    batch_sizes = {"textbook": textbook.BATCH_SIZE, "ours": parse_options([]).batch_size}
    loops = {name: speed.LOOPS[name](size, "cpu") for name, size in batch_sizes.items()}
    times = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            an_update = speed.seconds(loop, updates, "cpu") / updates
            times[name].append(an_update * -(-60_000 // batch_sizes[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def draw(record, epoch_seconds):
    axes = Figure(figsize=(7, 4), layout="constrained").subplots()
    for name, label in LABELS.items():
        values = record[name]["distances"]
        minutes = [epoch * epoch_seconds[name] / 60 for epoch in range(1, len(values) + 1)]
        axes.semilogy(minutes, values, ".-", label=label)
    axes.axhline(record["textbook"]["distances"][-1], color="gray", linewidth=0.8, linestyle=":")
    axes.set_xlabel("training time, minutes")
    axes.set_ylabel("Fréchet distance to real digits (lower is better)")
    axes.legend()
    axes.figure.savefig(PICTURE, format="png")


def main():
    parser = argparse.ArgumentParser(description="Race the notebooks' settings against the script.")
    help = "only train these (default: everything)"
    parser.add_argument("loops", nargs="*", choices=[[], *RUNS], metavar="loop", help=help)
    loops = parser.parse_args().loops
    for name in loops or RUNS:
        if loops or name not in read_record():
            result = race(name)
            RECORD.write_text(json.dumps(read_record() | {name: result}))
    if loops:
        return
    record = read_record()
    epoch_seconds = seconds_an_epoch()
    theirs, ours = (record[name]["distances"] for name in ("textbook", "ours"))
    goal = theirs[-1]
    passed = next(epoch for epoch, distance in enumerate(ours, start=1) if distance < goal)
    print(f"\nFréchet distance of the notebooks' settings: {goal:.1f}; lowest: {min(theirs):.1f}")
    print(f"ours passes it in epoch {passed} ({ours[passed - 1]:.1f}); at the end: {ours[-1]:.1f}")
    for name in RUNS:
        measures = record[name]["measures"].items()
        print(f"{name} at the end:", *(f"{key} {value:.3f}" for key, value in measures))
    for name, seconds in epoch_seconds.items():
        print(f"{name}: {seconds:.1f} s an epoch")
    share = EPOCHS * epoch_seconds["textbook"] / (passed * epoch_seconds["ours"])
    print(f"share of the notebooks' settings' training time: 1/{share:.1f}")
    draw(record, epoch_seconds)


if __name__ == "__main__":
    main()
