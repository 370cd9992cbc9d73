"""Train a generative adversarial network (GAN) to draw handwritten digits. This follows the article
"An Easy Introduction to Generative Adversarial Networks in Deep Learning" (George Seif, 2019) from
top to bottom, with its step numbers in the loop; saving, errors and options come after `train`."""

import argparse
import io
import math
import os
import pickle
import sys
import time
import zipfile
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageOps
from torch import nn
from torchvision import datasets, utils

NOISE_SIZE = 100  # the generator makes an image from this many random numbers


def load_mnist(data_dir, device):
    """MNIST's training images, all on the device: (60000, 1, 28, 28) in [0, 1], 0 is black."""
    mnist = open_mnist(data_dir)  # torchvision's datasets.MNIST, with clear words if it fails
    return mnist.data.unsqueeze(1).float().div_(255).to(device)  # div_ makes no second copy


class Discriminator(nn.Sequential):
    """Tells real from fake: (N, 1, 28, 28) images in [0, 1] -> (N, 1) probabilities of real."""

    def __init__(self):
        super().__init__(
            nn.Flatten(),  # (N, 1, 28, 28) -> (N, 784)
            nn.Dropout(),  # makes random pixels black; the function train sets how many
            nn.Linear(28 * 28, 1024), nn.LeakyReLU(0.2),  # like ReLU, but not flat below 0
            nn.Linear(1024, 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 256), nn.LeakyReLU(0.2),
            nn.Linear(256, 1), nn.Sigmoid(),  # a probability, which is what BCELoss takes
        )  # fmt: skip


class Generator(nn.Sequential):
    """Draws digits: (N, 100) normally distributed noise -> (N, 1, 28, 28) images in [0, 1]."""

    def __init__(self):
        super().__init__(
            nn.Linear(NOISE_SIZE, 256), nn.SiLU(),  # a smooth ReLU: draws better than LeakyReLU
            nn.Linear(256, 512), nn.SiLU(),
            nn.Linear(512, 1024), nn.SiLU(),
            nn.Linear(1024, 28 * 28), nn.Hardtanh(0, 1),  # cuts off what is below 0 or above 1
            nn.Unflatten(1, (1, 28, 28)),  # (N, 784) -> (N, 1, 28, 28)
        )  # fmt: skip


class GAN:
    """Both networks on the device (a GPU if there is one), their loss, an optimizer for each."""

    def __init__(self, lr, device):
        self.discriminator = Discriminator().to(device)
        self.generator = Generator().to(device)
        # Not in the article: a copy with averaged weights draws better pictures (arXiv 1710.10196).
        self.averaged = deepcopy(self.generator).requires_grad_(False)
        self.criterion = nn.BCELoss()
        self.lr = lr
        betas = (0.0, 0.999)  # no momentum: at this lr, with the usual 0.9, the discriminator wins
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr, betas, fused=True)
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), lr, betas, fused=True)
        self.history = []  # of each finished epoch: mean D loss, G loss, D(x), D(G(z))


def train(gan, digits, batch_size, num_epochs, seed):
    """The article's loops over epochs and batches; `tests/textbook.py` has them at their simplest.
    Yields (epoch, batch, totals) after each batch: sums over the epoch's images so far, still on
    the device, of D loss, G loss, D(x) and D(G(z)). The caller saves, and fills `gan.history`."""
    discriminator, generator, criterion = gan.discriminator, gan.generator, gan.criterion
    weights, averages = list(generator.parameters()), list(gan.averaged.parameters())
    for epoch in range(len(gan.history) + 1, num_epochs + 1):  # after those that are finished
        torch.manual_seed(seed * 1_000_000 + epoch)  # the same in a run that was resumed
        # Not in the article: ever smaller steps; hidden pixels, or D would learn images by heart.
        for group in gan.d_optimizer.param_groups + gan.g_optimizer.param_groups:
            group["lr"] = gan.lr * 0.97 ** (epoch - 1)
        discriminator[1].p = min(0.02 * epoch, 0.2)  # the share of pixels its Dropout hides
        totals = 0
        # What a DataLoader with shuffle=True does: each image once, in a new order, in batches.
        shuffled = torch.randperm(len(digits), device=digits.device)
        for batch, indices in enumerate(shuffled.split(batch_size), start=1):
            # (1) The real images. Their labels are all 1.
            real_images = digits[indices]  # (N, 1, 28, 28)
            size, device = real_images.size(0), real_images.device
            real_labels = torch.ones(size, 1, device=device)
            # (2) Noise for the generator: 100 random numbers for each image.
            noise = torch.randn(size, NOISE_SIZE, device=device)
            # (3) Fake images from it; the generator does not learn here. Their labels are all 0.
            with torch.no_grad():
                fake_images = generator(noise)
            fake_labels = torch.zeros(size, 1, device=device)
            # (4) Train the discriminator on both: its loss is the loss on real plus that on fake.
            discriminator.train()  # switches its Dropout on
            both = torch.cat([real_images, fake_images])  # one pass over both is faster than two
            on_real, on_fake = discriminator(both).chunk(2)  # its predictions, (N, 1) each
            d_loss = criterion(on_real, real_labels) + criterion(on_fake, fake_labels)
            gan.d_optimizer.zero_grad()
            d_loss.backward()
            gan.d_optimizer.step()

            # (5a) New fake images, this time with gradients for (6).
            fake_images = generator(torch.randn(size, NOISE_SIZE, device=device))
            # (5b) What the updated discriminator takes them for.
            discriminator.eval()  # its Dropout off, for clearer digits; gradients still flow
            predictions = discriminator(fake_images)
            # (6) Train the generator towards 1: a loss of 0 would mean every fake taken for real.
            g_loss = criterion(predictions, real_labels)
            gan.g_optimizer.zero_grad()
            g_loss.backward(inputs=weights)  # gradients for the generator alone: faster
            gan.g_optimizer.step()
            # Not in the article: move the averages towards the new weights, ever more slowly.
            with torch.no_grad():
                for average, weight in zip(averages, weights, strict=True):
                    average.lerp_(weight, 0.005 / epoch)
                totals += size * torch.stack([d_loss, g_loss, on_real.mean(), on_fake.mean()])
            yield epoch, batch, totals


# The article's loop ends here. What follows: files, animation, errors that we foresee, options.


@contextmanager
def whole_file(path):
    """A buffer to write into, which then becomes the file in one step: never half a file."""
    content = io.BytesIO()
    yield content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{path.name}.*.part"):  # of a run that was killed
            left_over.unlink()
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(content.getbuffer())
        part.replace(path)
    except OSError as error:
        sys.exit(f"Cannot write {path} ({error.strerror}): give another --output-dir.")


def save_grid(path, images):
    """Save (N, 1, 28, 28) images in [0, 1] as a PNG, eight in a row."""
    with whole_file(path) as file:
        utils.save_image(images, file, format="PNG")


def save_curves(path, history):
    """Save the curves of losses and predictions, a point an epoch, as a PNG."""
    axes = Figure(figsize=(8, 5), layout="constrained").subplots()
    labels = ["D loss", "G loss", "D(x), real", "D(G(z)), fake"]
    axes.plot(range(1, len(history) + 1), history, ".-", label=labels)
    axes.set(xlabel="epoch", ylabel="mean loss (BCE), mean prediction", ylim=(0, None))
    axes.legend()
    with whole_file(path) as file:
        axes.figure.savefig(file, format="png")


def save_animation(path, num_epochs):
    """Save a GIF of the epoch_*.png in the same folder, each labelled with its epoch."""
    frames = []
    for epoch in range(1, num_epochs + 1):
        picture = path.with_name(f"epoch_{epoch:03}.png")
        if picture.exists():
            frame = ImageOps.expand(Image.open(picture).convert("L"), (0, 0, 0, 18))
            ImageDraw.Draw(frame).text((6, frame.height - 16), f"epoch {epoch}", fill=255)
            frames.append(frame)
    times = [150] * (len(frames) - 1) + [2000]  # milliseconds
    with whole_file(path) as file:
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)


def save_epoch(folder, gan, noise, settings):
    """Save everything after an epoch, the checkpoint last, when the rest is there."""
    save_grid(folder / f"epoch_{len(gan.history):03}.png", gan.averaged(noise))
    save_curves(folder / "losses.png", gan.history)
    save_animation(folder / "training.gif", len(gan.history))
    with whole_file(folder / "generator.pt") as file:
        torch.save(gan.averaged.state_dict(), file)
    parts = ("discriminator", "generator", "averaged", "d_optimizer", "g_optimizer")
    states = {name: getattr(gan, name).state_dict() for name in parts}
    with whole_file(folder / "checkpoint.pt") as file:
        torch.save({"states": states, "history": gan.history, "settings": settings}, file)


def resume(gan, folder, settings):
    """Bring the GAN to where the checkpoint left it, if that was made with the same settings."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        older = sorted(folder.glob("older_run_*/checkpoint.pt"))
        hint = f"an older run is in {older[-1].parent}" if older else "leave out --resume"
        sys.exit(f"{path} is not there: {hint}.")
    try:
        if damaged := zipfile.ZipFile(path).testzip():  # torch saves ZIP archives
            raise ValueError(f"{damaged} is damaged")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        states, history, saved = (checkpoint[key] for key in ("states", "history", "settings"))
    except (OSError, EOFError, MemoryError, RuntimeError, TypeError, LookupError, ValueError,
            zipfile.BadZipFile, pickle.UnpicklingError) as error:  # fmt: skip
        reason = str(error).partition("\n")[0]
        sys.exit(f"{path} cannot be read ({reason}): leave out --resume.")
    for name, value in settings.items():
        if value != saved[name]:
            sys.exit(f"{path} was made with {name} {saved[name]}, not {value}: give the same.")
    for name, state in states.items():
        getattr(gan, name).load_state_dict(state)
    gan.history = history


def move_older_run(folder):
    """Move the files of an older run, if there is one, to a folder of their own."""
    names = ("epoch_*.png", "losses.png", "training.gif", "generator.pt", "checkpoint.pt")
    if any(folder.glob("epoch_*.png")) or (folder / "checkpoint.pt").exists():
        aside = folder / time.strftime("older_run_%Y-%m-%d_%H-%M-%S")
        aside.mkdir()
        for path in [path for name in names for path in folder.glob(name)]:
            path.rename(aside / path.name)
        print(f"The files of an older run are now in {aside}")


def open_mnist(data_dir):
    """torchvision's MNIST, unpacked the first time; or one line that says how to mend it."""
    try:
        return datasets.MNIST(data_dir, train=True, download=True)  # downloads what is missing
    except (OSError, EOFError, RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        advice = "delete the files there that do not end in .gz, get those of data/README.md"
        sys.exit(f"Cannot read MNIST in {data_dir / 'MNIST' / 'raw'} ({reason}): {advice}.")


def usable_device(name):
    """The device of this name, if it works; for "auto" the GPU, if there is one that works."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    try:
        device = torch.device(best if name == "auto" else name)
        if device.type != "cpu":
            torch.ones(100_000_000, device=device).sum().item()  # try it with more than we need
        return device
    except (RuntimeError, AssertionError, ImportError) as error:  # which one depends on the device
        reason = str(error).partition("\n")[0]
    if name != "auto":
        raise argparse.ArgumentTypeError(f"{name} cannot be used ({reason}): leave it out")
    print(f"Using the CPU, since the GPU fails ({reason})")
    return torch.device("cpu")


def parse_options(argv):
    """The command line's options; for invalid ones, one line and exit code 2."""
    parser = argparse.ArgumentParser(usage="%(prog)s [options]")
    here, add = Path(__file__).parent, parser.add_argument
    add("--epochs", type=int, default=40, help="passes over the images (default: 40)")
    add("--batch-size", type=int, default=64, help="images in a batch (default: 64)")
    add("--lr", type=float, default=6e-4, help="learning rate of both networks (default: 0.0006)")
    add("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    add("--device", type=usable_device, default="auto", help="cpu, cuda, mps ... (default: a GPU)")
    add("--data-dir", type=Path, default=here / "data", help="where MNIST is (default: data)")
    add("--output-dir", type=Path, default=here / "outputs", help="for results (default: outputs)")
    add("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    options = parser.parse_args(argv)
    smaller = min(options.epochs, options.batch_size)
    if smaller < 1 or not 0 < options.lr < math.inf or not 0 <= options.seed < 2**32:
        parser.error("--epochs and --batch-size from 1, --lr above 0, --seed 0 to 4294967295")
    return options


def train_and_save(gan, digits, noise, options, settings):
    """Train, print how it goes, and save after each epoch; `noise` makes the saved pictures."""
    folder, batch_size, already = options.output_dir, options.batch_size, len(gan.history)
    real = folder / "real.png"
    save_grid(real, digits[:64])
    written = real.stat().st_mtime_ns  # if this changes, a later run writes in this folder
    if not options.resume:
        move_older_run(folder)
    num_batches, terminal = math.ceil(len(digits) / batch_size), sys.stdout.isatty()
    started = printed = time.monotonic()
    for epoch, batch, totals in train(gan, digits, batch_size, options.epochs, options.seed):
        live = batch < num_batches  # mid-epoch: on a terminal, a line that the next covers
        if live and not (terminal and time.monotonic() - printed > 0.5):
            continue
        means = (totals / min(batch * batch_size, len(digits))).tolist()
        d_loss, g_loss, on_real, on_fake = means
        losses = f"epoch {epoch:2}/{options.epochs}  D loss {d_loss:.3f}  G loss {g_loss:.3f}"
        if not live:
            if not (d_loss < 20 and math.isfinite(g_loss)):  # 1.39 is guessing, 20 is hopeless
                sys.exit(f"Training has failed ({losses}): start again with a lower --lr.")
            if real.exists() and real.stat().st_mtime_ns != written:
                sys.exit(f"Another run writes in {folder}: give each its own --output-dir.")
            gan.history.append(means)
            save_epoch(folder, gan, noise, settings)
        printed = time.monotonic()
        done = epoch - 1 - already + batch / num_batches  # epochs
        left = (printed - started) / done * (options.epochs - already - done)
        line = f"{losses}  D(x) {on_real:.2f}  D(G(z)) {on_fake:.2f}  {left:.0f} s left"
        print(line.ljust(79) if terminal else line, end="\r" if live else "\n", flush=True)


def main(argv=None):
    """From the digits on disk to the files in the output folder."""
    options = parse_options(argv)
    torch.set_float32_matmul_precision("medium")  # allow faster, rougher matrix products
    digits = load_mnist(options.data_dir, options.device)
    if options.batch_size > len(digits):
        sys.exit(f"--batch-size {options.batch_size} is more than the {len(digits)} digits.")
    settings = {"--batch-size": options.batch_size, "--lr": options.lr, "--seed": options.seed}
    settings["number of digits"] = len(digits)
    torch.manual_seed(options.seed)
    noise = torch.randn(64, NOISE_SIZE).to(options.device)  # the same for every epoch's picture
    gan = GAN(options.lr, options.device)
    if options.resume:
        resume(gan, options.output_dir, settings)
    print(f"{len(digits):,} digits on {options.device}, files in {options.output_dir}", flush=True)
    try:
        train_and_save(gan, digits, noise, options, settings)
    except KeyboardInterrupt:
        saved = (options.output_dir / "checkpoint.pt").exists()
        print("\nStopped.", "--resume goes on." if saved else "Nothing is saved yet.", flush=True)
        raise
    except RuntimeError as error:
        # BCELoss says the same of nan and of a missing Sigmoid. Only nan means failed training.
        refused = "input should be between 0 and 1" in str(error)
        if refused and gan.discriminator(gan.generator(noise)).isnan().any():
            sys.exit("Training has failed (D(x) nan): start again with a lower --lr.")
        raise


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # for paths that the terminal cannot print
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        known = ("MemoryError", "out of memory", "DefaultCPUAllocator")  # depends on the device
        if not any(words in repr(error) for words in known):
            raise
        sys.exit("Out of memory: end other programs, or give a smaller --batch-size.")
    except OSError as error:
        if error.filename or not error.errno:
            raise
        sys.stdout = None  # a closed pipe or a full disk; Python would complain once more
        sys.exit(f"Stopped, since nothing can be printed any more: {error.strerror}.")
