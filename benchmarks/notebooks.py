"""The loop that we compare with: the article's steps with the settings on which two public
notebooks agree, prcastro/pytorch-gan and diegoalejogm/gans. How good do its digits get?

    python benchmarks/notebooks.py

Trains 40 epochs, seed 0, on the CPU. Keeps the Fréchet distance after each epoch and all measures
after the last in `benchmarks/race.json`, 64 digits in `outputs/reference/race_notebooks.png`."""

import argparse
import itertools
import json
from pathlib import Path

import quality
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.utils import save_image


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


def main():
    argparse.ArgumentParser(description="Train the notebooks' loop and measure it.").parse_args()
    classifier, digits = quality.load_classifier(), quality.load_digits(train=False)[0]
    torch.manual_seed(0)
    batches, distances = train(quality.ROOT / "data", "cpu"), []
    for generator in itertools.islice(batches, 599, 40 * 600, 600):  # after each of 40 epochs
        draws = [images / 2 + 0.5 for images in quality.draws(generator)]  # from [-1, 1]
        measures = quality.measure(draws, classifier, digits)
        distances.append(round(measures["FD"], 1))
        print(f"epoch {len(distances)}: Fréchet distance {distances[-1]}", flush=True)
    record = json.dumps({"distances": distances} | measures, indent=1)
    Path(__file__).with_name("race.json").write_text(record + "\n")
    picture = quality.REFERENCE.with_name("race_notebooks.png")
    save_image(draws[0][:64].view(-1, 1, 28, 28), picture)


if __name__ == "__main__":
    main()
