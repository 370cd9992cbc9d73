"""The article's training in plain words, as a reader would type it: what the tests and benchmarks compare with."""

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


def make_loader(data_dir, batch_size):
    """MNIST as the article loads it: each image converted when its turn comes."""
    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    digits = datasets.MNIST(data_dir, train=True, download=True, transform=to_tensor)
    return DataLoader(digits, batch_size=batch_size, shuffle=True)


def make_discriminator(activation=nn.ReLU):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 1024),
        activation(),
        nn.Dropout(0.3),
        nn.Linear(1024, 512),
        activation(),
        nn.Dropout(0.3),
        nn.Linear(512, 256),
        activation(),
        nn.Dropout(0.3),
        nn.Linear(256, 1),
        nn.Sigmoid(),
    )


def make_generator(activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(100, 256),
        activation(),
        nn.Linear(256, 512),
        activation(),
        nn.Linear(512, 1024),
        activation(),
        nn.Linear(1024, 784),
        nn.Tanh(),
        nn.Unflatten(1, (1, 28, 28)),
    )


def train_on_batch(discriminator, generator, d_optimizer, g_optimizer, real_images):
    """One update of each network, nothing saved: two passes of the discriminator, gradients for everything."""
    criterion = nn.BCELoss()
    size, device = real_images.size(0), real_images.device
    ones = torch.ones(size, 1, device=device)
    zeros = torch.zeros(size, 1, device=device)

    fake_images = generator(torch.randn(size, 100, device=device))
    d_loss = criterion(discriminator(real_images), ones) + criterion(discriminator(fake_images), zeros)
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()

    fake_images = generator(torch.randn(size, 100, device=device))
    g_loss = criterion(discriminator(fake_images), ones)
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    return d_loss, g_loss
