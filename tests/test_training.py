import re
from copy import deepcopy
from pathlib import Path

import pytest
import textbook
import torch
from conftest import finish
from torch import nn

import gan_mnist
from gan_mnist import GAN, load_mnist, train


@pytest.fixture
def images(small_mnist):
    return load_mnist(small_mnist, "cpu")[:50]


@pytest.fixture
def gan():
    torch.manual_seed(0)
    return GAN(2e-4, "cpu")


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


def same(network, snapshot):
    return all(map(torch.equal, network.parameters(), snapshot))


def test_discriminator_step_changes_only_it_then_generator_step_only_the_generator(gan, images):
    snapshots = []

    def snap(*_):
        snapshots.append((weights(gan.discriminator), weights(gan.generator)))

    snap()
    gan.d_optimizer.register_step_post_hook(snap)
    gan.g_optimizer.register_step_post_hook(snap)
    finish(gan, images, 50, 1, 0)
    (d0, g0), (d1, g1), (d2, g2) = snapshots
    assert not any(map(torch.equal, d0, d1)) and all(map(torch.equal, g0, g1))
    assert all(map(torch.equal, d1, d2)) and not any(map(torch.equal, g1, g2))
    assert same(gan.discriminator, d2) and same(gan.generator, g2)


def test_discriminator_gets_no_gradient_from_the_generators_loss(gan, images):
    gradients, after_d = [], []

    def discriminator_gradients():
        return [p.grad.clone() for p in gan.discriminator.parameters()]

    gan.g_optimizer.register_step_pre_hook(lambda *_: gradients.append(discriminator_gradients()))
    gan.d_optimizer.register_step_post_hook(lambda *_: after_d.append(discriminator_gradients()))
    finish(gan, images, 50, 1, 0)
    assert all(map(torch.equal, gradients[0], after_d[0]))
    assert all(p.requires_grad for p in gan.discriminator.parameters())


def test_labels_are_one_for_real_zero_for_fake_and_the_generator_trains_towards_one(gan, images):
    calls = []

    class Recorder(nn.BCELoss):
        def forward(self, predictions, labels):
            calls.append((predictions.detach().clone(), labels.clone()))
            return super().forward(predictions, labels)

    gan.criterion = Recorder()
    gan.discriminator[1] = nn.Identity()  # no dropout, so that predictions can be made again
    discriminator, generator = deepcopy(gan.discriminator), deepcopy(gan.generator)
    finish(gan, images, 50, 1, 0)
    (on_real, real), (on_fake, fake), (on_new_fake, towards) = calls
    assert real.shape == fake.shape == towards.shape == (50, 1)
    assert (real == 1).all() and (fake == 0).all() and (towards == 1).all()
    torch.manual_seed(1)  # of epoch 1 of seed 0
    order, noise, new_noise = torch.randperm(50), torch.randn(50, 100), torch.randn(50, 100)
    torch.testing.assert_close(on_real, discriminator(images[order]))
    torch.testing.assert_close(on_fake, discriminator(generator(noise)))
    # The updated discriminator judges the new fakes.
    torch.testing.assert_close(on_new_fake, gan.discriminator(generator(new_noise)))


def test_one_step_of_each_network_is_the_textbooks():
    """In float64, so that only a different calculation, not rounding, could make a difference."""
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        gan = GAN(2e-4, "cpu")
        discriminator, generator = deepcopy(gan.discriminator), deepcopy(gan.generator)
        optimizers = [
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.0, 0.999))
            for network in (discriminator, generator)
        ]
        digits = torch.rand(150, 1, 28, 28)
        gan.discriminator[1], discriminator[1] = nn.Identity(), nn.Identity()  # no dropout
        start = weights(gan.generator) + weights(gan.discriminator)

        finish(gan, digits, 50, 1, 7)
        torch.manual_seed(7_000_001)  # of epoch 1 of seed 7
        for indices in torch.randperm(150).split(50):
            textbook.train_on_batch(discriminator, generator, *optimizers, digits[indices])

        ours = weights(gan.generator) + weights(gan.discriminator)
        theirs = weights(generator) + weights(discriminator)
        for before, our, their in zip(start, ours, theirs, strict=True):
            assert (our - before).abs().max() > 1e-4  # it learned
            torch.testing.assert_close(our, their, rtol=0, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_layers_are_the_textbooks():
    """Those with weights; activations and dropout may differ, and the README says which do."""
    for ours, theirs in (
        (gan_mnist.Discriminator(), textbook.make_discriminator()),
        (gan_mnist.Generator(), textbook.make_generator()),
    ):
        assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
        assert type(ours[-1]) is type(theirs[-1]) and type(ours[0]) is type(theirs[0])


def test_averaged_generator_follows_the_trained_one(gan, images):
    steps = [weights(gan.generator)]
    gan.g_optimizer.register_step_post_hook(lambda *_: steps.append(weights(gan.generator)))
    gan.history = [None] * 3
    finish(gan, images, 25, 5, 0)  # epochs 4 and 5, two updates each
    average = steps[0]
    for step, decay in zip(steps[1:], (0.99875, 0.99875, 0.999, 0.999), strict=True):
        average = [decay * a + (1 - decay) * w for a, w in zip(average, step, strict=True)]
    for own, expected in zip(gan.averaged.parameters(), average, strict=True):
        torch.testing.assert_close(own, expected)


def test_learning_rates_fall_by_three_per_cent_an_epoch(gan, images):
    rates = []
    for optimizer in (gan.d_optimizer, gan.g_optimizer):
        optimizer.register_step_pre_hook(lambda own, *_: rates.append(own.param_groups[0]["lr"]))
    gan.history = [None]
    finish(gan, images, 25, 3, 0)  # epochs 2 and 3
    assert rates == [gan.lr * 0.97] * 4 + [gan.lr * 0.97**2] * 4


def test_hidden_pixels_rise_with_the_epochs_to_their_limit_and_the_generator_shows_all(gan, images):
    (dropout,) = (layer for layer in gan.discriminator if isinstance(layer, nn.Dropout))
    rates = []
    dropout.register_forward_pre_hook(lambda layer, _: rates.append(layer.training * layer.p))
    for finished, expected in ((0, 0.02), (4, 0.1), (9, 0.2), (99, 0.2)):
        rates.clear()
        gan.history = [None] * finished
        finish(gan, images, 50, finished + 1, 0)
        assert rates == pytest.approx([expected, 0])  # in steps (4) and (5b)


def test_totals_are_sums_over_the_digits_also_of_a_smaller_last_batch(gan, images):
    losses = []

    class Recorder(nn.BCELoss):
        def forward(self, predictions, labels):
            loss = super().forward(predictions, labels)
            losses.append((len(labels), loss.item(), predictions.mean().item()))
            return loss

    gan.criterion = Recorder()
    heard = [
        (epoch, batch, totals.tolist()) for epoch, batch, totals in train(gan, images, 20, 2, 0)
    ]
    assert [(e, b) for e, b, _ in heard] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    for epoch in (0, 1):
        expected = torch.zeros(4, dtype=torch.float64)
        for batch in (0, 1, 2):
            real, fake, g = losses[9 * epoch + 3 * batch :][:3]
            size = (20, 20, 10)[batch]
            assert real[0] == fake[0] == g[0] == size
            expected += size * torch.tensor([real[1] + fake[1], g[1], real[2], fake[2]])
            totals = heard[3 * epoch + batch][2]
            assert totals == pytest.approx(expected.tolist(), rel=1e-5)


def test_training_stays_on_its_device_and_reads_nothing_back():
    """PyTorch's `meta` device has no numbers to read and refuses to be mixed with the CPU."""
    gan, digits = GAN(2e-4, "meta"), torch.empty(250, 1, 28, 28, device="meta")
    gan.d_optimizer, gan.g_optimizer = (
        torch.optim.Adam(network.parameters(), 2e-4, foreach=False)  # the fused one needs a device
        for network in (gan.discriminator, gan.generator)
    )
    heard = list(train(gan, digits, 100, 2, 0))
    assert len(heard) == 6 and all(totals.device.type == "meta" for _, _, totals in heard)


def test_steps_of_the_article_stand_in_order_inside_the_loop():
    source = Path(gan_mnist.__file__).read_text(encoding="utf-8")
    loop = source[source.index("for batch, indices in enumerate") :]
    loop = loop[: loop.index("yield epoch, batch, totals\n")]
    assert re.findall(r"# \((\d[ab]?)\)", loop) == ["1", "2", "3", "4", "5a", "5b", "6"]


def test_the_script_is_as_short_as_promised():
    lines = Path(gan_mnist.__file__).read_text(encoding="utf-8").splitlines()
    assert lines.index(" " * 12 + "yield epoch, batch, totals") < 125
    assert len(lines) <= 350 and max(map(len, lines)) <= 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_batch_loop_never_waits_for_the_gpu(small_mnist):
    digits, gan = load_mnist(small_mnist, "cuda"), GAN(2e-4, "cuda")
    finish(gan, digits, 100, 1, 0)  # warm up
    torch.cuda.set_sync_debug_mode("error")
    try:
        finish(gan, digits, 100, 1, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
