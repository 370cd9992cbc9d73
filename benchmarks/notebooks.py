"""The loop that we compare with: the article's steps with the settings on which two public
notebooks agree, prcastro/pytorch-gan and diegoalejogm/gans. Nothing saved, nothing fast."""

import itertools

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


def make_discriminator():
    """(N, 1, 28, 28) images -> (N, 1) probabilities of being real."""
    layers = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise((784, 1024, 512, 256)):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(256, 1), nn.Sigmoid())


def make_generator():
    """(N, 100) noise -> (N, 1, 28, 28) images in [-1, 1]."""
    layers = []
    for inputs, outputs in itertools.pairwise((100, 256, 512, 1024)):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)))


def train_on_batch(discriminator, generator, d_optimizer, g_optimizer, images):
    """Steps (1) to (6) of the article: one update of each network. Returns both losses."""
    criterion, size, device = nn.BCELoss(), images.size(0), images.device
    real_labels = torch.ones(size, 1, device=device)
    fake_labels = torch.zeros(size, 1, device=device)

    fake_images = generator(torch.randn(size, 100, device=device))
    loss_on_real = criterion(discriminator(images), real_labels)
    d_loss = loss_on_real + criterion(discriminator(fake_images), fake_labels)
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()

    fake_images = generator(torch.randn(size, 100, device=device))
    g_loss = criterion(discriminator(fake_images), real_labels)
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    return d_loss.detach(), g_loss.detach()


def train(data_dir, device):
    """Train for ever, on images in [-1, 1]. Yields the generator after each batch."""
    convert = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    digits = datasets.MNIST(data_dir, train=True, download=True, transform=convert)
    networks = make_discriminator().to(device), make_generator().to(device)
    optimizers = [torch.optim.Adam(network.parameters(), lr=2e-4) for network in networks]
    while True:
        for images, _ in DataLoader(digits, batch_size=100, shuffle=True):
            train_on_batch(*networks, *optimizers, images.to(device))
            yield networks[1]
