"""How good are the digits? A row of measures for each trained generator, and one for real digits.

    python benchmarks/quality.py [generator.pt ...]

Each generator draws 10,000 digits five times, always from the same noise; a row is the mean of the
five. Everybody measures with the same classifier. benchmarks/README.md explains the columns."""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision.datasets import MNIST

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from gan_mnist import make_generator  # noqa: E402

REFERENCE = ROOT / "outputs" / "reference" / "generator.pt"
COLUMNS = ("FD", "recall", "coverage", "sure", "smallest", "largest")


def load_classifier():
    """A small convolutional network: (N, 784) pixels in [0, 1] -> (N, 128) "features" -> (N, 10)
    "logits". Trained on the 60,000 training digits: 4 epochs, Adam, one cycle up to 4e-3."""
    features = nn.Sequential(
        *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(64 * 4 * 4, 128), nn.ReLU()),
    )
    classifier = nn.ModuleDict({"features": features, "logits": nn.Linear(128, 10)})
    classifier.load_state_dict(torch.load(ROOT / "benchmarks/classifier.pt", weights_only=True))
    return classifier


def load_digits(train):
    """MNIST as (N, 784) pixels in [0, 1] and (N,) labels."""
    digits = MNIST(ROOT / "data", train=train, download=True)
    return digits.data.flatten(1) / 255, digits.targets


@torch.no_grad()
def look(classifier, pixels):
    """(N, 784) pixels -> (N, 128) features in float64 and (N, 10) probabilities."""
    features = torch.cat([classifier["features"](part) for part in pixels.split(1000)])
    return features.double(), classifier["logits"](features).softmax(1)


def frechet_distance(a, b):
    """|mean difference|^2 + trace(A + B - 2 (AB)^1/2) of two (N, F) sets of features, whose
    covariances are A and B (Heusel et al. 2017)."""
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    half = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(half @ cov_b @ half).clamp(min=0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return (means + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def radii(features):
    """Distance from each of N features to its 5th nearest other one: (N,)."""
    parts = features.split(1000)
    return torch.cat([torch.cdist(part, features).kthvalue(1 + 5).values for part in parts])


def recall_and_coverage(real, reals_reach, fake):
    """Recall (Kynkäänniemi et al. 2019) and coverage (Naeem et al. 2020) of (N, F) features of
    fakes for (M, F) real ones, whose radii are `reals_reach`."""
    distance = torch.cdist(real, fake)
    recalled, covered = (distance <= radii(fake)).any(1), distance.min(1).values <= reals_reach
    return recalled.double().mean().item(), covered.double().mean().item()


def measure(draws, classifier, test):
    """What the classifier says of draws of (N, 784) pixels beside the real (M, 784) of `test`:
    a value for each of COLUMNS, the mean over the draws."""
    real = look(classifier, test)[0]
    reals_reach, rows = radii(real.float()), []
    for pixels in draws:
        fake, probabilities = look(classifier, pixels)
        neighbours = recall_and_coverage(real.float(), reals_reach, fake.float())
        sure = (probabilities.max(1).values > 0.9).double().mean().item()
        shares = probabilities.argmax(1).bincount(minlength=10) / len(pixels)
        extremes = shares.min().item(), shares.max().item()
        rows.append([frechet_distance(fake, real), *neighbours, sure, *extremes])
    return dict(zip(COLUMNS, torch.tensor(rows).mean(0).tolist()))


def load_generator(path):
    """The generator of a file that gan_mnist.py saved."""
    generator = make_generator()
    generator.load_state_dict(torch.load(path, weights_only=True))
    return generator


@torch.no_grad()
def draws(generator, number=5):
    """So many times 10,000 digits of a generator, each (10000, 784) pixels in its range."""
    seeds = [torch.Generator().manual_seed(seed) for seed in range(number)]
    return [generator(torch.randn(10_000, 100, generator=seed)).flatten(1) for seed in seeds]


def main():
    parser = argparse.ArgumentParser(description="Measure the digits of trained generators.")
    parser.add_argument("generators", nargs="*", type=Path, default=[REFERENCE])
    samples = {str(path): draws(load_generator(path)) for path in parser.parse_args().generators}
    samples["50,000 real training digits"] = load_digits(train=True)[0][:50_000].split(10_000)
    classifier, test = load_classifier(), load_digits(train=False)[0]
    width = max(map(len, samples))
    print(" " * width, *(f"{name:>9}" for name in COLUMNS))
    for name, drawn in samples.items():
        row = measure(drawn, classifier, test)
        print(f"{name:{width}}", *(f"{value:9.3f}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
