"""The article's half: what `train` does, step by step, and that it learns."""

import json

import notebooks
import pytest
import quality
import torch
from conftest import ROOT, run_main
from torch.utils.data import DataLoader

import gan_mnist
from gan_mnist import load_mnist, make_discriminator, make_generator


def test_images_are_those_that_torchvision_converts_one_by_one():
    images = load_mnist(ROOT / "data")
    assert images.shape == (60_000, 1, 28, 28) and images.dtype == torch.float32
    one_by_one = notebooks.make_loader(ROOT / "data").dataset  # in [-1, 1]
    for index in (0, 30_000, 59_999):
        assert torch.allclose(images[index] * 2 - 1, one_by_one[index][0], atol=1e-6)


def test_networks_take_and_give_what_they_say():
    loud = 100 * torch.randn(7, 100)  # to drive the pixels to their limits
    images = make_generator()(loud)
    assert images.shape == (7, 1, 28, 28) and images.min() == 0 and images.max() == 1
    predictions = make_discriminator()(images)
    assert predictions.shape == (7, 1) and 0 <= predictions.min() <= predictions.max() <= 1


def test_updates_losses_and_average_are_those_of_the_notebooks_loop(
    options, small_mnist, tmp_path, monkeypatch
):
    """With nothing hidden, at their learning rate. In float64, so that only another calculation
    makes a difference. The average follows about the last tenth of all batches."""
    monkeypatch.setattr(gan_mnist, "HIDDEN_PIXELS", 0.0)
    torch.set_default_dtype(torch.float64)
    try:
        folder = tmp_path / "run"
        run_main(*options, "--epochs", 1, "--lr", 2e-4, "--seed", 5, "--output-dir", folder)
        torch.manual_seed(5)
        torch.randn(64, 100)  # of the pictures
        networks = discriminator, generator = make_discriminator(), make_generator()
        optimizers = [torch.optim.Adam(n.parameters(), 2e-4, (0.0, 0.999)) for n in networks]
        average, losses = [p.detach().clone() for p in generator.parameters()], []
        torch.manual_seed(5_000_001)  # of epoch 1
        batches = DataLoader(load_mnist(small_mnist), 400, shuffle=True)
        for number, images in enumerate(batches, start=1):
            batch_losses = notebooks.train_on_batch(*networks, *optimizers, images)
            losses.append([loss.item() for loss in batch_losses])
            share = 10 / (number + 10)
            average = [(1 - share) * a + share * p for a, p in zip(average, generator.parameters())]
    finally:
        torch.set_default_dtype(torch.float32)
    ours = torch.load(folder / "checkpoint.pt", weights_only=True)
    exact = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(ours["states"]["D"], discriminator.state_dict(), **exact)
    torch.testing.assert_close(ours["states"]["G"], generator.state_dict(), **exact)
    ours_average = torch.load(folder / "generator.pt", weights_only=True)
    torch.testing.assert_close(list(ours_average.values()), list(average), **exact)
    assert ours["history"][0][:2] == pytest.approx(torch.tensor(losses).mean(0).tolist())


def test_pixels_are_hidden_in_step_4_and_in_no_other(options, tmp_path, monkeypatch):
    seen = []

    def discriminator_that_writes_down():
        network = make_discriminator()
        network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        return network

    monkeypatch.setattr(gan_mnist, "make_discriminator", discriminator_that_writes_down)
    run_main(*options, "--epochs", 1, "--output-dir", tmp_path / "run")
    assert len(seen) == 3 * 5
    # At first the generator draws grey: of its first images about half the pixels are above 0.
    real, fake, whole = ((images > 0).float().mean().item() for images in seen[:3])
    bright = (load_mnist(options[1]) > 0).float().mean().item()
    assert real == pytest.approx(0.8 * bright, rel=0.1)
    assert fake == pytest.approx(0.8 * whole, rel=0.1) and whole > 0.3


def test_three_epochs_draw_better_digits_than_forty_of_the_notebooks_loop(tmp_path):
    """By the Fréchet distance to the test digits."""
    run_main("--epochs", 3, "--device", "cpu", "--output-dir", tmp_path / "run")
    trained = quality.load_generator(tmp_path / "run" / "generator.pt")
    classifier, digits = quality.load_classifier(), quality.load_digits(train=False)[0]
    drawn = quality.sample(make_generator()), quality.sample(trained), digits
    before, after, real = (quality.look(classifier, images)[0] for images in drawn)
    before, after = (quality.frechet_distance(fakes, real) for fakes in (before, after))
    theirs = json.loads((ROOT / "benchmarks" / "race.json").read_text())["FD"]
    assert before > 1000 and after < theirs
