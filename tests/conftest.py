"""What the tests share: a small MNIST of real digits, and the command run as a person runs it."""

import multiprocessing
import os
import resource
import runpy
import signal
import struct
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

from torchvision.datasets import MNIST  # noqa: E402

SCRIPT = str(ROOT / "gan_mnist.py")
SMALL = 2000  # digits


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


# Lines of Python that a test can put before the command.
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise OSError("the test has cut the network off")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
"""


# A shell starts what it runs in the background with Ctrl-C ignored, and processes pass that on. Here it has to count.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes are forked from one that has imported the packages already: that saves seconds for each.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "torchvision", "matplotlib.figure", "PIL.Image"])


def child(arguments, before, limit, output, errors):
    os.dup2(os.open(output, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = [SCRIPT, *arguments]
    exec(before, {})
    runpy.run_path(SCRIPT, run_name="__main__")


def command(*arguments, before="", limit=None):
    """Run `gan_mnist.py` with these arguments in a process of its own and wait for it.

    `before` is Python to run first, `limit` the size in bytes that no file may exceed.
    """
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        process = FORKS.Process(target=child, args=([*map(str, arguments)], before, limit, output.name, errors.name))
        process.start()
        process.join(200)
        assert process.exitcode is not None, "the command does not end"
        return Done(process.exitcode, output.read(), errors.read())


def command_line(*arguments):
    return [sys.executable, SCRIPT, *map(str, arguments)]


def write_small_mnist(data_dir):
    """The first 2,000 real digits of each part of MNIST, unpacked, as torchvision expects them."""
    MNIST(ROOT / "data", download=True)
    source, target = ROOT / "data" / "MNIST" / "raw", data_dir / "MNIST" / "raw"
    target.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = (source / f"{part}-images-idx3-ubyte").read_bytes()[16 : 16 + SMALL * 28 * 28]
        labels = (source / f"{part}-labels-idx1-ubyte").read_bytes()[8 : 8 + SMALL]
        (target / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, SMALL, 28, 28) + pixels)
        (target / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, SMALL) + labels)
    return data_dir


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory):
    return write_small_mnist(tmp_path_factory.mktemp("small_mnist"))


@pytest.fixture(scope="session")
def finished_run(small_mnist, tmp_path_factory):
    """The folder of an uninterrupted run of 3 epochs on the small MNIST, and what the command printed."""
    folder = tmp_path_factory.mktemp("finished_run")
    done = command("--data-dir", small_mnist, "--output-dir", folder, "--epochs", 3, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout
