"""Train a generative adversarial network (GAN) to draw handwritten digits, as told in "An
Easy Introduction to Generative Adversarial Networks in Deep Learning" (Seif, 2019)."""

import argparse
import io
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torchvision import datasets, utils

NUM_EPOCHS = 40  # in an epoch, each image is used once
BATCH_SIZE = 100
LEARNING_RATE = 6e-4  # the article gives neither this nor the batch size
NOISE_SIZE = 100  # the generator makes an image from this many random numbers
HIDDEN_PIXELS = 0.2  # the share of pixels that step (4) makes black, at random


def load_mnist(data_dir):
    """MNIST's images: (60000, 1, 28, 28), 0 (black) to 1. A GAN needs no digit labels."""
    mnist = datasets.MNIST(data_dir, train=True, download=True)  # only if needed
    return mnist.data.unsqueeze(1) / 255


class Discriminator(nn.Sequential):
    """Tells real from fake: (N, 1, 28, 28) images -> (N, 1) probabilities of real."""

    def __init__(self):
        super().__init__(  # calling a Discriminator calls these layers in turn
            nn.Flatten(),  # (N, 1, 28, 28) -> (N, 784)
            # Not in the article: sizes, LeakyReLU (a ReLU with a slope of 0.2 below 0).
            nn.Linear(28 * 28, 1024), nn.LeakyReLU(0.2),
            nn.Linear(1024, 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 256), nn.LeakyReLU(0.2),
            nn.Linear(256, 1), nn.Sigmoid(),
        )


class Generator(nn.Sequential):
    """Draws digits: (N, 100) random numbers -> (N, 1, 28, 28) images from 0 to 1."""

    def __init__(self):
        super().__init__(
            # Not in the article: sizes, SiLU (a smooth ReLU), which draws better digits.
            nn.Linear(NOISE_SIZE, 256), nn.SiLU(),
            nn.Linear(256, 512), nn.SiLU(),
            nn.Linear(512, 1024), nn.SiLU(),
            # Not in the article: Hardtanh cuts off below 0 and above 1, for exact black.
            nn.Linear(1024, 28 * 28), nn.Hardtanh(0.0, 1.0),
            nn.Unflatten(1, (1, 28, 28)),  # (N, 784) -> (N, 1, 28, 28)
        )


def train(images, num_epochs, batch_size, lr, device, run):
    """The article's two loops. `run` shows the progress and saves after each epoch."""
    loader = DataLoader(images, batch_size, shuffle=True)  # a tensor is a data set too
    discriminator = Discriminator().to(device)
    generator = Generator().to(device)
    criterion = nn.BCELoss()  # the mean of -log(p) for labels of 1, -log(1 - p) for 0
    # Not in the article: no momentum, the first of Adam's two betas. With its usual 0.9
    # the discriminator wins: it gets too sure for the generator to learn from it.
    betas = (0.0, 0.999)  # `fused`, below, is only faster
    d_optimizer = optim.Adam(discriminator.parameters(), lr, betas, fused=True)
    g_optimizer = optim.Adam(generator.parameters(), lr, betas, fused=True)
    # Not in the article: a running mean of the generator's weights, over about the last
    # 1 / (1 - 0.998) = 500 batches, draws better than the generator itself.
    averaged = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    # Not in the article: `run` saves these, and with --resume it loads them first.
    parts = [discriminator, generator, averaged, d_optimizer, g_optimizer]
    first_epoch = run.restore(parts)  # 1, unless --resume

    for epoch in range(first_epoch, num_epochs + 1):
        run.begin_epoch(epoch)  # a new random seed: --resume goes on as if never stopped
        for number, real_images in enumerate(loader, start=1):
            # (1) The real images. Their labels are all 1.
            real_images = real_images.to(device)  # (N, 1, 28, 28)
            size = real_images.size(0)
            real_labels = torch.ones(size, 1, device=device)
            # (2) Noise: 100 random numbers for each image.
            noise = torch.randn(size, NOISE_SIZE, device=device)
            # (3) Fake images, labels 0. `detach`: no gradient of (4) comes here.
            fake_images = generator(noise).detach()
            fake_labels = torch.zeros(size, 1, device=device)
            # (4) Train the discriminator D on both: its loss is the sum of both losses.
            # Not in the article: dropout makes random pixels black (the rest brighter, to
            # keep the mean), so that D does not get too sure.
            on_real = discriminator(nn.functional.dropout(real_images, HIDDEN_PIXELS))
            on_fake = discriminator(nn.functional.dropout(fake_images, HIDDEN_PIXELS))
            d_loss = criterion(on_real, real_labels) + criterion(on_fake, fake_labels)
            d_optimizer.zero_grad()  # also clears what (6) of the batch before left in D
            d_loss.backward()
            d_optimizer.step()
            # (5a) New fake images, this time without `detach`.
            fake_images = generator(torch.randn(size, NOISE_SIZE, device=device))
            # (5b) What the updated D predicts for them. No dropout: D does not learn now.
            predictions = discriminator(fake_images)
            # (6) Train the generator with labels of 1: at a loss of 0, all pass for real.
            g_loss = criterion(predictions, real_labels)
            g_optimizer.zero_grad()
            g_loss.backward()
            g_optimizer.step()
            averaged.update_parameters(generator)
            # Not in the article: progress, where on_real is called D(x), on_fake D(G(z)).
            run.show_progress(number, len(loader), d_loss, g_loss, on_real, on_fake)
        run.save_epoch(averaged, parts)


# The rest: progress, files, options. The article has only the animation of it.


class Run:
    """One training: its folder, and its options, with the means of each epoch."""

    names = ["D loss", "G loss", "D(x)", "D(G(z))"]  # of the means
    kept = ["batch_size", "rate", "seed", "epochs", "device", "data_dir", "history"]

    def __init__(self, folder, options, device):
        self.folder, self.options = folder, options
        torch.manual_seed(options.seed)  # also for the networks' first weights
        self.noise = torch.randn(64, NOISE_SIZE).to(device)  # the same for all pictures

    def restore(self, parts):
        """Load the parts from a checkpoint, if any. Returns the first epoch to train."""
        for part, state in zip(parts, self.options.states):
            part.load_state_dict(state)
        return len(self.options.history) + 1

    def begin_epoch(self, epoch):
        """Give the epoch random numbers of its own, the same with --resume."""
        torch.manual_seed(self.options.seed * 1_000_000 + epoch)
        self.epoch, self.totals, self.started = epoch, 0, time.monotonic()

    def show_progress(self, number, num_batches, *values):
        """Print the epoch's means in a line at its end; on a terminal also during it."""
        self.totals += torch.stack([value.detach().mean() for value in values])
        # Jupyter's stdout also calls itself a terminal, but is not sys.__stdout__.
        terminal = sys.stdout is sys.__stdout__ and sys.stdout.isatty()
        live = number < num_batches  # to be overwritten by the next
        if live and (number % 20 > 0 or not terminal):
            return
        self.means = (self.totals / number).tolist()
        batches_left = (self.options.epochs - self.epoch + 1) * num_batches - number
        left = (time.monotonic() - self.started) / number * batches_left  # seconds
        text = "".join(f"  {name} {x:.2f}" for name, x in zip(self.names, self.means))
        line = f"epoch {self.epoch:2}/{self.options.epochs}{text}{left:6.0f} s left"
        columns = shutil.get_terminal_size().columns - 1
        print(line[:columns] if live else line, end="\r" if live else "\n", flush=True)

    def save_epoch(self, averaged, parts):
        """Save the epoch's pictures and weights; a checkpoint means that all is there."""
        if not self.means[0] < 20:  # the D loss is nan, or far above guessing, 1.39
            raise FloatingPointError
        self.options.history.append(self.means)
        samples = self.folder / f"epoch_{self.epoch:03}.png"
        save(samples, lambda file: utils.save_image(averaged(self.noise), file, "PNG"))
        axes = Figure(figsize=(8, 5), layout="constrained").subplots()  # no window
        axes.plot(range(1, self.epoch + 1), self.options.history, ".-", label=self.names)
        axes.set(xlabel="epoch", ylabel="mean of the epoch", ylim=(0, None))
        axes.legend()
        save(self.folder / "losses.png", axes.figure.savefig)
        grids = map(Image.open, sorted(self.folder.glob("epoch_*.png")))  # opened in turn
        gif = dict(format="GIF", save_all=True, append_images=grids, duration=200, loop=0)
        save(self.folder / "training.gif", lambda file: next(grids).save(file, **gif))
        weights = {key: w.cpu() for key, w in averaged.module.state_dict().items()}
        save(self.folder / "generator.pt", lambda file: torch.save(weights, file))
        checkpoint = {name: getattr(self.options, name) for name in self.kept}
        checkpoint["states"] = [part.state_dict() for part in parts]
        save(self.folder / "checkpoint.pt", lambda file: torch.save(checkpoint, file))


def save(path, write):
    """Let `write` fill a file in memory, then put it in its place: never half a file."""
    content, temporary = io.BytesIO(), path.with_name(path.name + ".part")
    write(content)
    with one_line(f"Cannot write {path}", OSError):
        temporary.write_bytes(content.getbuffer())
        with suppress(PermissionError):  # on Windows, while another program reads it
            return temporary.replace(path)
        time.sleep(2)
        temporary.replace(path)


@contextmanager
def one_line(message, *errors):
    """If one of these errors comes up, end with one line: the message and the reason."""
    try:
        yield
    except errors as error:
        sys.exit(f"{message}. {type(error).__name__}: {error}".partition("\n")[0])


def usable_device(name):
    """The device of this name, by default the GPU; the CPU if that cannot be used."""
    name = name or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        torch.ones(1, device=name).item()  # try it
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:  # the second: PyTorch without CUDA
        print(f"On the CPU: {name} cannot be used,", str(error).partition("\n")[0])
        return torch.device("cpu")


def new_folder(path):
    """Make this folder; by default the first free one of outputs/run_1, run_2 ..."""
    outputs = Path(__file__).parent / "outputs"
    for folder in [path] if path else [outputs / f"run_{n}" for n in range(1, 10_000)]:
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    sys.exit(f"{folder} is already there: give --output-dir a new name.")


def parse_options(argv):
    """The options; with --resume, those of its run and the rest of its checkpoint."""
    parser = argparse.ArgumentParser(usage="%(prog)s [options]")
    parser.set_defaults(history=[], states=[])  # with --resume, from the checkpoint
    add = parser.add_argument
    add("--epochs", type=int, default=NUM_EPOCHS, help="passes over the images, in all")
    add("--batch-size", type=int, default=BATCH_SIZE, help="images in a batch")
    add("--lr", type=float, dest="rate", default=LEARNING_RATE, help="learning rate")
    add("--seed", type=int, default=0, help="another one draws other digits")
    add("--device", help="cpu, cuda, mps ... (default: a GPU, if there is one)")
    add("--data-dir", help="where MNIST is (default: data, beside this file)")
    add("--output-dir", type=Path, help="a new folder (default: outputs/run_1 and so on)")
    add("--resume", type=Path, metavar="DIR", help="go on with the run in this folder")
    options = parser.parse_args(argv)
    if options.resume:
        with one_line(f"Cannot go on with {options.resume}", Exception):
            saved = torch.load(options.resume / "checkpoint.pt", "cpu", weights_only=True)
            parser.set_defaults(**{name: saved[name] for name in [*Run.kept, "states"]})
        options = parser.parse_args(argv)  # what is not given comes from the checkpoint
        if options.output_dir or any(vars(options)[n] != saved[n] for n in Run.kept[:3]):
            parser.error("--resume can't change --output-dir, --batch-size, --lr, --seed")
    if min(options.epochs, options.batch_size) < 1 or not 0 < options.rate <= 1:
        parser.error("--epochs and --batch-size must be at least 1, --lr above 0 to 1")
    return options


def main(argv=None):
    """Train a GAN as the options say. Each epoch's files are in the run's folder."""
    options = parse_options(argv)
    if options.epochs <= len(options.history):
        sys.exit(f"{len(options.history)} epochs are done: --epochs N continues up to N.")
    torch.set_float32_matmul_precision("medium")  # faster, less exact
    device = usable_device(options.device)
    data_dir = Path(options.data_dir or Path(__file__).with_name("data"))
    hint = "broken? Delete all but .gz. Read-only? Copy the folder data, use --data-dir"
    with one_line(f"Cannot get MNIST from {data_dir / 'MNIST/raw'}: {hint}", Exception):
        datasets.MNIST(data_dir, download=True)  # not load_mnist: its errors show in full
    images = load_mnist(data_dir)
    with one_line("Cannot make a folder for the files: give --output-dir", OSError):
        folder = options.resume or new_folder(options.output_dir)
    print(f"{len(images):,} images on {device}, files in {folder}", flush=True)
    save(folder / "real.png", lambda file: utils.save_image(images[:64], file, "PNG"))
    run = Run(folder, options, device)
    try:
        train(images, options.epochs, options.batch_size, options.rate, device, run)
    except FloatingPointError:
        sys.exit("Training has failed: start again with a lower --lr.")
    except BaseException as error:
        if (folder / "checkpoint.pt").exists():
            go_on = f'python "{__file__}" --resume "{folder}" --epochs {options.epochs}'
            print("\nTo go on:", go_on, flush=True)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(130)
        raise


if __name__ == "__main__":
    main()
