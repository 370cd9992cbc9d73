"""The loop in its simplest form: the article's steps in plain words, nothing saved, nothing fast.

Layer sizes, activations, dropout, batch size and learning rate are those on which two public
notebooks with the article's steps agree, prcastro/pytorch-gan and diegoalejogm/gans. The tests and
benchmarks compare `gan_mnist.py` with this.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

BATCH_SIZE = 100
LR = 2e-4


def make_loader(data_dir, batch_size=BATCH_SIZE):
    """MNIST in batches of (N, 1, 28, 28) images in [-1, 1], each converted when its turn comes."""
    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    digits = datasets.MNIST(data_dir, train=True, download=True, transform=to_tensor)
    return DataLoader(digits, batch_size=batch_size, shuffle=True)


def make_discriminator():
    """(N, 1, 28, 28) images -> (N, 1) probabilities of being real."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 1024),
        nn.LeakyReLU(0.2),
        nn.Dropout(0.3),
        nn.Linear(1024, 512),
        nn.LeakyReLU(0.2),
        nn.Dropout(0.3),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2),
        nn.Dropout(0.3),
        nn.Linear(256, 1),
        nn.Sigmoid(),
    )


def make_generator():
    """(N, 100) noise -> (N, 1, 28, 28) images in [-1, 1]."""
    return nn.Sequential(
        nn.Linear(100, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 512),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 1024),
        nn.LeakyReLU(0.2),
        nn.Linear(1024, 784),
        nn.Tanh(),
        nn.Unflatten(1, (1, 28, 28)),
    )


def make_optimizers(discriminator, generator):
    """An optimizer for each network."""
    return [torch.optim.Adam(network.parameters(), lr=LR) for network in (discriminator, generator)]


def train_on_batch(discriminator, generator, d_optimizer, g_optimizer, images):
    """Steps (1) to (6) of the article: one update of each network."""
    criterion = nn.BCELoss()
    size, device = images.size(0), images.device
    real_labels = torch.ones(size, 1, device=device)
    fake_labels = torch.zeros(size, 1, device=device)

    fake_images = generator(torch.randn(size, 100, device=device))
    loss_on_real = criterion(discriminator(images), real_labels)
    loss_on_fake = criterion(discriminator(fake_images), fake_labels)
    d_loss = loss_on_real + loss_on_fake
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()

    fake_images = generator(torch.randn(size, 100, device=device))
    g_loss = criterion(discriminator(fake_images), real_labels)
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    return d_loss, g_loss


def train(data_dir, num_epochs):
    """The loops over epochs and batches. Yields the generator after each epoch."""
    loader = make_loader(data_dir)
    discriminator, generator = make_discriminator(), make_generator()
    d_optimizer, g_optimizer = make_optimizers(discriminator, generator)
    for _ in range(num_epochs):
        for images, _ in loader:
            train_on_batch(discriminator, generator, d_optimizer, g_optimizer, images)
        yield generator
