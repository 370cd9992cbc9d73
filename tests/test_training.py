"""The article's half: what `train` does, step by step, and that it learns."""

import notebooks
import pytest
import quality
import torch
from conftest import ROOT
from torch import nn
from torch.utils.data import DataLoader

import gan_mnist
from gan_mnist import Discriminator, Generator, load_mnist, train


class Recorder:
    """Takes the place of a `Run`: its epochs have known random numbers, nothing is saved."""

    def __init__(self, num_epochs=1):
        self.num_epochs, self.progress = num_epochs, []

    def epochs(self, parts):
        self.discriminator, self.generator, self.averaged, *optimizers = self.parts = parts
        self.d_optimizer, self.g_optimizer = optimizers
        for epoch in range(1, self.num_epochs + 1):
            torch.manual_seed(epoch)
            yield epoch

    def show_progress(self, *arguments):
        self.progress.append(arguments)

    def save_epoch(self, *_):
        pass


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


@pytest.fixture
def images():
    return load_mnist(ROOT / "data")[:50]


@pytest.fixture
def calls(monkeypatch):
    """What BCELoss is given in each call: predictions and labels."""
    calls = []

    class Recording(nn.BCELoss):
        def forward(self, predictions, labels):
            calls.append((predictions.detach().clone(), labels))
            return super().forward(predictions, labels)

    monkeypatch.setattr(nn, "BCELoss", Recording)
    return calls


def test_images_are_those_that_torchvision_converts_one_by_one():
    images = load_mnist(ROOT / "data")
    assert images.shape == (60_000, 1, 28, 28) and images.dtype == torch.float32
    one_by_one = notebooks.make_loader(ROOT / "data", 1).dataset  # in [-1, 1]
    for index in (0, 1, 30_000, 59_999):
        assert torch.allclose(images[index] * 2 - 1, one_by_one[index][0], atol=1e-6)


def test_networks_take_and_give_what_they_say():
    loud = 100 * torch.randn(7, 100)  # to drive the pixels to their limits
    images = torch.jit.script(Generator())(loud)
    assert images.shape == (7, 1, 28, 28) and images.min() == 0 and images.max() == 1
    predictions = Discriminator()(images)
    assert predictions.shape == (7, 1) and 0 <= predictions.min() <= predictions.max() <= 1


def test_updates_are_those_of_the_notebooks_loop(monkeypatch):
    """Without dropout. In float64, so that only another calculation makes a difference."""
    monkeypatch.setattr(gan_mnist, "HIDDEN", 0.0)
    torch.set_default_dtype(torch.float64)
    try:
        images = torch.rand(150, 1, 28, 28)
        torch.manual_seed(0)
        theirs = Discriminator(), Generator()
        start = [weights(network) for network in theirs]
        optimizers = [torch.optim.Adam(n.parameters(), 2e-4, (0.0, 0.999)) for n in theirs]
        torch.manual_seed(0)
        train(images, 50, 2e-4, "cpu", run := Recorder())
        torch.manual_seed(1)  # as the first epoch of the Recorder
        for batch in DataLoader(images, 50, shuffle=True):
            notebooks.train_on_batch(*theirs, *optimizers, batch)
        ours = run.discriminator, run.generator
        for our, their, before in zip(ours, theirs, start):
            for w, expected, first in zip(weights(our), weights(their), before):
                assert (w - first).abs().max() > 1e-4  # it has learned
                torch.testing.assert_close(w, expected, rtol=0, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_each_step_updates_one_network_only(images):
    class Watcher(Recorder):
        def epochs(self, parts):
            for epoch in super().epochs(parts):
                self.seen = [self.look()]
                for optimizer in self.parts[3:]:
                    optimizer.register_step_post_hook(lambda *_: self.seen.append(self.look()))
                yield epoch

        def look(self):
            return weights(self.discriminator), weights(self.generator)

    train(images, 50, 2e-4, "cpu", run := Watcher())
    (d0, g0), (d1, g1), (d2, g2) = run.seen
    assert not any(map(torch.equal, d0, d1)) and all(map(torch.equal, g0, g1))
    assert all(map(torch.equal, d1, d2)) and not any(map(torch.equal, g1, g2))


def test_labels_and_the_numbers_for_progress(images, calls):
    train(images, 20, 2e-4, "cpu", run := Recorder(2))
    assert [p[:3] for p in run.progress] == [(e, b, 3) for e in (1, 2) for b in (1, 2, 3)]
    for size, progress in zip((20, 20, 10) * 2, run.progress):
        (on_real, ones), (on_fake, zeros), (_, towards) = calls[:3]
        del calls[:3]
        assert ones.shape == zeros.shape == towards.shape == (size, 1)
        assert (ones == 1).all() and (zeros == 0).all() and (towards == 1).all()
        *_, d_loss, g_loss, dx, dgz = progress
        assert torch.equal(dx, on_real) and torch.equal(dgz, on_fake)
        bce = nn.functional.binary_cross_entropy
        torch.testing.assert_close(d_loss, bce(on_real, ones) + bce(on_fake, zeros))
        assert g_loss.shape == ()


def test_each_image_comes_once_an_epoch_in_a_new_order(monkeypatch):
    """Image number n is n everywhere; the discriminator writes down the real ones."""
    monkeypatch.setattr(gan_mnist, "HIDDEN", 0.0)
    images, seen = torch.arange(1.0, 91.0).view(-1, 1, 1, 1).expand(-1, 1, 28, 28), []

    class Writing(Discriminator):
        def forward(self, images):
            seen.append(images[:, 0, 0, 0].detach())
            return super().forward(images)

    monkeypatch.setattr(gan_mnist, "Discriminator", Writing)
    train(images, 40, 2e-4, "cpu", Recorder(2))
    real = torch.cat(seen[::3]).view(2, 90)  # then come the fake ones of (4) and of (5b)
    assert all(epoch.sort().values.equal(images[:, 0, 0, 0]) for epoch in real)
    assert not real[0].equal(real[1]) and not real[0].equal(images[:, 0, 0, 0])


def test_pixels_are_hidden_in_step_4_and_in_no_other(monkeypatch):
    shown = []

    class Writing(Discriminator):
        def forward(self, images):
            shown.append((images == 0).float().mean().item())
            return super().forward(images)

    class White(Generator):
        def forward(self, noise):
            return super().forward(noise) * 0 + 1

    monkeypatch.setattr(gan_mnist, "Discriminator", Writing)
    monkeypatch.setattr(gan_mnist, "Generator", White)
    train(torch.ones(100, 1, 28, 28), 100, 2e-4, "cpu", Recorder())
    assert shown == pytest.approx([gan_mnist.HIDDEN, gan_mnist.HIDDEN, 0], abs=0.02)


def test_averaged_generator_follows_the_trained_one(images):
    class Watcher(Recorder):
        def show_progress(self, *_):
            self.progress.append((weights(self.generator), weights(self.averaged)))

    train(images, 10, 2e-4, "cpu", run := Watcher())
    (average, _), *others = run.progress
    for trained, averaged in others:
        average = [0.999 * a + 0.001 * w for a, w in zip(average, trained)]
        for own, expected in zip(averaged, average):
            torch.testing.assert_close(own, expected)
    assert not any(map(torch.equal, trained, averaged))


def test_training_stays_on_its_device_and_reads_nothing_back(monkeypatch):
    """PyTorch's `meta` device has no numbers to read and refuses to be mixed with the CPU."""
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda p, lr, betas, fused: adam(p, lr, betas))
    train(torch.rand(50, 1, 28, 28), 20, 2e-4, "meta", run := Recorder())
    assert len(run.progress) == 3
    assert all(v.device.type == "meta" for p in run.progress for v in p[3:])


def test_two_epochs_on_all_digits_learn_to_draw(tmp_path):
    """Measured by the Fréchet distance: noise is above 1000, the notebooks' settings are at
    192 after 40 epochs."""
    gan_mnist.main(["--epochs", "2", "--device", "cpu", "--output-dir", str(tmp_path / "run")])
    samples = quality.sample(quality.load_generator(tmp_path / "run" / "generator.pt"))
    classifier, test_digits = quality.load_classifier(), quality.load_digits(train=False)[0]
    fake, real = (quality.look(classifier, digits)[0] for digits in (samples, test_digits))
    assert quality.frechet_distance(fake, real) < 150
