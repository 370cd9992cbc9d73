"""What the tests share: a small MNIST of real digits, and the command run as a person runs it."""

import multiprocessing
import os
import runpy
import signal
import struct
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

from torchvision.datasets import MNIST  # noqa: E402

from gan_mnist import train  # noqa: E402

SCRIPT = str(ROOT / "gan_mnist.py")
SMALL = 2000  # digits
FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows


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
# What {action} says, before the update of the networks with this number.
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


# A shell starts what it runs in the background with Ctrl-C ignored, and processes pass that on.
# Here it has to count.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes are forked from one that has imported the packages already: that saves seconds for each.
if FORKSERVER:
    FORKS = multiprocessing.get_context("forkserver")
    FORKS.set_forkserver_preload(["torch", "torchvision", "matplotlib.figure", "PIL.Image"])


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
    """Run `gan_mnist.py` with these arguments in a process of its own and wait for it.

    `before` is Python to run first, `limit` the size in bytes that no file may exceed.
    """
    if not FORKSERVER:
        pytest.skip("needs processes forked from a server")
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        process = FORKS.Process(
            target=child,
            args=([*map(str, arguments)], before, limit, str(script), output.name, errors.name),
        )
        process.start()
        process.join(200)
        assert process.exitcode is not None, "the command does not end"
        return Done(process.exitcode, output.read(), errors.read())


def command_line(*arguments, before=""):
    """The same as a command line, for tests that look at the process while it runs."""
    run = f"import runpy; runpy.run_path({SCRIPT!r}, run_name='__main__')"
    start = ["-c", f"{before}\n{run}"] if before else [SCRIPT]
    return [sys.executable, *start, *map(str, arguments)]


def finish(*arguments):
    """Let `train` train to its end."""
    deque(train(*arguments), maxlen=0)


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def write_small_mnist(data_dir, digits=SMALL):
    """The first real digits of each part of MNIST, unpacked, as torchvision expects them."""
    MNIST(ROOT / "data", download=True)
    source, target = ROOT / "data" / "MNIST" / "raw", data_dir / "MNIST" / "raw"
    target.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = (source / f"{part}-images-idx3-ubyte").read_bytes()[16 : 16 + digits * 28 * 28]
        labels = (source / f"{part}-labels-idx1-ubyte").read_bytes()[8 : 8 + digits]
        images, labels_file = (
            target / f"{part}-{name}-ubyte" for name in ("images-idx3", "labels-idx1")
        )
        images.write_bytes(struct.pack(">4i", 2051, digits, 28, 28) + pixels)
        labels_file.write_bytes(struct.pack(">2i", 2049, digits) + labels)
    return data_dir


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory):
    return write_small_mnist(tmp_path_factory.mktemp("small_mnist"))


@pytest.fixture(scope="session")
def finished_run(small_mnist, tmp_path_factory):
    """The folder of an uninterrupted run of 3 epochs on the small MNIST, and what it printed."""
    folder = tmp_path_factory.mktemp("finished_run")
    options = ("--data-dir", small_mnist, "--output-dir", folder, "--device", "cpu")
    done = command(*options, "--epochs", 3, "--batch-size", 100)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def options(small_mnist, tmp_path):
    """The options of that run, in a folder of the test's own."""
    return ("--data-dir", small_mnist, "--output-dir", tmp_path / "out", "--device", "cpu",
            "--epochs", 3, "--batch-size", 100)  # fmt: skip
