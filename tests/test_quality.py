"""The measures of benchmarks/quality.py on what can be worked out by hand, and the committed
generator by them."""

import math
import re

import quality
import torch
from conftest import ROOT


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
    reach = quality.radii(both)
    assert quality.recall_and_coverage(both, reach, both) == (1, 1)
    recall, coverage = quality.recall_and_coverage(both, reach, torch.randn(500, 2))
    assert 0.4 < recall < 0.5 and 0.4 < coverage <= 0.5


def test_the_committed_generator_is_as_good_as_said_by_a_classifier_that_can_read():
    classifier, (test, labels) = quality.load_classifier(), quality.load_digits(train=False)
    assert (quality.look(classifier, test)[1].argmax(1) == labels).double().mean() >= 0.99
    draws = quality.draws(quality.load_generator(quality.REFERENCE))
    measured = quality.measure(draws, classifier, test)
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    cells = re.search(r"^\| seed 0[^|]*\|(.*)\|$", readme, re.MULTILINE)[1].split("|")
    for name, cell in zip(("sure", "coverage", "FD", "recall", "smallest"), cells, strict=True):
        said = float(cell.strip(" %")) / (100 if "%" in cell else 1)
        assert abs(measured[name] - said) < (0.1 if name == "FD" else 0.002), name
    assert measured["sure"] >= 0.93 and measured["smallest"] >= 0.07
