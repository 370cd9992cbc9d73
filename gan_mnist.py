"""Train a generative adversarial network (GAN) to draw handwritten digits, as in "An Easy Introduction to Generative
Adversarial Networks in Deep Learning" (George Seif, 2019). The file follows the article from top to bottom, with the
article's step numbers in the training loop. What the article does not talk about comes after the loop."""

import argparse
import io
import math
import sys
import time
import zipfile
from copy import deepcopy
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageOps
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import BatchSampler, DataLoader
from torchvision import datasets, utils

NOISE_SIZE = 100  # the generator makes an image from this many random numbers


class ShuffledBatches(BatchSampler):
    """The batches of an epoch as tensors of indices: every digit once, in a new random order each epoch."""

    def __iter__(self):
        return iter(torch.randperm(len(self.sampler), device=self.sampler.device).split(self.batch_size))


def load_mnist(data_dir, batch_size, device):
    """A DataLoader of MNIST's 60,000 training digits: (batch_size, 1, 28, 28) images in [-1, 1] on the device.
    Raises what torchvision raises if the files are neither in `data_dir` nor to be downloaded."""
    mnist = datasets.MNIST(data_dir, train=True, download=True)  # downloads only what is not there
    digits = mnist.data.unsqueeze(1).float().div_(127.5).sub_(1).to(device)  # (60000, 1, 28, 28), converted only once
    return DataLoader(digits, sampler=ShuffledBatches(digits, batch_size, drop_last=False), batch_size=None)


class Discriminator(nn.Sequential):
    """Tells real from fake: (N, 1, 28, 28) images in [-1, 1] -> (N, 1) probabilities of being real."""

    def __init__(self):
        super().__init__(
            nn.Flatten(),  # (N, 1, 28, 28) -> (N, 784)
            nn.Linear(28 * 28, 1024), nn.LeakyReLU(0.2), Dropout(0.3),  # nn.Dropout, only faster: see below
            nn.Linear(1024, 512), nn.LeakyReLU(0.2), Dropout(0.3),
            nn.Linear(512, 256), nn.LeakyReLU(0.2), Dropout(0.3),
            nn.Linear(256, 1), nn.Sigmoid(),
        )  # fmt: skip


class Generator(nn.Sequential):
    """Draws digits: (N, 100) normally distributed noise -> (N, 1, 28, 28) images in [-1, 1]."""

    def __init__(self):
        super().__init__(
            nn.Linear(NOISE_SIZE, 256), nn.LeakyReLU(0.2),
            nn.Linear(256, 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 1024), nn.LeakyReLU(0.2),
            nn.Linear(1024, 28 * 28), nn.Tanh(),
            nn.Unflatten(1, (1, 28, 28)),  # (N, 784) -> (N, 1, 28, 28)
        )  # fmt: skip


class GAN:
    """Both networks on the device, with their loss function and an optimizer for each."""

    def __init__(self, lr, device):
        self.discriminator = Discriminator().to(device)
        self.generator = Generator().to(device)
        self.averaged = deepcopy(self.generator).requires_grad_(False)  # averages draw better (arXiv 1710.10196)
        self.criterion = nn.BCELoss()
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr, betas=(0.5, 0.999), fused=True)
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), lr, betas=(0.5, 0.999), fused=True)
        self.history = []  # of each finished epoch: mean D loss, G loss, D(x), D(G(z))


def train(gan, loader, num_epochs, seed, report):
    """The article's loops, over epochs and over batches. Calls `report(epoch, batch, totals)` after each batch."""
    discriminator, generator, criterion = gan.discriminator, gan.generator, gan.criterion
    generator_weights, averaged_weights = list(generator.parameters()), list(gan.averaged.parameters())
    for epoch in range(len(gan.history) + 1, num_epochs + 1):
        torch.manual_seed(seed * 1_000_000 + epoch)  # so that a run that is stopped and resumed draws the same numbers
        for optimizer in (gan.d_optimizer, gan.g_optimizer):  # the better the digits, the smaller the steps ...
            optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] * 0.97 ** (epoch - 1)
        update_average = get_ema_multi_avg_fn(1 - 0.005 / epoch)  # ... and the longer the moving average of the weights
        totals = 0  # of D loss, G loss, D(x), D(G(z)); kept on the device
        for batch, real_images in enumerate(loader, start=1):
            size, device = real_images.size(0), real_images.device
            # (1) The real images come from the loader. Their labels are all 1.
            real_labels = torch.ones(size, 1, device=device)
            # (2) Noise for the generator: 100 random numbers for each image.
            noise = torch.randn(size, NOISE_SIZE, device=device)
            # (3) Fake images from that noise. Their labels are all 0. The generator does not learn from these.
            with torch.no_grad():
                fake_images = generator(noise)
            fake_labels = torch.zeros(size, 1, device=device)
            # (4) Train the discriminator on both: its loss is the loss on real plus the loss on fake.
            on_real, on_fake = discriminator(torch.cat([real_images, fake_images])).chunk(2)  # (N, 1) each
            d_loss = criterion(on_real, real_labels) + criterion(on_fake, fake_labels)
            gan.d_optimizer.zero_grad()
            d_loss.backward()
            gan.d_optimizer.step()

            # (5a) New fake images, which the generator does learn from.
            fake_images = generator(torch.randn(size, NOISE_SIZE, device=device))
            # (5b) What the updated discriminator takes them for.
            predictions = discriminator(fake_images)
            # (6) Train the generator, and it alone, towards 1: a loss of 0 would mean every fake is taken for real.
            g_loss = criterion(predictions, real_labels)
            gan.g_optimizer.zero_grad()
            g_loss.backward(inputs=generator_weights)
            gan.g_optimizer.step()
            update_average(averaged_weights, generator_weights, None)
            totals += torch.stack([d_loss, g_loss, on_real.mean(), on_fake.mean()]).detach()
            report(epoch, batch, totals)


# The article ends here. What follows: faster dropout, files, clear words for mistakes, the command line.
GRID = {"format": "PNG", "nrow": 8, "normalize": True, "value_range": (-1, 1)}  # how torchvision lays out our pictures
FILES = ("checkpoint.pt", "generator.pt", "real.png", "losses.png", "training.gif", "epoch_*.png")


class Dropout(nn.Dropout):
    """`nn.Dropout`, three times as fast on the CPU: it takes four 16-bit random numbers from each 64-bit one."""

    def forward(self, x):
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        random = torch.empty(x.size(0), x.size(1) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        return x * random.float().ge_(round((self.p - 0.5) * 2**16)).div_(1 - self.p)  # 0 or 1 / (1 - p)


def save(path, write, *args, **kwargs):
    """Let `write(*args, file, **kwargs)` fill a file and move it into place: nobody ever finds half a file."""
    content, part = io.BytesIO(), path.with_name(".part")
    write(*args, content, **kwargs)
    part.write_bytes(content.getbuffer())
    part.replace(path)


def save_results(folder):
    """Save the generator, the curves and the animation of the epochs in the checkpoint."""
    checkpoint = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    save(folder / "generator.pt", torch.save, checkpoint["averaged"])
    epochs = range(1, len(checkpoint["history"]) + 1)
    axes = Figure(figsize=(8, 5), layout="constrained").subplots()
    axes.plot(epochs, checkpoint["history"], ".-", label=["D loss", "G loss", "D(x), real", "D(G(z)), fake"])
    axes.set(xlabel="epoch", ylabel="mean loss (BCE); mean probability of being real", ylim=(0, None))
    axes.legend()
    save(folder / "losses.png", axes.figure.savefig)
    frames = [ImageOps.expand(Image.open(folder / f"epoch_{n:03}.png").convert("L"), (0, 0, 0, 18)) for n in epochs]
    for epoch, frame in zip(epochs, frames, strict=True):
        ImageDraw.Draw(frame).text((6, frame.height - 16), f"epoch {epoch}", fill=255)
    timing = {"duration": [150] * (len(frames) - 1) + [2000], "loop": 0}  # milliseconds; again and again
    save(folder / "training.gif", frames[0].save, format="GIF", save_all=True, append_images=frames[1:], **timing)


def load_mnist_or_explain(options):
    """`load_mnist`, with unpacked files that were cut short unpacked anew, and clear words for what cannot be read."""
    raw = options.data_dir / "MNIST" / "raw"
    for _ in range(2):
        try:
            return load_mnist(options.data_dir, options.batch_size, options.device)
        except Exception as error:  # torchvision believes every unpacked file; which error follows depends on it
            reason = str(error).partition("\n")[0]
            for name, md5 in datasets.MNIST.resources:
                if datasets.utils.check_integrity(raw / name, md5):
                    (raw / name).with_suffix("").unlink(missing_ok=True)
    sys.exit(f"No whole MNIST in {raw} ({reason}): put the files that data/README.md names there.")


def load_checkpoint(path, parts, settings):
    """Bring `parts` to where the checkpoint left them, if it is whole and of a run with these settings."""
    try:
        intact = zipfile.ZipFile(path).testzip() is None
        checkpoint = torch.load(path, map_location="cpu", weights_only=True) if intact else {}
        if (saved := checkpoint["settings"]) != settings:
            sys.exit(f"{path} is of a run with {saved}, not {settings}: give the same, or start without --resume.")
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
        return checkpoint["history"]
    except Exception:  # which error depends on the damage
        sys.exit(f"{path} is {'damaged or of another program' if path.exists() else 'not there'}: leave out --resume.")


def parse_options(argv):
    """The command line; ends with one line and exit code 2 for options that cannot be."""
    parser = argparse.ArgumentParser(description="Train a GAN to draw handwritten digits.", usage="%(prog)s [options]")
    parser.add_argument("--epochs", type=int, default=40, help="times to go through the digits (default: 40)")
    parser.add_argument("--batch-size", type=int, default=100, help="digits in a batch (default: 100)")
    parser.add_argument("--lr", type=float, default=6e-4, help="learning rate of both networks (default: 0.0006)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other digits (default: 0)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps ... (default: the GPU if there is one)")
    parser.add_argument("--data-dir", type=Path, default=Path(__file__).with_name("data"), help="where MNIST is")
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).with_name("outputs"), help="where files go")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    options = parser.parse_args(argv)
    if min(options.epochs, options.batch_size) < 1 or not 0 < options.lr < math.inf or not 0 <= options.seed < 2**32:
        parser.error("--epochs and --batch-size start at 1, --lr is above 0 and finite, --seed is from 0 to 4294967295")
    if options.device == "auto":
        options.device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    try:
        torch.ones(1, device=options.device).item()
    except Exception:  # which error depends on the device
        parser.error(f"--device {options.device} is not there: leave it out to use what is")
    return options


def main(argv=None):
    """From the digits on disk to the files in the output folder."""
    options = parse_options(argv)
    torch.set_float32_matmul_precision("medium")  # products in bfloat16 where the processor has them: faster
    torch.manual_seed(options.seed)
    noise = torch.randn(64, NOISE_SIZE).to(options.device)  # the same for the picture of every epoch
    loader, gan = load_mnist_or_explain(options), GAN(options.lr, options.device)
    num_digits, num_batches, folder = len(loader.dataset), len(loader), options.output_dir
    if options.batch_size > num_digits:
        sys.exit(f"--batch-size {options.batch_size} is more than the {num_digits} digits.")
    settings = {"--batch-size": options.batch_size, "--lr": options.lr, "--seed": options.seed}
    parts = {name: part for name, part in vars(gan).items() if name not in ("criterion", "history")}
    folder.mkdir(parents=True, exist_ok=True)
    if options.resume:
        gan.history = load_checkpoint(folder / "checkpoint.pt", parts, settings)
    elif older := [path for name in FILES for path in folder.glob(name)]:
        aside = folder / time.strftime("older_run_%Y-%m-%d_%H-%M-%S")
        aside.mkdir()
        for path in older:
            path.rename(aside / path.name)
        print(f"There was an older run in {folder}: moved to {aside}", flush=True)
    save(folder / "real.png", utils.save_image, loader.dataset[:64], **GRID)
    d_size, g_size = (sum(p.numel() for p in net.parameters()) for net in (gan.discriminator, gan.generator))
    print(f"{num_digits:,} digits on {options.device}; parameters: D {d_size:,}, G {g_size:,}", flush=True)
    already, started, printed = len(gan.history), time.monotonic(), 0

    def report(epoch, batch, totals):
        nonlocal printed
        now, live = time.monotonic(), batch < num_batches
        if live and (not sys.stdout.isatty() or now - printed < 0.5):
            return
        means, printed = (totals / batch).tolist(), now
        if not all(map(math.isfinite, means)):
            raise RuntimeError(f"D loss {means[0]}, G loss {means[1]}")
        if not live:
            save(folder / f"epoch_{epoch:03}.png", utils.save_image, gan.averaged(noise), **GRID)
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"history": [*gan.history, means], "settings": settings}
            save(folder / "checkpoint.pt", torch.save, state)
            gan.history.append(means)
        left = (now - started) * ((options.epochs - already) / (epoch - 1 - already + batch / num_batches) - 1)
        rest = f"batch {batch:3}/{num_batches}" if live else f"D(x) {means[2]:.2f}  D(G(z)) {means[3]:.2f}"
        line = f"epoch {epoch:2}/{options.epochs}  D loss {means[0]:.3f}  G loss {means[1]:.3f}  {rest}"
        print(f"{line}  {now - started:3.0f} s, {left:3.0f} s left", end="\r" if live else "\n", flush=True)

    if already >= options.epochs:
        print(f"There is nothing left to do: {already} epochs are finished. Drawing the results again.")
    try:
        train(gan, loader, options.epochs, options.seed, report)
    except KeyboardInterrupt:
        print(f"\nStopped after {len(gan.history)} epochs: the same command with --resume goes on.", flush=True)
        raise
    except RuntimeError as error:
        reason = "D loss nan" if "between 0 and 1" in str(error) else str(error).splitlines()[0]  # BCELoss refuses nan
        sys.exit(f"Epoch {len(gan.history) + 1} failed ({reason}): start again with a lower --lr or --batch-size.")
    finally:
        if gan.history:
            save_results(folder)
    print(f"Saved pictures, animation, curves and generator in {folder} after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.stdout = None  # where it is a closed pipe, Python would complain once more
        sys.exit(f"Stopped: {error}. Every file saved before is whole; --output-dir names another folder.")
