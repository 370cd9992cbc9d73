import math

import pytest
import torch
from conftest import ROOT, SMALL
from textbook import make_loader

from gan_mnist import load_mnist


@pytest.fixture(scope="module")
def loader():
    return load_mnist(ROOT / "data", 100, "cpu")


def test_there_are_60000_digits_scaled_to_minus_one_to_one(loader):
    digits = loader.dataset
    assert digits.shape == (60_000, 1, 28, 28) and digits.dtype == torch.float32
    assert digits.min() == -1 and digits.max() == 1
    assert len(loader) == 600 and next(iter(loader)).shape == (100, 1, 28, 28)


def test_digits_are_those_that_torchvision_converts_one_by_one(loader):
    one_by_one = make_loader(ROOT / "data", 1).dataset
    for index in (0, 1, 30_000, 59_999):
        assert torch.allclose(loader.dataset[index], one_by_one[index][0], atol=1e-6)


@pytest.mark.parametrize("batch_size", [100, 300, SMALL])
def test_each_digit_comes_once_an_epoch_in_a_new_order(small_mnist, batch_size):
    loader = load_mnist(small_mnist, batch_size, "cpu")
    epochs = [list(loader.sampler) for _ in range(2)]
    for batches in epochs:
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert len(batches) == len(loader) == math.ceil(SMALL / batch_size)
        assert torch.cat(batches).sort().values.equal(torch.arange(SMALL))
    assert not torch.cat(epochs[0]).equal(torch.cat(epochs[1]))
    torch.manual_seed(0)
    indices = list(loader.sampler)
    torch.manual_seed(0)
    # The loader draws a seed for its workers first, so only the contents can be compared, not the order.
    images = torch.cat(list(loader))
    assert images.shape == loader.dataset.shape and len(indices) == len(loader)
    assert images.flatten(1).sum(1).sort().values.allclose(loader.dataset.flatten(1).sum(1).sort().values)
