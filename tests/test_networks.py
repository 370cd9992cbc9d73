import pytest
import torch
from torch import nn

from gan_mnist import Discriminator, Dropout, Generator


def sizes(network):
    return [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]


def test_layer_sizes_are_the_articles():
    assert sizes(Discriminator()) == [(784, 1024), (1024, 512), (512, 256), (256, 1)]
    assert sizes(Generator()) == [(100, 256), (256, 512), (512, 1024), (1024, 784)]
    dropouts = [layer.p for layer in Discriminator().modules() if isinstance(layer, nn.Dropout)]
    assert dropouts == [0.3] * 3
    assert not [layer for layer in Generator().modules() if isinstance(layer, nn.Dropout)]


@pytest.mark.parametrize("count", [1, 7])
def test_generator_draws_images_in_range(count):
    images = Generator()(100 * torch.randn(count, 100))  # loud noise, to drive the pixels to their limits
    assert images.shape == (count, 1, 28, 28)
    assert images.min() >= -1 and images.max() <= 1 and images.max() - images.min() > 1


@pytest.mark.parametrize("count", [1, 7])
def test_discriminator_gives_probabilities(count):
    probabilities = Discriminator()(100 * torch.randn(count, 1, 28, 28))
    assert probabilities.shape == (count, 1)
    assert (probabilities >= 0).all() and (probabilities <= 1).all()


def test_dropout_drops_three_in_ten_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(1000, 1024, requires_grad=True)
    y = Dropout(0.3)(x)
    dropped = (y == 0).double()
    assert dropped.mean().item() == pytest.approx(0.3, abs=0.002)  # 4 standard errors
    assert y[y != 0].unique().tolist() == pytest.approx([1 / 0.7])
    # No place in the four numbers of a 64-bit one, no row and no column is favoured.
    assert dropped.view(-1, 4).mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.004)
    assert (dropped.mean(0) - 0.3).abs().max() < 0.08 and (dropped.mean(1) - 0.3).abs().max() < 0.08
    # Neighbours are independent.
    assert (dropped[:, 1:] * dropped[:, :-1]).mean().item() == pytest.approx(0.09, abs=0.002)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_is_off_in_evaluation():
    x = torch.randn(5, 1024)
    assert torch.equal(Dropout(0.3).eval()(x), x)
