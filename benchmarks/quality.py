"""How good are the digits? A row of measures for each trained generator, and one for real digits.

    python benchmarks/quality.py [generator.pt ...]

Each generator draws 10,000 digits five times, always from the same noise; a row is the mean over
the five. The classifier that looks at them is kept in `benchmarks/classifier.pt`, so that
everybody measures with the same ruler.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision.datasets import MNIST

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from gan_mnist import NOISE_SIZE, make_generator  # noqa: E402

REFERENCE = ROOT / "outputs" / "reference" / "generator.pt"
CLASSIFIER = Path(__file__).with_name("classifier.pt")
SAMPLES = 10_000
DRAWS = 5
NEIGHBOURS = 5  # k of recall and coverage

# What they mean, and which way is better, stands in benchmarks/README.md.
COLUMNS = ("FD", "recall", "coverage", "sure", "smallest", "largest")


class Classifier(nn.Module):
    """A small convolutional network: (N, 784) pixels in [0, 1] -> (N, 10) logits. Its file holds
    weights trained on the 60,000 training digits: 4 epochs, Adam, one cycle up to 4e-3."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(  # (N, 128)
            *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(64 * 4 * 4, 128), nn.ReLU()),
        )
        self.logits = nn.Linear(128, 10)


def load_classifier():
    """The trained classifier from its file."""
    classifier = Classifier()
    classifier.load_state_dict(torch.load(CLASSIFIER, weights_only=True))
    return classifier.eval()


def load_digits(train):
    """MNIST as (N, 784) pixels in [0, 1] and (N,) labels."""
    digits = MNIST(ROOT / "data", train=train, download=True)
    return digits.data.flatten(1) / 255, digits.targets


@torch.no_grad()
def look(classifier, pixels):
    """(N, 784) pixels -> (N, 128) features in float64 and (N, 10) probabilities."""
    features = torch.cat([classifier.features(part) for part in pixels.split(1000)])
    return features.double(), classifier.logits(features).softmax(1)


def frechet_distance(a, b):
    """|mean difference|^2 + trace(A + B - 2 (AB)^1/2) of two (N, F) sets of features
    (Heusel et al. 2017)."""
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    half = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(half @ cov_b @ half).clamp(min=0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return (means + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def radii(features):
    """Distance from each of N features to its k-th nearest other one: (N,)."""
    return torch.cat(
        [torch.cdist(p, features).kthvalue(NEIGHBOURS + 1).values for p in features.split(1000)]
    )


def recall_and_coverage(real, reals_reach, fake):
    """Recall (Kynkäänniemi et al. 2019) and coverage (Naeem et al. 2020) of (N, F) features of
    fakes for (M, F) real ones, whose radii are `reals_reach`."""
    reach = radii(fake)
    recalled, covered = 0, 0
    for part, own in zip(real.split(1000), reals_reach.split(1000), strict=True):
        distance = torch.cdist(part, fake)
        recalled += (distance <= reach).any(1).sum().item()
        covered += (distance.min(1).values <= own).sum().item()
    return recalled / len(real), covered / len(real)


def measure(draws, classifier, test):
    """What the classifier says of (N, 784) samples in [0, 1]: a value for each of COLUMNS, the
    mean over the draws."""
    real = look(classifier, test)[0]
    reals_reach, rows = radii(real.float()), []
    for samples in draws:
        fake, probabilities = look(classifier, samples)
        shares = probabilities.argmax(1).bincount(minlength=10) / len(samples)
        sure = (probabilities.max(1).values > 0.9).double().mean().item()
        neighbours = recall_and_coverage(real.float(), reals_reach, fake.float())
        extremes = shares.min().item(), shares.max().item()
        rows.append([frechet_distance(fake, real), *neighbours, sure, *extremes])
    return dict(zip(COLUMNS, torch.tensor(rows).mean(0).tolist(), strict=True))


def load_generator(path):
    """The generator of a file that gan_mnist.py saved."""
    generator = make_generator()
    generator.load_state_dict(torch.load(path, weights_only=True))
    return generator


@torch.no_grad()
def sample(generator, seed=0):
    """10,000 digits of a generator as (10000, 784) pixels in [0, 1]."""
    noise = torch.randn(SAMPLES, NOISE_SIZE, generator=torch.Generator().manual_seed(seed))
    return generator(noise).flatten(1)


def draws(generator):
    """What is measured of a generator: 10,000 digits five times."""
    return [sample(generator, seed) for seed in range(DRAWS)]


def main():
    parser = argparse.ArgumentParser(description="Measure the digits of trained generators.")
    parser.add_argument("generators", nargs="*", type=Path, default=[REFERENCE])
    generators = parser.parse_args().generators
    classifier = load_classifier()
    train, test = load_digits(train=True)[0], load_digits(train=False)[0]
    samples = {str(path): draws(load_generator(path)) for path in generators}
    samples["50,000 real training digits"] = train[: DRAWS * SAMPLES].split(SAMPLES)
    width = max(map(len, samples))
    print(" " * width, *(f"{name:>9}" for name in COLUMNS))
    for name, drawn in samples.items():
        row = measure(drawn, classifier, test)
        print(f"{name:{width}}", *(f"{value:9.3f}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
