"""Train a GAN to draw handwritten digits, as told in "An Easy Introduction to
Generative Adversarial Networks in Deep Learning" (George Seif, 2019).

Read to the end of update_average(): that is the article, with its steps (1) to (6).
The rest is files and options. (+) marks what the article does not have."""

import argparse
import io
import math
import os
import sys
import time
from pathlib import Path
from pickle import UnpicklingError

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn, optim
from torch.nn.functional import dropout
from torch.utils.data import DataLoader
from torchvision import datasets, utils

# Settings. If you go on with a run (--resume), you may change all but NOISE_SIZE.
NUM_EPOCHS = 40  # an epoch uses every image once
BATCH_SIZE = 100  # images
LEARNING_RATE = 8e-4  # by trial
# (+) For Adam, the optimizer. The first is momentum, how much of the last steps goes into
# the next: 0.9, PyTorch's default, made all fakes alike. The second (default) is that of
# a mean of squared gradients, which scales the steps.
BETAS = (0.0, 0.999)
NOISE_SIZE = 100  # random numbers for each drawn image
# (+) Share of the pixels that dropout blackens in (4), brightening the others. Without it
# some digits were drawn less often.
HIDDEN_PIXELS = 0.15


def load_mnist(data_dir):
    """MNIST images: (60000, 1, 28, 28), 0 (black) to 1. A GAN needs no digit labels."""
    try:
        mnist = datasets.MNIST(data_dir, train=True, download=True)
    except (OSError, ValueError, AssertionError, RuntimeError) as error:
        # No network, or a damaged file: the last line of the message says which.
        reason = f"{type(error).__name__}: {error}".splitlines()[-1]
        sys.exit(f"Cannot load MNIST from {data_dir}: {reason}")
    return mnist.data.unsqueeze(1) / 255  # from (60000, 28, 28), 0 to 255


def make_discriminator():
    """(N, 1, 28, 28) images -> (N, 1) probabilities that they are real."""
    return nn.Sequential(
        nn.Flatten(),  # (N, 1, 28, 28) -> (N, 784)
        nn.Linear(28 * 28, 512),  # (+) sizes and activations by trial
        nn.LeakyReLU(0.2),  # x, or 0.2 x where x is below 0
        nn.Linear(512, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 1),
        nn.Sigmoid(),  # to a probability, 0 to 1
    )


def make_generator():
    """(N, 100) random numbers -> (N, 1, 28, 28) images, 0 (black) to 1."""
    return nn.Sequential(
        nn.Linear(NOISE_SIZE, 128),  # (+) sizes and activations by trial
        nn.SiLU(),  # x sigmoid(x): a smooth ReLU
        nn.Linear(128, 128),
        nn.SiLU(),
        nn.Linear(128, 128),
        nn.SiLU(),
        nn.Linear(128, 784),  # hidden, too; the next makes the image
        nn.SiLU(),
        nn.Linear(784, 28 * 28),
        nn.Hardtanh(0.0, 1.0),  # cuts off below 0 and above 1: black is 0, as in MNIST
        nn.Unflatten(1, (1, 28, 28)),  # (N, 784) -> (N, 1, 28, 28)
    )


def train(images, device, folder, run):
    """Train both networks on (M, 1, 28, 28) images; save in `folder` after each epoch.

    `run`, a dict, is what --resume needs: "seed", "num_epochs", "next_epoch", "batches"
    (done so far), "history" (losses etc.), "states" (of networks and optimizers)."""
    torch.manual_seed(run["seed"])  # same seed, same random numbers
    fixed_noise = torch.randn(64, NOISE_SIZE).to(device)  # for the pictures
    loader = DataLoader(images, BATCH_SIZE, shuffle=True)  # batches of images, no labels
    discriminator = make_discriminator().to(device)
    generator = make_generator().to(device)
    # (+) Kaiming He's initial weights (2015) in the generator's hidden layers are larger
    # than nn.Linear's: values shrink less from layer to layer, and digits come sooner.
    for layer in generator[:-3]:  # without the last: Linear, Hardtanh, Unflatten
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight)
    average = make_generator().to(device)  # (+) for a mean of the generator's weights
    criterion = nn.BCELoss()  # -log(p) for a label of 1, -log(1 - p) for a label of 0
    # fused: the same Adam, but faster.
    d_optimizer = optim.Adam(discriminator.parameters(), LEARNING_RATE, BETAS, fused=True)
    g_optimizer = optim.Adam(generator.parameters(), LEARNING_RATE, BETAS, fused=True)
    parts = dict(D=discriminator, G=generator, average=average,
                 d_optimizer=d_optimizer, g_optimizer=g_optimizer)  # all that is saved
    load_states(parts, run["states"])  # with --resume; a new run has none

    for epoch in range(run["next_epoch"], run["num_epochs"] + 1):
        # Each epoch has a seed of its own, so that a resumed run gets the same random
        # numbers as one that never stopped.
        torch.manual_seed(run["seed"] * 1_000_000 + epoch)
        started = time.monotonic()
        batch_means = []  # of losses and predictions
        for real_images in loader:
            # (1) The real images x. Their labels are all 1.
            real_images = real_images.to(device)  # (N, 1, 28, 28)
            size = real_images.size(0)
            real_labels = torch.ones(size, 1, device=device)
            # (2) Noise z: 100 random numbers for each image.
            noise = torch.randn(size, NOISE_SIZE, device=device)
            # (3) The generator G turns it into fake images G(z). Their labels are all 0.
            # detach: no gradients flow back into G, which learns only in (6).
            fake_images = generator(noise).detach()
            fake_labels = torch.zeros(size, 1, device=device)
            # (4) Train the discriminator D on both; its loss is the sum of both losses.
            real_predictions = discriminator(dropout(real_images, HIDDEN_PIXELS))  # (+)
            fake_predictions = discriminator(dropout(fake_images, HIDDEN_PIXELS))  # (+)
            real_loss = criterion(real_predictions, real_labels)
            fake_loss = criterion(fake_predictions, fake_labels)
            d_loss = real_loss + fake_loss
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            # (5a) New fake images, this time to train the generator.
            fake_images = generator(torch.randn(size, NOISE_SIZE, device=device))
            # (5b) The updated D's predictions, without dropout (by trial).
            predictions = discriminator(fake_images)
            # (6) Train G on them against labels of 1: a loss of 0 would mean that every
            # fake is taken for real.
            g_loss = criterion(predictions, real_labels)
            g_optimizer.zero_grad()
            # inputs: gradients go through D, but are not kept for its weights. Faster.
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()

            update_average(average, generator, run["batches"])  # (+)
            run["batches"] += 1
            note_batch(batch_means, d_loss, g_loss, real_predictions, fake_predictions)
        finish_epoch(epoch, folder, run, parts, fixed_noise, batch_means, started)


@torch.no_grad()
def update_average(average, generator, batches):
    """Bring the weights of `average` nearer to the generator's, as a running mean does:
    from batch to batch the generator's weights jump, and their mean draws better."""
    # At first 1: a copy. Then, as older weights fade, about the last tenth of the batches
    # so far counts (by trial).
    count = batches / 10 + 1
    for mean, weight in zip(average.parameters(), generator.parameters()):
        mean.lerp_(weight, 1 / count)  # mean = mean + (weight - mean) / count


# The rest is not about GANs: saving, pictures, options.

HERE = Path(__file__).resolve().parent


def load_states(parts, states):
    """Give networks and optimizers what a run has saved of them."""
    for name, state in states.items():
        if "param_groups" in state:  # an optimizer: keep rate and betas set at the top
            state["param_groups"] = parts[name].state_dict()["param_groups"]
        parts[name].load_state_dict(state)


def note_batch(batch_means, *values):
    """Append the means of the values of a batch; show in a terminal that it goes on."""
    batch_means.append(torch.stack([value.detach().mean() for value in values]))
    if len(batch_means) % 20 == 0 and os.isatty(1):  # 1: the standard output
        print(f"batch {len(batch_means)}", end="\r", flush=True)


def finish_epoch(epoch, folder, run, parts, fixed_noise, batch_means, started):
    """Save all files and print a line; end a training that is lost."""
    means = torch.stack(batch_means).mean(0).tolist()
    d_loss, g_loss, on_real, on_fake = means
    # Usually about 1. In trials, a loss above 28 never fell again.
    if d_loss > 28 or g_loss > 28 or math.isnan(d_loss + g_loss):
        sys.exit("Training has failed: start again with a lower LEARNING_RATE.")
    run["next_epoch"] = epoch + 1
    run["history"].append(means)
    run["states"] = {name: part.state_dict() for name, part in parts.items()}
    with torch.no_grad():
        save_files(epoch, folder, run, parts["average"](fixed_noise))
    num_epochs = run["num_epochs"]
    left = (time.monotonic() - started) * (num_epochs - epoch)
    print(f"epoch {epoch:2}/{num_epochs}  D loss {d_loss:.2f}  G loss {g_loss:.2f} ",
          f"D(x) {on_real:.2f}  D(G(z)) {on_fake:.2f}  {left:4.0f} s left", flush=True)


def save_files(epoch, folder, run, samples):
    """Save the pictures, the averaged generator and, last, what --resume needs."""
    file = io.BytesIO()  # in memory: write() brings it to the disk
    utils.save_image(samples, file, "PNG")  # a grid, 8 x 8
    write(file, folder / f"epoch_{epoch:03}.png")
    file = io.BytesIO()
    plot_history(run["history"]).savefig(file)
    write(file, folder / "losses.png")
    file = io.BytesIO()
    # The GIF shows all grids so far, also those before a --resume. L: grey.
    grids = [folder / f"epoch_{number:03}.png" for number in range(1, epoch + 1)]
    frames = [Image.open(grid).convert("L") for grid in grids if grid.exists()]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=200,
                   loop=0, optimize=False)  # to optimize would be slower
    write(file, folder / "training.gif")
    file = io.BytesIO()
    weights = run["states"]["average"].items()
    torch.save({name: weight.cpu() for name, weight in weights}, file)  # for any machine
    write(file, folder / "generator.pt")
    file = io.BytesIO()
    torch.save(run, file)
    write(file, folder / "checkpoint.pt")


def plot_history(history):
    """The losses and, below them, the predictions of each epoch."""
    epochs, means = range(1, len(history) + 1), torch.tensor(history)
    figure = Figure(figsize=(8, 6))
    losses, predictions = figure.subplots(2)
    # Thin lines: the curves if D always says 0.5.
    losses.axhline(0.693, color="grey", linewidth=0.5)  # -log(0.5)
    losses.axhline(2 * 0.693, color="grey", linewidth=0.5)  # D's: a sum of two
    predictions.axhline(0.5, color="grey", linewidth=0.5)
    # A curve for each column.
    losses.plot(epochs, means[:, :2], ".-", label=["D loss", "G loss"])
    losses.legend()
    predictions.plot(epochs, means[:, 2:], ".-", label=["D(x)", "D(G(z))"])
    predictions.legend()
    predictions.set_xlabel("epoch")
    return figure


def write(file, path):
    """Write a file in memory to the disk. The old one stays until this is complete."""
    part = path.with_name(path.name + ".part")
    for attempt in 1, 2:  # twice: on Windows, another program may have it open
        try:
            part.write_bytes(file.getvalue())
            part.replace(path)
            return
        except OSError as error:
            if attempt == 2:
                sys.exit(f"Cannot write {path}: {error}")
            time.sleep(2)


def find_device(name):
    """The device of this name; if None, a GPU that works, or the CPU."""
    try:
        gpu = torch.accelerator.current_accelerator(check_available=True)  # or None
        device = torch.device(name or gpu or "cpu")
        torch.ones(1, device=device).item()  # a trial: an error if it does not work
        return device
    except (RuntimeError, AssertionError) as error:  # PyTorch raises both
        reason = str(error).splitlines()[0]  # the rest is advice
        if name:
            sys.exit(f"Cannot use --device {name}: {reason}")
        print(f"Cannot use the GPU: {reason}. The CPU is used.")
        return torch.device("cpu")


def new_folder(folder):
    """Make this folder; if None, the first of outputs/run_1, run_2 ... that is free."""
    if folder is None:
        number = 1
        while (HERE / f"outputs/run_{number}").exists():
            number += 1
        folder = HERE / f"outputs/run_{number}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        sys.exit(f"Cannot make a folder: {error}. Give another --output-dir.")
    return folder


def load_run(folder):
    """What a run has saved. weights_only: code hidden in the file is not run."""
    try:
        run = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
        if "next_epoch" not in run:
            raise ValueError("checkpoint.pt is some other file")
        return run
    except (OSError, EOFError, LookupError, RuntimeError, ValueError,
            UnpicklingError) as error:  # which one, depends on the damage
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        sys.exit(f"Cannot go on with {folder}: {reason}")


def read_options(argv):
    """The options in `argv`, a list of words; if None, in the command line."""
    parser = argparse.ArgumentParser(description="Train a GAN to draw digits.")
    parser.add_argument("--epochs", type=int, default=NUM_EPOCHS, help="in all")
    parser.add_argument("--seed", type=int, help="of the random numbers (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, mps ...; else a GPU that works")
    parser.add_argument("--data-dir", type=Path, default=HERE / "data")
    parser.add_argument("--output-dir", type=Path, help="a new folder")
    parser.add_argument("--resume", type=Path, help="the folder of a run to go on with")
    options = parser.parse_args(argv)
    if options.resume and (options.output_dir or options.seed is not None):
        parser.error("--resume keeps the run's --output-dir and --seed")
    return options


def main(argv=None):
    """Train as the options say."""
    options = read_options(argv)
    seed = (options.seed or 0) % 10**12  # train() multiplies it; 64 bits are the limit
    run = {"seed": seed, "next_epoch": 1, "batches": 0, "history": [], "states": {}}
    if options.resume:
        run = load_run(options.resume)
    run["num_epochs"] = options.epochs
    if options.epochs < run["next_epoch"]:
        sys.exit(f"{run['next_epoch'] - 1} epochs are done: --epochs must be more.")
    torch.set_float32_matmul_precision("medium")  # faster, less exact
    device = find_device(options.device)
    images = load_mnist(options.data_dir)
    folder = options.resume or new_folder(options.output_dir)
    print(f"{len(images):,} images on {device}, files in {folder}", flush=True)
    try:
        train(images, device, folder, run)
    except KeyboardInterrupt:
        sys.exit(f'Stopped. If an epoch was finished, go on with --resume "{folder}"')


if __name__ == "__main__":
    main()
