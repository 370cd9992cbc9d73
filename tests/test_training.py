"""The article's half: what `train` does, step by step, that it learns, and how good it gets."""

import itertools
import json
import re

import notebooks
import pytest
import quality
import torch
from conftest import ROOT, run_main
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from gan_mnist import LEARNING_RATE, load_mnist, make_discriminator, make_generator


def test_images_are_those_that_torchvision_converts_one_by_one():
    images = load_mnist(ROOT / "data")
    digits = datasets.MNIST(ROOT / "data", transform=transforms.ToTensor())
    assert images.shape == (60_000, 1, 28, 28)
    for index in 0, 30_000, 59_999:
        assert torch.equal(images[index], digits[index][0])


def test_updates_losses_and_average_are_those_of_the_notebooks_loop(options, tmp_path, request):
    """But that He's first weights and betas are others, and that step (4) hides 15 % of the
    pixels. In float64, so that only another calculation makes a difference."""
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.float64)
    run_main(*options, "--epochs", 1, "--seed", 5, "--output-dir", tmp_path / "run")
    torch.manual_seed(5)
    torch.randn(64, 100)  # of the pictures
    networks = discriminator, generator = make_discriminator(), make_generator()
    for layer in [part for part in generator if isinstance(part, torch.nn.Linear)][:-1]:
        torch.nn.init.kaiming_uniform_(layer.weight)
    optimizers = [torch.optim.Adam(n.parameters(), LEARNING_RATE, (0.0, 0.999)) for n in networks]
    average, losses = list(make_generator().parameters()), []
    hidden = itertools.cycle([0.15, 0.15, 0])  # real and fake images of (4), those of (5b)

    def half_blind(images):
        return discriminator(torch.nn.functional.dropout(images, next(hidden)))

    torch.manual_seed(5_000_001)  # of epoch 1
    batches = DataLoader(load_mnist(options[1]), 100, shuffle=True)
    for number, images in enumerate(batches):
        losses += [notebooks.train_on_batch(half_blind, generator, *optimizers, images)]
        share = 10 / (number + 10)
        average = [mean.lerp(w, share) for mean, w in zip(average, generator.parameters())]
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    averaged = torch.load(tmp_path / "run" / "generator.pt", weights_only=True)
    ours = saved["states"]["D"], saved["states"]["G"], list(averaged.values())
    theirs = discriminator.state_dict(), generator.state_dict(), average
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    assert saved["history"][0][:2] == pytest.approx(torch.tensor(losses).mean(0).tolist())


def test_one_epoch_draws_better_digits_than_forty_of_the_notebooks_loop(tmp_path):
    run_main("--epochs", 1, "--device", "cpu", "--output-dir", tmp_path / "run")
    trained = quality.load_generator(tmp_path / "run" / "generator.pt")
    classifier, digits = quality.load_classifier(), quality.load_digits(train=False)[0]
    features = [quality.look(classifier, x)[0] for x in (*quality.draws(trained, 1), digits)]
    theirs = json.loads((ROOT / "benchmarks" / "race.json").read_text())["FD"]
    assert quality.frechet_distance(*features) < theirs


def test_frechet_distance_of_gaussians():
    torch.manual_seed(0)
    features = torch.randn(20_000, 4, dtype=torch.float64)
    stretched = 2 * (features - features.mean(0))  # twice the deviation
    apart = features.mean(0).square().sum() + features.T.cov().trace()
    for other, distance in (features, 0), (features + 3, 4 * 9), (stretched, apart.item()):
        measured = quality.frechet_distance(features, other)
        assert measured == pytest.approx(distance, rel=1e-6, abs=1e-6)


def test_recall_and_coverage_see_a_missing_half():
    torch.manual_seed(0)
    both = torch.cat([torch.randn(500, 2), torch.randn(500, 2) + 100])
    reach = quality.radii(both)
    assert quality.recall_and_coverage(both, reach, both) == (1, 1)
    for share in quality.recall_and_coverage(both, reach, torch.randn(500, 2)):
        assert 0.4 < share <= 0.5


def test_the_committed_generator_is_as_good_as_said_by_a_classifier_that_can_read():
    classifier, (test, labels) = quality.load_classifier(), quality.load_digits(train=False)
    assert (quality.look(classifier, test)[1].argmax(1) == labels).double().mean() >= 0.99
    draws = quality.draws(quality.load_generator(quality.REFERENCE))
    measured = quality.measure(draws, classifier, test)
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    cells = re.search(r"^\| seed 0[^|]*\|(.*)\|$", readme, re.MULTILINE)[1].split("|")
    for name, cell in zip(("sure", "coverage", "FD", "recall", "smallest"), cells, strict=True):
        said = float(cell.strip(" %")) / (100 if "%" in cell else 1)
        assert measured[name] == pytest.approx(said, abs=0.1 if name == "FD" else 0.002), name
    assert measured["sure"] >= 0.93 and measured["smallest"] >= 0.07
