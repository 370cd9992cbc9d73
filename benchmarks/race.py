"""How good are the digits that the notebooks' settings reach in 40 epochs?

    python benchmarks/race.py

Trains their loop, seed 0, on the CPU. Keeps the Fréchet distance after each epoch and all measures
after the last in `benchmarks/race.json`, 64 digits in `outputs/reference/race_notebooks.png`."""

import argparse
import itertools
import json
from pathlib import Path

import notebooks
import quality
import torch
from torchvision.utils import save_image


def main():
    argparse.ArgumentParser(description="Train the notebooks' loop and measure it.").parse_args()
    classifier, digits = quality.load_classifier(), quality.load_digits(train=False)[0]
    torch.manual_seed(0)
    batches, distances = notebooks.train(quality.ROOT / "data", "cpu"), []
    for generator in itertools.islice(batches, 599, 40 * 600, 600):  # after each of 40 epochs
        draws = [images / 2 + 0.5 for images in quality.draws(generator)]  # from [-1, 1]
        measures = quality.measure(draws, classifier, digits)
        distances.append(round(measures["FD"], 1))
        print(f"epoch {len(distances)}: Fréchet distance {distances[-1]}", flush=True)
    record = json.dumps({"distances": distances} | measures, indent=1)
    Path(__file__).with_name("race.json").write_text(record + "\n")
    picture = quality.REFERENCE.with_name("race_notebooks.png")
    save_image(draws[0][:64].view(-1, 1, 28, 28), picture)


if __name__ == "__main__":
    main()
