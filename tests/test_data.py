import pytest
import torch
from conftest import ROOT
from textbook import make_loader

from gan_mnist import GAN, load_mnist, train


@pytest.fixture(scope="module")
def digits():
    return load_mnist(ROOT / "data", "cpu")


def test_there_are_60000_digits_scaled_to_zero_to_one(digits):
    assert digits.shape == (60_000, 1, 28, 28) and digits.dtype == torch.float32
    assert digits.min() == 0 and digits.max() == 1


def test_digits_are_those_that_torchvision_converts_one_by_one(digits):
    one_by_one = make_loader(ROOT / "data", 1).dataset
    for index in (0, 1, 30_000, 59_999):
        assert torch.allclose(digits[index] * 2 - 1, one_by_one[index][0], atol=1e-6)


@pytest.mark.parametrize("batch_size", [100, 300, 900])
def test_each_digit_comes_once_an_epoch_in_a_new_order(batch_size):
    """Image number n is n everywhere; the discriminator writes down what it is shown."""
    digits = torch.arange(900.0).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    gan, shown = GAN(2e-4, "cpu"), []

    def write_down(_, inputs):
        if len(inputs[0]) == 2 * batch_size:  # real and fake, in step (4)
            shown.append(inputs[0][:batch_size, 0, 0, 0].clone())

    gan.discriminator.register_forward_pre_hook(write_down)
    batches = [batch for _, batch, _ in train(gan, digits, batch_size, 2, 0)]
    count = 900 // batch_size
    assert batches == 2 * list(range(1, count + 1)) and len(shown) == 2 * count
    first, second = torch.cat(shown[:count]), torch.cat(shown[count:])
    for epoch in (first, second):
        assert epoch.sort().values.equal(torch.arange(900.0))
    assert not first.equal(second) and not first.equal(torch.arange(900.0))
