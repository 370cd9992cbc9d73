"""Train a GAN to draw handwritten digits, as told in "An Easy Introduction to
Generative Adversarial Networks in Deep Learning" (George Seif, 2019).

Read to the end of train(): that is the article, with its steps (1) to (6). The rest
is files and options. (+) marks what the article does not have."""

import argparse
import io
import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, utils

NUM_EPOCHS = 40  # each uses every image once
BATCH_SIZE = 100
LEARNING_RATE = 8e-4  # by trial
NOISE_SIZE = 100  # random numbers for each drawn image
HIDDEN_PIXELS = 0.2  # (+) share that dropout hides from D, see (4)


def load_mnist(data_dir):
    """MNIST's images: (60000, 1, 28, 28), 0 (black) to 1. Its labels are not used."""
    with exit_on(f"Cannot load MNIST from {data_dir}", *DATA_ERRORS):  # message, then end
        mnist = datasets.MNIST(data_dir, train=True, download=True)
    return mnist.data.unsqueeze(1) / 255  # from bytes (60000, 28, 28)


def make_discriminator():
    """(N, 1, 28, 28) images -> (N, 1) probabilities that they are real."""
    return nn.Sequential(
        nn.Flatten(),  # (N, 1, 28, 28) -> (N, 784)
        # (+) Sizes and activations by trial. LeakyReLU: a slope of 0.2 below 0.
        nn.Linear(28 * 28, 512), nn.LeakyReLU(0.2),
        nn.Linear(512, 512), nn.LeakyReLU(0.2),
        nn.Linear(512, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 1), nn.Sigmoid(),
    )


def make_generator():
    """(N, 100) random numbers -> (N, 1, 28, 28) images, 0 (black) to 1."""
    return nn.Sequential(
        # (+) Sizes and activations by trial. SiLU: a smooth ReLU.
        nn.Linear(NOISE_SIZE, 256), nn.SiLU(),
        nn.Linear(256, 256), nn.SiLU(),
        nn.Linear(256, 1024), nn.SiLU(),
        # (+) Hardtanh cuts off below 0 and above 1: black is exactly 0, as in MNIST.
        nn.Linear(1024, 28 * 28), nn.Hardtanh(0.0, 1.0),
        nn.Unflatten(1, (1, 28, 28)),  # (N, 784) -> (N, 1, 28, 28)
    )


def train(images, run):
    """The article's loops. `run` (below) counts epochs, saves and, to resume, loads."""
    loader = DataLoader(images, run.batch_size, shuffle=True)  # random batches
    discriminator = make_discriminator().to(run.device)
    generator = make_generator().to(run.device)
    criterion = nn.BCELoss()  # cross-entropy: -log(p) for label 1, -log(1 - p) for 0
    # (+) The first beta, Adam's momentum, is 0: in trials with 0.9, fakes were all alike.
    adam = dict(lr=run.lr, betas=(0.0, 0.999), fused=True)  # fused: only faster
    d_optimizer = optim.Adam(discriminator.parameters(), **adam)
    g_optimizer = optim.Adam(generator.parameters(), **adam)

    for epoch in run.epochs(discriminator, generator, d_optimizer, g_optimizer):
        for real_images in loader:
            # (1) The real images x. Their labels are all 1.
            real_images = real_images.to(run.device)  # (N, 1, 28, 28)
            size = real_images.size(0)
            real_labels = torch.ones(size, 1, device=run.device)
            # (2) Noise z: 100 random numbers for each image.
            noise = torch.randn(size, NOISE_SIZE, device=run.device)
            # (3) The generator G turns it into fake images. Their labels are all 0.
            fake_images = generator(noise)
            fake_labels = torch.zeros(size, 1, device=run.device)
            # (4) Train the discriminator D on both; its loss is the sum of both losses.
            # (+) Dropout makes some pixels black (and the rest brighter), so D is less
            # sure. In trials without it, G drew some digits too often.
            real_masked = nn.functional.dropout(real_images, HIDDEN_PIXELS)
            fake_masked = nn.functional.dropout(fake_images, HIDDEN_PIXELS)
            on_real = discriminator(real_masked)
            on_fake = discriminator(fake_masked)
            d_loss = criterion(on_real, real_labels) + criterion(on_fake, fake_labels)
            d_optimizer.zero_grad()
            d_loss.backward(inputs=list(discriminator.parameters()))  # D only: faster
            d_optimizer.step()

            # (5a) New fake images, as in the article.
            fake_images = generator(torch.randn(size, NOISE_SIZE, device=run.device))
            # (5b) The updated D's predictions. No dropout: with it, digits were worse.
            predictions = discriminator(fake_images)
            # (6) Train G on labels of 1: at a loss of 0, all fakes pass for real.
            g_loss = criterion(predictions, real_labels)
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))  # through D, for G only
            g_optimizer.step()
            run.after_batch(d_loss, g_loss, on_real, on_fake)  # (+) averages G's weights
        run.after_epoch()  # draws with the mean of G's weights, not with G


# The rest: averaged weights, files, options.

DEFAULTS = dict(epochs=NUM_EPOCHS, batch_size=BATCH_SIZE, lr=LEARNING_RATE, seed=0)
RANGES = dict(epochs=(1, 999), batch_size=(1, 60_000), lr=(1e-9, 1), seed=(0, 2**32))
DATA_ERRORS = OSError, EOFError, RuntimeError, ValueError, AssertionError


class Run:
    """One training: its settings, state and files."""

    def __init__(self, folder, device, checkpoint):
        self.folder, self.device, self.checkpoint = folder, device, checkpoint
        self.settings, self.history = checkpoint["settings"], checkpoint["history"]
        self.batch_size, self.lr = self.settings["batch_size"], self.settings["lr"]
        torch.manual_seed(self.settings["seed"])  # for the weights, too
        self.noise = torch.randn(64, NOISE_SIZE).to(device)  # for all pictures

    def epochs(self, discriminator, generator, d_optimizer, g_optimizer):
        """Load what is saved; then, the epochs left."""
        self.average = make_generator().to(self.device)
        self.parts = {"D": discriminator, "G": generator, "average": self.average}
        self.parts |= {"D's Adam": d_optimizer, "G's Adam": g_optimizer}
        for name, state in self.checkpoint["states"].items():
            self.parts[name].load_state_dict(state)
        for optimizer in d_optimizer, g_optimizer:
            optimizer.param_groups[0]["lr"] = self.lr  # the loaded one is old
        for epoch in range(len(self.history) + 1, self.settings["epochs"] + 1):
            # A seed for each, so that --resume changes nothing.
            torch.manual_seed(self.settings["seed"] * 1_000_000 + epoch)
            self.values, self.started = [], time.monotonic()
            yield epoch

    @torch.no_grad()
    def after_batch(self, *values):
        """Keep the values' means; average the generator."""
        self.values.append(torch.stack([value.mean() for value in values]))
        # G's weights jump to and fro; a running mean draws better. Its steps shrink, so
        # that it covers about the last 15th of all batches (by trial).
        share = 15 / (self.checkpoint["batches"] + 15)  # 1 at first
        self.checkpoint["batches"] += 1
        for mean, w in zip(self.average.parameters(), self.parts["G"].parameters()):
            mean.lerp_(w, share)  # mean += share * (w - mean)
        if sys.stdout is sys.__stdout__ and os.isatty(1):  # not Jupyter
            say(f"batch {len(self.values)}", end="\r")

    def after_epoch(self):
        """Save the epoch's files and print its means."""
        means = torch.stack(self.values).mean(0).tolist()
        d_loss, g_loss, *_ = means
        if d_loss > 20 or g_loss > 50:  # usually about 1
            sys.exit("Training has failed: start again with a lower --lr.")
        self.history.append(means)
        epoch, epochs = len(self.history), self.settings["epochs"]
        self.save_files(epoch)
        left = (time.monotonic() - self.started) * (epochs - epoch)
        line = "epoch {:2}/{}  D loss {:.2f}  G loss {:.2f}"
        line += "  D(x) {:.2f}  D(G(z)) {:.2f}  {:4.0f} s left"
        say(line.format(epoch, epochs, *means, left))

    def save_files(self, epoch):
        """Save pictures, weights, then the checkpoint."""
        with whole_file(self.folder / f"epoch_{epoch:03}.png") as file:
            utils.save_image(self.average(self.noise), file, "PNG")
        figure = Figure(figsize=(8, 6), layout="constrained")
        losses, predictions = figure.subplots(2)
        epochs, means = range(1, epoch + 1), torch.tensor(self.history)
        losses.plot(epochs, means[:, :2], ".-", label=["D loss", "G loss"])
        predictions.plot(epochs, means[:, 2:], ".-", label=["D(x)", "D(G(z))"])
        for axes, level in (losses, 1.39), (losses, 0.69), (predictions, 0.5):
            axes.axhline(level, color="grey", linewidth=0.5)  # if D says 0.5
            axes.legend()
        predictions.set_xlabel("epoch")
        with whole_file(self.folder / "losses.png") as file:
            figure.savefig(file)
        first, *others = sorted(self.folder.glob("epoch_*.png"))
        gif = {"save_all": True, "duration": 200, "loop": 0}
        with whole_file(self.folder / "training.gif") as file, Image.open(first) as grid:
            grid.save(file, "GIF", append_images=map(Image.open, others), **gif)
        weights = {key: w.cpu() for key, w in self.average.state_dict().items()}
        with whole_file(self.folder / "generator.pt") as file:
            torch.save(weights, file)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        with whole_file(self.folder / "checkpoint.pt") as file:
            torch.save(self.checkpoint | {"states": states}, file)


@contextmanager
def whole_file(path):
    """A file that gets its name when it is complete."""
    content, part = io.BytesIO(), path.with_name(path.name + ".part")
    yield content
    with exit_on(f"Cannot write {path}", OSError):
        part.write_bytes(content.getbuffer())
        try:
            part.replace(path)
        except PermissionError:  # Windows: open elsewhere
            time.sleep(2)
            part.replace(path)  # a second try


@contextmanager
def exit_on(message, *errors):
    """On one of these errors, end with a line."""
    try:
        yield
    except errors as error:
        sys.exit(f"{message}. {type(error).__name__}: {error}".partition("\n")[0])


def say(text, end="\n"):
    """Print, though nobody may read it."""
    with suppress(OSError):
        print(text, end=end, flush=True)


def usable_device(name):
    """This device. No name: a GPU if one works, else the CPU."""
    try:
        gpu = torch.accelerator.current_accelerator(check_available=True)
        device = torch.device(name or gpu or "cpu")
        torch.ones(1, device=device).item()  # does it work?
        return device
    except (RuntimeError, AssertionError) as error:
        if name:
            sys.exit(f"Cannot use --device {name}: {error}".partition("\n")[0])
        return torch.device("cpu")


def parse_options(argv):
    """The options that were given, as a dict."""
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    for name, default in DEFAULTS.items():
        option, kind = "--" + name.replace("_", "-"), type(default)
        parser.add_argument(option, type=kind, help=f"default: {default}")
    parser.add_argument("--device", help="cpu, cuda, mps ...")
    parser.add_argument("--data-dir", type=os.path.abspath, help="where MNIST is")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--output-dir", type=Path, help="a new folder")
    folder.add_argument("--resume", type=Path, help="a run's folder")
    given = vars(parser.parse_args(argv))
    for name, (low, high) in RANGES.items():
        if name in given and not low <= given[name] <= high:
            parser.error(f"--{name} must be from {low} to {high}".replace("_", "-"))
    return given


def main(argv=None):
    """Train. `argv`: the words of the command."""
    given, here = parse_options(argv), Path(__file__).resolve().parent
    resume, folder = given.pop("resume", None), given.pop("output_dir", None)
    checkpoint = {"settings": DEFAULTS, "history": [], "batches": 0, "states": {}}
    if resume:
        with exit_on(f"Cannot go on with {resume}", Exception):
            saved = torch.load(resume / "checkpoint.pt", "cpu", weights_only=True)
            checkpoint = {name: saved[name] for name in checkpoint}  # missing: KeyError
    settings = checkpoint["settings"] | given
    checkpoint["settings"] = settings
    done = len(checkpoint["history"])
    if settings["epochs"] <= done:
        sys.exit(f"{done} epochs are done: --epochs N continues up to N.")
    torch.set_float32_matmul_precision("medium")  # faster, less exact
    device = usable_device(settings.get("device"))
    images = load_mnist(settings.get("data_dir", here / "data"))
    number = 1
    while (here / f"outputs/run_{number}").exists():
        number += 1
    folder = resume or folder or here / f"outputs/run_{number}"
    with exit_on("Cannot make a folder: give another --output-dir", OSError):
        folder.mkdir(parents=True, exist_ok=bool(resume))
    say(f"{len(images):,} images on {device}, files in {folder}")
    try:
        train(images, Run(folder, device, checkpoint))
    except KeyboardInterrupt:
        sys.exit(f'Stopped. Once an epoch is done, go on with --resume "{folder}"')


if __name__ == "__main__":
    main()
