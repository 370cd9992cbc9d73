"""The measures of benchmarks/quality.py on what can be worked out by hand, and the committed
generator by them."""

import math
import re

import quality
import torch
from conftest import ROOT
from readme import README

BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
NUMBER = r"([\d.]+)"
SAID = rf"sure of {NUMBER} %.*rarest makes up {NUMBER} %.*frequent {NUMBER} %.*at {NUMBER} nats"


def test_parzen_is_the_log_of_the_mean_of_gaussians():
    samples, digits, sigma = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5
    gaussians = [
        math.exp(-squared / (2 * sigma**2)) / (2 * math.pi * sigma**2) for squared in (1, 2)
    ]
    assert math.isclose(
        quality.parzen(samples, digits, [sigma]).item(), math.log(sum(gaussians) / 2), rel_tol=1e-5
    )


def test_parzen_chooses_the_width_on_the_held_out_digits():
    torch.manual_seed(0)
    wide = torch.randn(3000, 3)
    mean, error, sigma = quality.parzen_of_test_digits(wide[:1000], wide[1000:2000], wide[2000:])
    every = {
        s.item(): quality.parzen(wide[:1000], wide[2000:], [s.item()]).mean()
        for s in torch.logspace(-1, 0, 20)
    }
    assert sigma in every and math.isclose(mean, every[sigma], rel_tol=1e-6)
    assert mean > max(every.values()) - 0.02 and 0 < error < 0.1
    assert quality.parzen_of_test_digits(wide[:1000], 0.01 * wide[:1000], wide[2000:])[2] < sigma


def test_frechet_distance_of_gaussians():
    torch.manual_seed(0)
    features = torch.randn(20_000, 4, dtype=torch.float64)
    assert abs(quality.frechet_distance(features, features)) < 1e-6
    assert math.isclose(quality.frechet_distance(features, features + 3), 4 * 9, rel_tol=1e-6)
    stretched = 2 * (
        features - features.mean(0)
    )  # same mean up to the sample's, twice the deviation
    expected = features.mean(0).square().sum() + features.T.cov().trace()
    assert math.isclose(quality.frechet_distance(features, stretched), expected, rel_tol=1e-6)


def test_recall_and_coverage_see_a_missing_half():
    torch.manual_seed(0)
    near, far = torch.randn(500, 2), torch.randn(500, 2) + 100
    assert quality.recall_and_coverage(torch.cat([near, far]), torch.cat([near, far])) == (1, 1)
    recall, coverage = quality.recall_and_coverage(torch.cat([near, far]), torch.randn(500, 2))
    assert 0.4 < recall < 0.5 and 0.4 < coverage <= 0.5


def test_specks_are_lit_pixels_with_at_most_one_lit_neighbour():
    image = torch.zeros(1, 28, 28)
    image[0, 0, 0] = 1.0  # alone, in the corner
    image[0, 10, 10] = image[0, 11, 11] = 0.2  # a pair: two specks
    image[0, 20, 4:8] = 1.0  # a stroke: its ends have one lit neighbour, the middle two
    image[0, 25, 25] = 0.05  # too dark
    assert quality.specks(image.flatten(1)) == 5
    assert quality.specks(torch.cat([image, torch.zeros_like(image)]).flatten(1)) == 2.5


def test_the_committed_generator_draws_every_digit_well():
    """Fresh noise each time; which digit a sample is, its nearest real digit says."""
    seed = torch.seed()
    samples = quality.sample(quality.load_generator(quality.REFERENCE), seed)
    (train, labels), test = quality.load_digits(train=True), quality.load_digits(train=False)[0]
    likelihood, *_ = quality.parzen_of_test_digits(samples, train[-10_000:], test)
    assert likelihood > 230, f"Parzen {likelihood} with seed {seed}"
    nearest = torch.cat([torch.cdist(part, train).argmin(1) for part in samples[:5000].split(1000)])
    shares = labels[nearest].bincount(minlength=10) / 5000
    assert shares.min() >= 0.06, f"shares {shares.tolist()} with seed {seed}"
    sure = quality.share_of_sure(quality.look(quality.load_classifier(), samples)[1])
    assert sure >= 0.93, f"sure {sure} with seed {seed}"
    assert quality.specks(samples) < 0.2, f"specks with seed {seed}"


def test_the_classifier_reads_99_in_100_test_digits():
    assert quality.accuracy(quality.load_classifier()) >= 0.99


def test_what_the_readmes_say_of_the_committed_generator_is_what_the_command_prints():
    cells = re.search(r"^\| seed 0[^|]*\|(.*)\|$", BENCHMARKS, re.MULTILINE)[1].split("|")
    sure, coverage, distance, recall, smallest, specks = (float(c.strip(" %")) for c in cells[:6])
    train, test = (quality.load_digits(train=part)[0] for part in (True, False))
    draws = quality.draws(quality.load_generator(quality.REFERENCE))
    measures = quality.measure(draws, quality.load_classifier(), train, test)
    assert abs(measures["sure"] - sure) < 0.002
    assert abs(measures["coverage"] - coverage) < 0.002 and abs(measures["recall"] - recall) < 0.002
    assert abs(measures["FD"] - distance) < 0.1
    assert abs(100 * measures["smallest"] - smallest) < 0.1
    assert abs(measures["specks"] - specks) < 0.02
    likelihood, error = map(float, cells[6].split("±"))
    assert abs(measures["Parzen"] - likelihood) < 0.2 and abs(measures["± s.e."] - error) < 0.1
    sure, rarest, commonest, nats = map(float, re.findall(SAID, README, re.DOTALL)[0])
    assert abs(100 * measures["sure"] - sure) < 0.7
    assert abs(100 * measures["smallest"] - rarest) < 0.1
    assert abs(100 * measures["largest"] - commonest) < 0.1
    assert abs(measures["Parzen"] - nats) < 0.7
