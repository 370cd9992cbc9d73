"""What the tests share: a small MNIST of real digits, and runs of the script."""

import multiprocessing
import os
import runpy
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
SCRIPT = ROOT / "gan_mnist.py"
FILES = {"real.png", "losses.png", "training.gif", "generator.pt", "checkpoint.pt"}

from torchvision.datasets import MNIST  # noqa: E402

import gan_mnist  # noqa: E402

# Python to run before the script: what {action} says, before the update of both networks with
# this number.
AT_UPDATE = """
import os, pathlib, signal, time, torch
step, count = torch.optim.Adam.step, 0
def step_and_act(self, *args, **kwargs):
    global count
    count += 1
    if count == 2 * {number}:
        {action}
    return step(self, *args, **kwargs)
torch.optim.Adam.step = step_and_act
"""

# A shell starts what it runs in the background with Ctrl-C ignored. Here it has to count.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes are forked from one that has imported the packages: that saves seconds for each.
FORKS = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
if FORKS:
    SERVER = multiprocessing.get_context("forkserver")
    SERVER.set_forkserver_preload(["torch", "torchvision", "matplotlib.figure"])


def child(arguments, before, limit, script, output, errors):
    os.dup2(os.open(output, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = [script, *arguments]
    exec(before, {})
    runpy.run_path(script, run_name="__main__")


def command(*arguments, before="", limit=None, script=SCRIPT):
    """Run the script in a process of its own and wait for it. `before` is Python to run first,
    `limit` the size in bytes that no file may exceed."""
    if not FORKS:
        pytest.skip("needs processes forked from a server")
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        arguments = [str(argument) for argument in arguments]
        details = (arguments, before, limit, str(script), output.name, errors.name)
        process = SERVER.Process(target=child, args=details)
        process.start()
        process.join(200)
        assert process.exitcode is not None, "the command does not end"
        return subprocess.CompletedProcess(script, process.exitcode, output.read(), errors.read())


def run_main(*arguments):
    """Run the script's `main` in this process."""
    gan_mnist.main([str(argument) for argument in arguments])


def contents(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory):
    """A data folder with the first 2,000 digits, unpacked, as torchvision expects them."""
    MNIST(ROOT / "data", download=True)
    data_dir = tmp_path_factory.mktemp("small_mnist")
    source, target = ROOT / "data/MNIST/raw", data_dir / "MNIST/raw"
    target.mkdir(parents=True)
    for part in ("train", "t10k"):
        for name, header, size in (
            (f"{part}-images-idx3-ubyte", struct.pack(">4i", 2051, 2000, 28, 28), 784),
            (f"{part}-labels-idx1-ubyte", struct.pack(">2i", 2049, 2000), 1),
        ):
            digits = (source / name).read_bytes()[len(header) : len(header) + 2000 * size]
            (target / name).write_bytes(header + digits)
    return data_dir


@pytest.fixture(scope="session")
def options(small_mnist):
    """20 updates an epoch."""
    return ("--data-dir", small_mnist, "--epochs", 3, "--batch-size", 100, "--device", "cpu")


@pytest.fixture(scope="session")
def finished_run(options, tmp_path_factory):
    """The folder of an uninterrupted run, and what it printed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = command(*options, "--output-dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout
