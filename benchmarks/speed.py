"""How fast is the loop? The article's, ours, and what the hardware needs at least, in turn in one run.

    python benchmarks/speed.py [--profile]

- textbook: the loop of the article as a reader would type it (tests/textbook.py), digits converted one by one
- ours:     `train` of gan_mnist.py with its own loader
- floor:    the bare matrix products of one update at the same precision as ours, and one pass of Adam

The machine is rarely quiet: trust the ratios, which come from runs in turn, not the times.
"""

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import textbook  # noqa: E402

from gan_mnist import GAN, load_mnist, train  # noqa: E402

LR = 6e-4
D_SIZES = (784, 1024, 512, 256, 1)
G_SIZES = (100, 256, 512, 1024, 784)


def textbook_loop(batch_size, device):
    """A function that makes `updates` updates of each network as the article does."""
    loader = textbook.make_loader(ROOT / "data", batch_size)
    discriminator, generator = (
        textbook.make_discriminator().to(device),
        textbook.make_generator().to(device),
    )
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=1e-4) for network in (discriminator, generator)
    ]

    def loop(updates):
        torch.set_float32_matmul_precision("highest")  # PyTorch's default
        for images, _ in itertools.islice(loader, updates):
            textbook.train_on_batch(discriminator, generator, *optimizers, images.to(device))

    return loop


def our_loop(batch_size, device):
    """The same with the script's own loader and `train`."""
    loader, gan = load_mnist(ROOT / "data", batch_size, device), GAN(LR, device)

    def loop(updates):
        torch.set_float32_matmul_precision("medium")  # as `main` does
        train(gan, itertools.islice(loader, updates), 1, 0, lambda epoch, batch, totals: None)

    return loop


def floor_loop(batch_size, device):
    """The matrix products that no implementation can leave out, into memory that is there, and one fused Adam."""
    products = []

    def forward(sizes, rows):
        for fan_in, fan_out in itertools.pairwise(sizes):
            products.append(
                (matrix(rows, fan_in), matrix(fan_out, fan_in).T, matrix(rows, fan_out))
            )

    def backward(sizes, rows, to_weights, to_input):
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            gradient = matrix(rows, fan_out)
            if to_weights:
                products.append((gradient.T, matrix(rows, fan_in), matrix(fan_out, fan_in)))
            if layer > 0 or to_input:
                products.append((gradient, matrix(fan_out, fan_in), matrix(rows, fan_in)))

    def matrix(rows, columns):
        return torch.randn(rows, columns, device=device)

    forward(
        G_SIZES, batch_size
    )  # the discriminator's step: fakes without gradients, one pass over real and fake
    forward(D_SIZES, 2 * batch_size)
    backward(D_SIZES, 2 * batch_size, to_weights=True, to_input=False)
    forward(
        G_SIZES, batch_size
    )  # the generator's step, through the discriminator but not into its weights
    forward(D_SIZES, batch_size)
    backward(D_SIZES, batch_size, to_weights=False, to_input=True)
    backward(G_SIZES, batch_size, to_weights=True, to_input=False)
    weights = [
        matrix(fan_out, fan_in)
        for sizes in (D_SIZES, G_SIZES)
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]
    for weight in weights:
        weight.grad = 1e-3 * torch.randn_like(weight)
    optimizer = torch.optim.Adam(weights, lr=LR, fused=True)

    def loop(updates):
        torch.set_float32_matmul_precision("medium")
        for _ in range(updates):
            for a, b, out in products:
                torch.mm(a, b, out=out)
            optimizer.step()

    return loop


LOOPS = {"textbook": textbook_loop, "ours": our_loop, "floor": floor_loop}


def seconds(loop, updates, device):
    started = time.perf_counter()
    loop(updates)
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started


def peak_megabytes(what, batch_size, device):
    """Peak memory of a process of its own that makes 30 updates, or only imports (`what` is "imports")."""
    arguments = [
        sys.executable,
        __file__,
        "--peak",
        what,
        "--batch-size",
        str(batch_size),
        "--device",
        device,
    ]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def compare(batch_size, device, updates, rounds):
    loops = {name: make(batch_size, device) for name, make in LOOPS.items()}
    times = {name: [] for name in loops}
    for loop in loops.values():
        loop(20)  # warm up
    for _ in range(rounds):
        for name, loop in loops.items():
            times[name].append(seconds(loop, updates, device) / updates * 1000)
    imports = peak_megabytes("imports", batch_size, device)
    print(f"\n{device}, batch {batch_size}: {rounds} rounds of {updates} updates each, in turn")
    print(
        "          ms an update: median     min     max   seconds an epoch   peak MB above the imports"
    )
    for name, values in times.items():
        median = statistics.median(values)
        memory = peak_megabytes(name, batch_size, device) - imports
        epoch = median / 1000 * 60_000 / batch_size
        print(
            f"{name:10} {median:20.2f} {min(values):7.2f} {max(values):7.2f} {epoch:18.1f} {memory:20}"
        )
    for above, below in (("textbook", "ours"), ("ours", "floor")):
        ratios = [a / b for a, b in zip(times[above], times[below], strict=True)]
        print(
            f"{above}/{below}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
        )


def profile(batch_size, device):
    loop = our_loop(batch_size, device)
    loop(20)
    with torch.profiler.profile() as profiler:
        loop(50)
    print(f"\n50 updates of ours, {device}, batch {batch_size}")
    print(
        profiler.key_averages().table(
            sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=45
        )
    )


def main():
    parser = argparse.ArgumentParser(
        description="Compare the article's loop, ours and the least the hardware needs."
    )
    parser.add_argument("--batch-size", type=int, help="only this batch size (default: 32 and 100)")
    parser.add_argument(
        "--device", help="only this device (default: the CPU and, if there is one, the GPU)"
    )
    parser.add_argument(
        "--updates", type=int, default=100, help="updates in a round (default: 100)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="times that each loop has its turn (default: 7)"
    )
    parser.add_argument(
        "--profile", action="store_true", help="print the costliest operators of our loop"
    )
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        if options.peak != "imports":
            LOOPS[options.peak](options.batch_size, options.device)(30)
        status = Path("/proc/self/status").read_text()  # Linux
        print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024)
        return
    devices = ["cpu"] + (
        [torch.accelerator.current_accelerator().type] if torch.accelerator.is_available() else []
    )
    for device in [options.device] if options.device else devices:
        for batch_size in [options.batch_size] if options.batch_size else [32, 100]:
            if options.profile:
                profile(batch_size, device)
            else:
                compare(batch_size, device, options.updates, options.rounds)


if __name__ == "__main__":
    main()
