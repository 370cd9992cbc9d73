"""How fast is the loop? The simplest one, ours, and what the hardware needs at least, in turn.

    python benchmarks/speed.py [--profile]

- textbook: tests/textbook.py, the loop in its simplest form with the notebooks' settings
- ours:     `train` of gan_mnist.py
- floor:    the bare matrix products of one update in the precision of ours, and one pass of Adam

A machine is rarely quiet: trust the ratios, which come from runs in turn, not the times.
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

from gan_mnist import GAN, load_mnist, parse_options, train  # noqa: E402

D_SIZES = (784, 1024, 512, 256, 1)
G_SIZES = (100, 256, 512, 1024, 784)


def textbook_loop(batch_size, device):
    """A function that makes `updates` updates of each network with the textbook's loop."""
    loader = textbook.make_loader(ROOT / "data", batch_size)
    networks = textbook.make_discriminator().to(device), textbook.make_generator().to(device)
    optimizers = textbook.make_optimizers(*networks)

    def loop(updates):
        torch.set_float32_matmul_precision("highest")  # PyTorch's default
        for images, _ in itertools.islice(loader, updates):
            textbook.train_on_batch(*networks, *optimizers, images.to(device))

    return loop


def our_loop(batch_size, device):
    """The same with the script's `train`."""
    digits, gan = load_mnist(ROOT / "data", device), GAN(parse_options([]).lr, device)

    def loop(updates):
        torch.set_float32_matmul_precision("medium")  # as `main` does
        for _ in itertools.islice(train(gan, digits, batch_size, 100, 0), updates):
            pass

    return loop


def floor_loop(batch_size, device):
    """The matrix products that no implementation can leave out, and one fused Adam."""
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
    optimizer = torch.optim.Adam(weights, lr=textbook.LR, fused=True)

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
    """Peak memory of a process of its own that makes 30 updates, or only imports (`what` is
    "imports"). None where the system does not tell."""
    arguments = ["--peak", what, "--batch-size", str(batch_size), "--device", device]
    process = [sys.executable, __file__, *arguments]
    printed = subprocess.run(process, capture_output=True, text=True, check=True).stdout
    return int(printed) if printed.strip() else None


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
    print("          ms an update: median     min     max   seconds an epoch   MB above imports")
    for name, values in times.items():
        median = statistics.median(values)
        peak = peak_megabytes(name, batch_size, device)
        memory = "-" if peak is None else peak - imports
        epoch = median / 1000 * 60_000 / batch_size
        print(
            f"{name:10} {median:20.2f} {min(values):7.2f} {max(values):7.2f} "
            f"{epoch:18.1f} {memory:>18}"
        )
    for above, below in (("textbook", "ours"), ("ours", "floor")):
        ratios = [a / b for a, b in zip(times[above], times[below], strict=True)]
        print(
            f"{above}/{below}: {statistics.median(ratios):.2f} "
            f"(from {min(ratios):.2f} to {max(ratios):.2f})"
        )


def profile(batch_size, device):
    loop = our_loop(batch_size, device)
    loop(20)
    with torch.profiler.profile() as profiler:
        loop(50)
    print(f"\n50 updates of ours, {device}, batch {batch_size}")
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=15)
    print(table)


def main():
    parser = argparse.ArgumentParser(description="Compare the simplest loop, ours and the floor.")
    add = parser.add_argument
    add("--batch-size", type=int, default=textbook.BATCH_SIZE, help="(default: the notebooks')")
    add("--device", help="only this device (default: the CPU and, if there is one, the GPU)")
    add("--updates", type=int, default=100, help="updates in a round (default: 100)")
    add("--rounds", type=int, default=7, help="times that each loop has its turn (default: 7)")
    add("--profile", action="store_true", help="print the costliest operators of our loop")
    add("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        if options.peak != "imports":
            LOOPS[options.peak](options.batch_size, options.device)(30)
        status = Path("/proc/self/status")  # Linux
        if status.exists():
            print(int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) // 1024)
        return
    devices = [options.device] if options.device else ["cpu"]
    if not options.device and torch.accelerator.is_available():
        devices.append(torch.accelerator.current_accelerator().type)
    for device in devices:
        if options.profile:
            profile(options.batch_size, device)
        else:
            compare(options.batch_size, device, options.updates, options.rounds)


if __name__ == "__main__":
    main()
