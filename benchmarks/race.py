"""How soon are the digits of `gan_mnist.py` better than what the notebooks' settings reach?

    python benchmarks/race.py notebooks
    python benchmarks/race.py ours

Trains that loop for 40 epochs, seed 0, on the CPU. Keeps the Fréchet distance to the test digits
after each epoch, and every measure of quality.py after the last, in `benchmarks/race.json`, and
64 digits in `outputs/reference/race_*.png`.
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
from torchvision.utils import save_image

import gan_mnist

EPOCHS = 40
RECORD = Path(__file__).with_name("race.json")


def train_notebooks(after_epoch):
    """Call `after_epoch` with a function from noise to images in [0, 1]."""
    torch.manual_seed(0)
    batches = notebooks.train(speed.ROOT / "data", "cpu")
    for generator in itertools.islice(batches, 599, EPOCHS * 600, 600):
        after_epoch(lambda noise, generator=generator: generator(noise) / 2 + 0.5)


def train_ours(after_epoch):
    """The same with a default run of the script."""

    class Race(gan_mnist.Run):
        def save_epoch(self, averaged, parts):
            self.history.append(self.means)
            after_epoch(averaged)

    torch.set_float32_matmul_precision("medium")  # as `main` does
    options = gan_mnist.parse_options([])
    images, run = gan_mnist.load_mnist(speed.ROOT / "data"), Race(None, options, "cpu")
    gan_mnist.train(images, EPOCHS, options.batch_size, options.rate, "cpu", run)


def main():
    parser = argparse.ArgumentParser(description="Take the distances of one loop, epoch by epoch.")
    loops = {"notebooks": train_notebooks, "ours": train_ours}
    name = parser.add_argument("loop", choices=loops, help="which one") and parser.parse_args().loop
    classifier = quality.load_classifier()
    train_digits, test_digits = (quality.load_digits(train=train)[0] for train in (True, False))
    real = quality.look(classifier, test_digits)[0]
    distances, drawn = [], []

    def after_epoch(generator):
        drawn[:] = quality.draws(generator)
        each = [quality.frechet_distance(quality.look(classifier, d)[0], real) for d in drawn]
        distances.append(round(statistics.mean(each), 1))
        print(f"{name} epoch {len(distances)}: Fréchet distance {distances[-1]}", flush=True)

    loops[name](after_epoch)
    digits = drawn[0][:64].view(-1, 1, 28, 28)
    save_image(digits, quality.REFERENCE.with_name(f"race_{name}.png"))
    measures = quality.measure(drawn, classifier, train_digits, test_digits)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[name] = {"distances": distances, "measures": measures}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
