"""The measures of benchmarks/quality.py on what can be worked out by hand, and the committed
generator by them."""

import json
import math
import re

import quality
import torch
from conftest import ROOT

BENCHMARKS, *READMES = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("benchmarks/README.md", "README.md", "README.zh-CN.md")
)
SAID = r"(?:sure of|有把握的占) ([\d.]+) ?%.*(?:makes up|最少的数字占) ([\d.]+) ?%.*?([\d.]+) ?%"


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


def said_of(name):
    """The table's row of this name: values for the measures, and how exact they are."""
    columns = ("sure", "coverage", "FD", "recall", "smallest")
    row = re.search(rf"^\| {name}[^|]*\|(.*)\|$", BENCHMARKS, re.MULTILINE)[1].split("|")
    for column, cell in zip(columns, row, strict=True):
        value = float(cell.strip(" %")) / (100 if "%" in cell else 1)
        yield column, value, 0.1 if column == "FD" else 0.002


def test_the_committed_generator_is_as_good_as_the_readmes_say():
    draws = quality.draws(quality.load_generator(quality.REFERENCE))
    test_digits = quality.load_digits(train=False)[0]
    measured = quality.measure(draws, quality.load_classifier(), test_digits)
    assert measured["sure"] >= 0.93 and measured["smallest"] >= 0.07
    assert all(abs(measured[name] - value) < error for name, value, error in said_of("seed 0"))
    for readme in READMES:
        said = (float(n) / 100 for n in re.search(SAID, readme, re.DOTALL).groups())
        for name, value in zip(("sure", "smallest", "largest"), said, strict=True):
            assert abs(measured[name] - value) < (0.007 if name == "sure" else 0.001), name


def test_the_notebooks_settings_are_said_to_be_as_good_as_recorded():
    record = json.loads((ROOT / "benchmarks" / "race.json").read_text())
    rows = said_of("the notebooks' settings")
    assert all(abs(record[name] - value) < error for name, value, error in rows)
