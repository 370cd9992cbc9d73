"""The article's half: what `train` does, step by step, and that it learns."""

from functools import partial

import notebooks
import pytest
import quality
import torch
from conftest import ROOT
from torch import nn
from torch.utils.data import DataLoader

import gan_mnist
from gan_mnist import Discriminator, Generator, load_mnist


class Recorder:
    """Takes the place of a `Run`: saves nothing. `after_batch` is called with it."""

    def __init__(self, after_batch=lambda run: None):
        self.progress, self.after_batch = [], after_batch

    def restore(self, parts):
        self.discriminator, self.generator, self.averaged, *self.optimizers = parts
        return 1

    def begin_epoch(self, epoch):
        torch.manual_seed(epoch)

    def show_progress(self, *arguments):
        self.progress.append(arguments)
        self.after_batch(self)

    def save_epoch(self, *_):
        pass


def train(images, batch_size, run, num_epochs=1, device="cpu"):
    gan_mnist.train(images, num_epochs, batch_size, 2e-4, device, run)
    return run


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


@pytest.fixture
def images():
    return load_mnist(ROOT / "data")[:50]


def test_images_are_those_that_torchvision_converts_one_by_one():
    images = load_mnist(ROOT / "data")
    assert images.shape == (60_000, 1, 28, 28) and images.dtype == torch.float32
    one_by_one = notebooks.make_loader(ROOT / "data", 1).dataset  # in [-1, 1]
    for index in (0, 30_000, 59_999):
        assert torch.allclose(images[index] * 2 - 1, one_by_one[index][0], atol=1e-6)


def test_networks_take_and_give_what_they_say():
    loud = 100 * torch.randn(7, 100)  # to drive the pixels to their limits
    images = torch.jit.script(Generator())(loud)
    assert images.shape == (7, 1, 28, 28) and images.min() == 0 and images.max() == 1
    predictions = Discriminator()(images)
    assert predictions.shape == (7, 1) and 0 <= predictions.min() <= predictions.max() <= 1


def test_updates_are_those_of_the_notebooks_loop(monkeypatch):
    """Without dropout. In float64, so that only another calculation makes a difference."""
    monkeypatch.setattr(gan_mnist, "HIDDEN_PIXELS", 0.0)
    torch.set_default_dtype(torch.float64)
    try:
        images = torch.rand(150, 1, 28, 28)
        torch.manual_seed(0)
        theirs = Discriminator(), Generator()
        start = [weights(network) for network in theirs]
        optimizers = [torch.optim.Adam(n.parameters(), 2e-4, (0.0, 0.999)) for n in theirs]
        torch.manual_seed(0)
        run = train(images, 50, Recorder())
        torch.manual_seed(1)  # as at the beginning of epoch 1
        for batch in DataLoader(images, 50, shuffle=True):
            notebooks.train_on_batch(*theirs, *optimizers, batch)
        ours = run.discriminator, run.generator
        for our, their, before in zip(ours, theirs, start):
            for w, expected, first in zip(weights(our), weights(their), before):
                assert (w - first).abs().max() > 1e-4  # it has learned
                torch.testing.assert_close(w, expected, rtol=0, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_labels_and_the_numbers_for_progress(images, monkeypatch):
    calls, forward = [], nn.BCELoss.forward

    def write_down(self, predictions, labels):
        calls.append((predictions.detach(), labels))
        return forward(self, predictions, labels)

    monkeypatch.setattr(nn.BCELoss, "forward", write_down)
    run = train(images, 20, Recorder(), num_epochs=2)
    assert [p[:2] for p in run.progress] == [(1, 3), (2, 3), (3, 3)] * 2
    for size, (*_, d_loss, g_loss, dx, dgz) in zip((20, 20, 10) * 2, run.progress):
        (on_real, ones), (on_fake, zeros), (on_new, towards) = calls[:3]
        del calls[:3]
        assert ones.shape == zeros.shape == towards.shape == (size, 1)
        assert (ones == 1).all() and (zeros == 0).all() and (towards == 1).all()
        assert torch.equal(dx, on_real) and torch.equal(dgz, on_fake)
        bce = nn.functional.binary_cross_entropy
        torch.testing.assert_close(d_loss, bce(on_real, ones) + bce(on_fake, zeros))
        torch.testing.assert_close(g_loss, bce(on_new, ones))


def test_pixels_are_hidden_in_step_4_and_in_no_other(monkeypatch):
    black, d_forward, g_forward = [], Discriminator.forward, Generator.forward

    def write_down(self, images):
        black.append((images == 0).float().mean().item())
        return d_forward(self, images)

    monkeypatch.setattr(Discriminator, "forward", write_down)
    monkeypatch.setattr(Generator, "forward", lambda self, noise: 1 + 0 * g_forward(self, noise))
    train(torch.ones(100, 1, 28, 28), 100, Recorder())
    assert black == pytest.approx([gan_mnist.HIDDEN_PIXELS] * 2 + [0], abs=0.02)


def test_averaged_generator_follows_the_trained_one(images):
    seen = []
    train(images, 10, Recorder(lambda run: seen.append(
        (weights(run.generator), weights(run.averaged)))))  # fmt: skip
    (average, first), *others = seen
    assert all(map(torch.equal, average, first))
    for trained, averaged in others:
        assert not any(map(torch.equal, trained, averaged))
        average = [0.998 * a + 0.002 * w for a, w in zip(average, trained)]
        for own, expected in zip(averaged, average):
            torch.testing.assert_close(own, expected)


def test_training_stays_on_its_device_and_reads_nothing_back(monkeypatch):
    """PyTorch's `meta` device has no numbers to read and refuses to be mixed with the CPU."""
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *a, fused, **k: adam(*a, foreach=False, **k))
    run = train(torch.rand(50, 1, 28, 28), 20, Recorder(), device="meta")
    assert len(run.progress) == 3
    assert all(v.device.type == "meta" for p in run.progress for v in p[2:])


def test_two_epochs_on_all_digits_learn_to_draw(tmp_path):
    """By the Fréchet distance to the test digits."""
    gan_mnist.main(["--epochs", "2", "--device", "cpu", "--output-dir", str(tmp_path / "run")])
    classifier, test_digits = quality.load_classifier(), quality.load_digits(train=False)[0]
    look = partial(quality.look, classifier)
    trained = quality.load_generator(tmp_path / "run" / "generator.pt")
    distances = [
        quality.frechet_distance(look(quality.sample(generator))[0], look(test_digits)[0])
        for generator in (Generator(), trained)
    ]
    assert distances[0] > 1000 and distances[1] < 500, distances
