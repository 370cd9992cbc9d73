"""The article's half: what `train` does, step by step, and that it learns."""

import json
from copy import deepcopy

import notebooks
import pytest
import quality
import torch
from conftest import ROOT
from torch.utils.data import DataLoader

import gan_mnist
from gan_mnist import Discriminator, Generator, load_mnist


class Recorder:
    """Takes the place of a `Run`: saves nothing. `after_batch` is called with it."""

    def __init__(self, after_batch=lambda run: None):
        self.progress, self.after_batch = [], after_batch

    def restore(self, parts):
        self.discriminator, self.generator, self.averaged, *_ = parts
        self.start = deepcopy(parts[:2])
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


def test_updates_and_losses_are_those_of_the_notebooks_loop(monkeypatch):
    """Without dropout. In float64, so that only another calculation makes a difference."""
    monkeypatch.setattr(gan_mnist, "HIDDEN_PIXELS", 0.0)
    torch.set_default_dtype(torch.float64)
    try:
        images = torch.rand(130, 1, 28, 28)
        run = train(images, 50, Recorder())
        theirs, start = run.start, [weights(network) for network in run.start]
        optimizers = [torch.optim.Adam(n.parameters(), 2e-4, (0.0, 0.999)) for n in theirs]
        torch.manual_seed(1)  # as at the beginning of epoch 1
        for number, batch in enumerate(DataLoader(images, 50, shuffle=True), start=1):
            losses = notebooks.train_on_batch(*theirs, *optimizers, batch)
            *counted, d_loss, g_loss, on_real, on_fake = run.progress[number - 1]
            assert counted == [number, 3]
            torch.testing.assert_close((d_loss, g_loss), losses, rtol=0, atol=1e-9)
            torch.testing.assert_close(d_loss, -(on_real.log() + (1 - on_fake).log()).mean())
        ours = run.discriminator, run.generator
        for our, their, before in zip(ours, theirs, start):
            for w, expected, first in zip(weights(our), weights(their), before):
                assert (w - first).abs().max() > 1e-4  # it has learned
                torch.testing.assert_close(w, expected, rtol=0, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


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


def test_three_epochs_draw_better_digits_than_forty_of_the_notebooks_loop(tmp_path):
    """By the Fréchet distance to the test digits."""
    gan_mnist.main(["--epochs", "3", "--device", "cpu", "--output-dir", str(tmp_path / "run")])
    trained = quality.load_generator(tmp_path / "run" / "generator.pt")
    classifier, digits = quality.load_classifier(), quality.load_digits(train=False)[0]
    drawn = quality.sample(Generator()), quality.sample(trained), digits
    before, after, real = (quality.look(classifier, images)[0] for images in drawn)
    before, after = (quality.frechet_distance(fakes, real) for fakes in (before, after))
    theirs = json.loads((ROOT / "benchmarks" / "race.json").read_text())["FD"]
    assert before > 1000 and after < theirs
