"""The measures of benchmarks/quality.py on what can be worked out by hand, and the committed
generator by them."""

import math
import re

import quality
import torch
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
NUMBER = r"([\d.]+)"
SAID = rf"sure of {NUMBER} %.*rarest makes up {NUMBER} %.*frequent {NUMBER} %.*at {NUMBER} nats"


def test_parzen_is_the_log_of_the_mean_of_gaussians():
    samples, digits, sigma = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5
    gaussians = [math.exp(-d / (2 * sigma**2)) / (2 * math.pi * sigma**2) for d in (1, 2)]
    score = quality.parzen(samples, digits, [sigma]).item()
    assert math.isclose(score, math.log(sum(gaussians) / 2), rel_tol=1e-5)


def test_frechet_distance_of_gaussians():
    torch.manual_seed(0)
    features = torch.randn(20_000, 4, dtype=torch.float64)
    assert abs(quality.frechet_distance(features, features)) < 1e-6
    assert math.isclose(quality.frechet_distance(features, features + 3), 4 * 9, rel_tol=1e-6)
    stretched = 2 * (features - features.mean(0))  # twice the deviation
    expected = features.mean(0).square().sum() + features.T.cov().trace()
    assert math.isclose(quality.frechet_distance(features, stretched), expected, rel_tol=1e-6)


def test_recall_and_coverage_see_a_missing_half():
    torch.manual_seed(0)
    near, far = torch.randn(500, 2), torch.randn(500, 2) + 100
    both = torch.cat([near, far])
    assert quality.recall_and_coverage(both, both) == (1, 1)
    recall, coverage = quality.recall_and_coverage(both, torch.randn(500, 2))
    assert 0.4 < recall < 0.5 and 0.4 < coverage <= 0.5


def test_the_classifier_reads_99_in_100_test_digits():
    assert quality.accuracy(quality.load_classifier()) >= 0.99


def test_the_committed_generator_is_as_good_as_the_readmes_say():
    cells = re.search(r"^\| seed 0[^|]*\|(.*)\|$", BENCHMARKS, re.MULTILINE)[1].split("|")
    sure, coverage, distance, recall, smallest = (float(c.strip(" %")) for c in cells[:5])
    train, test = (quality.load_digits(train=part)[0] for part in (True, False))
    draws = quality.draws(quality.load_generator(quality.REFERENCE))
    measures = quality.measure(draws, quality.load_classifier(), train, test)
    assert abs(measures["sure"] - sure) < 0.002 and sure >= 0.93
    assert abs(measures["coverage"] - coverage) < 0.002 and abs(measures["recall"] - recall) < 0.002
    assert abs(measures["FD"] - distance) < 0.1
    assert abs(100 * measures["smallest"] - smallest) < 0.1 and smallest >= 7
    likelihood, error = map(float, cells[5].split("±"))
    assert abs(measures["Parzen"] - likelihood) < 0.2 and abs(measures["± s.e."] - error) < 0.1
    sure, rarest, commonest, nats = map(float, re.findall(SAID, README, re.DOTALL)[0])
    assert abs(100 * measures["sure"] - sure) < 0.7
    assert abs(100 * measures["smallest"] - rarest) < 0.1
    assert abs(100 * measures["largest"] - commonest) < 0.1
    assert abs(measures["Parzen"] - nats) < 0.7
