import re
from copy import deepcopy
from pathlib import Path

import pytest
import textbook
import torch
from torch import nn

import gan_mnist
from gan_mnist import GAN, load_mnist, train


def ignore(epoch, batch, totals):
    pass


@pytest.fixture
def images(small_mnist):
    return next(iter(load_mnist(small_mnist, 50, "cpu")))


@pytest.fixture
def gan():
    torch.manual_seed(0)
    return GAN(2e-4, "cpu")


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


def same(network, snapshot):
    return all(map(torch.equal, network.parameters(), snapshot))


def test_discriminator_step_changes_only_the_discriminator_then_generator_step_only_the_generator(gan, images):
    snapshots = []

    def snap(*_):
        snapshots.append((weights(gan.discriminator), weights(gan.generator)))

    snap()
    gan.d_optimizer.register_step_post_hook(snap)
    gan.g_optimizer.register_step_post_hook(snap)
    train(gan, [images], 1, 0, ignore)
    (d0, g0), (d1, g1), (d2, g2) = snapshots
    assert not any(map(torch.equal, d0, d1)) and all(map(torch.equal, g0, g1))
    assert all(map(torch.equal, d1, d2)) and not any(map(torch.equal, g1, g2))
    assert same(gan.discriminator, d2) and same(gan.generator, g2)


def test_discriminator_gets_no_gradient_from_the_generators_loss(gan, images):
    gradients = []
    gan.g_optimizer.register_step_pre_hook(
        lambda *_: gradients.append([p.grad for p in gan.discriminator.parameters()])
    )
    after_d = []
    gan.d_optimizer.register_step_post_hook(
        lambda *_: after_d.append([p.grad.clone() for p in gan.discriminator.parameters()])
    )
    train(gan, [images], 1, 0, ignore)
    assert all(map(torch.equal, gradients[0], after_d[0]))
    assert all(p.requires_grad for p in gan.discriminator.parameters())


def test_labels_are_one_for_real_zero_for_fake_and_the_generator_is_trained_towards_one(gan, images):
    calls = []

    class Recorder(nn.BCELoss):
        def forward(self, predictions, labels):
            calls.append((predictions.detach().clone(), labels.clone()))
            return super().forward(predictions, labels)

    gan.criterion = Recorder()
    gan.discriminator.eval()  # no dropout, so that the predictions can be made again
    discriminator, generator = deepcopy(gan.discriminator), deepcopy(gan.generator)
    train(gan, [images], 1, 0, ignore)
    (on_real, real), (on_fake, fake), (on_new_fake, towards) = calls
    assert real.shape == fake.shape == towards.shape == (50, 1)
    assert (real == 1).all() and (fake == 0).all() and (towards == 1).all()
    torch.manual_seed(1)  # of epoch 1 of seed 0
    noise, new_noise = torch.randn(50, 100), torch.randn(50, 100)
    torch.testing.assert_close(on_real, discriminator(images))
    torch.testing.assert_close(on_fake, discriminator(generator(noise)))
    torch.testing.assert_close(on_new_fake, gan.discriminator(generator(new_noise)))  # the updated discriminator


def test_one_step_of_each_network_is_the_textbooks():
    """In float64, so that only a different calculation, not rounding, could make a difference."""
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        gan = GAN(2e-4, "cpu")
        discriminator = textbook.make_discriminator(lambda: nn.LeakyReLU(0.2))
        generator = textbook.make_generator(lambda: nn.LeakyReLU(0.2))
        discriminator.load_state_dict(gan.discriminator.state_dict())
        generator.load_state_dict(gan.generator.state_dict())
        optimizers = [
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            for network in (discriminator, generator)
        ]
        batches = [torch.rand(50, 1, 28, 28) * 2 - 1 for _ in range(3)]
        gan.discriminator.eval(), discriminator.eval()  # dropout off
        start = weights(gan.generator) + weights(gan.discriminator)

        train(gan, batches, 1, 7, ignore)
        torch.manual_seed(7_000_001)  # of epoch 1 of seed 7
        for real_images in batches:
            textbook.train_on_batch(discriminator, generator, *optimizers, real_images)

        ours = weights(gan.generator) + weights(gan.discriminator)
        theirs = weights(generator) + weights(discriminator)
        for before, our, their in zip(start, ours, theirs, strict=True):
            assert (our - before).abs().max() > 1e-4  # it learned
            torch.testing.assert_close(our, their, rtol=0, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_averaged_generator_follows_the_trained_one(gan, images):
    steps = [weights(gan.generator)]
    gan.g_optimizer.register_step_post_hook(lambda *_: steps.append(weights(gan.generator)))
    gan.history = [None] * 3
    train(gan, [images] * 2, 5, 0, ignore)  # epochs 4 and 5
    expected = steps[0]
    for step, decay in zip(steps[1:], (0.99875, 0.99875, 0.999, 0.999), strict=True):
        expected = [decay * average + (1 - decay) * weight for average, weight in zip(expected, step, strict=True)]
    for average, value in zip(gan.averaged.parameters(), expected, strict=True):
        torch.testing.assert_close(average, value)


def test_learning_rates_fall_by_three_per_cent_an_epoch(gan, images):
    rates = []
    for optimizer in (gan.d_optimizer, gan.g_optimizer):
        optimizer.register_step_pre_hook(lambda own, *_: rates.append(own.param_groups[0]["lr"]))
    gan.history = [None]
    train(gan, [images] * 2, 3, 0, ignore)  # epochs 2 and 3
    first = gan.d_optimizer.defaults["lr"]
    assert rates == [first * 0.97] * 4 + [first * 0.97**2] * 4


def test_report_hears_of_every_batch_with_the_sums_so_far(gan, images):
    heard = []
    train(gan, [images] * 2, 2, 0, lambda epoch, batch, totals: heard.append((epoch, batch, totals.clone())))
    assert [(epoch, batch) for epoch, batch, _ in heard] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    d_loss, g_loss, on_real, on_fake = heard[0][2].tolist()
    assert 1 < d_loss < 2 and 0.4 < g_loss < 1 and 0.3 < on_real < 0.7 and 0.3 < on_fake < 0.7  # near log 4 and log 2
    assert (heard[1][2] > heard[0][2]).all() and (heard[2][2] < heard[1][2]).all()


def test_steps_of_the_article_stand_in_order_inside_the_loop():
    source = Path(gan_mnist.__file__).read_text()
    loop = source[source.index("for batch, real_images in enumerate") : source.index("report(epoch, batch, totals)\n")]
    assert re.findall(r"# \((\d[ab]?)\)", loop) == ["1", "2", "3", "4", "5a", "5b", "6"]
    assert len(source.splitlines()) <= 280


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_batch_loop_never_waits_for_the_gpu(small_mnist):
    loader = load_mnist(small_mnist, 100, "cuda")
    gan = GAN(2e-4, "cuda")
    train(gan, loader, 1, 0, ignore)  # warm up
    torch.cuda.set_sync_debug_mode("error")
    try:
        train(gan, loader, 1, 0, ignore)
    finally:
        torch.cuda.set_sync_debug_mode("default")
