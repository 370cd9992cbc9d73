import pytest
import torch
from torch import nn

from gan_mnist import Discriminator, Generator


def sizes(network):
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in linear]


def test_layer_sizes():
    assert sizes(Discriminator()) == [(784, 1024), (1024, 512), (512, 256), (256, 1)]
    assert sizes(Generator()) == [(100, 256), (256, 512), (512, 1024), (1024, 784)]


@pytest.mark.parametrize("count", [1, 7])
def test_generator_draws_images_in_range(count):
    images = Generator()(100 * torch.randn(count, 100))  # loud, to drive the pixels to their limits
    assert images.shape == (count, 1, 28, 28)
    assert images.min() == 0 and images.max() == 1


@pytest.mark.parametrize("count", [1, 7])
def test_discriminator_gives_probabilities(count):
    probabilities = Discriminator()(100 * torch.randn(count, 1, 28, 28))
    assert probabilities.shape == (count, 1)
    assert (probabilities >= 0).all() and (probabilities <= 1).all()


def test_dropout_is_off_in_evaluation():
    discriminator, images = Discriminator(), torch.randn(5, 1, 28, 28)
    assert not torch.equal(discriminator(images), discriminator(images))
    discriminator.eval()
    assert torch.equal(discriminator(images), discriminator(images))
