"""What the tests share: a small MNIST of real digits, and runs of the script."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
SCRIPT = ROOT / "gan_mnist.py"
RAW = ROOT / "data" / "MNIST" / "raw"

from torchvision.datasets import MNIST  # noqa: E402

import gan_mnist  # noqa: E402


def command(*arguments, script=SCRIPT, before="", **how):
    """Run the script in a process of its own. `before` is Python to run first."""
    words = [sys.executable, script]
    if before:
        words[1:] = ["-c", f"import runpy, sys; sys.argv = sys.argv[1:]\n{before}\n"
                     "runpy.run_path(sys.argv[0], run_name='__main__')", script]  # fmt: skip
    words += map(str, arguments)
    return subprocess.run(words, capture_output=True, text=True, timeout=200, **how)


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
    target = tmp_path_factory.mktemp("small_mnist") / "MNIST" / "raw"
    target.mkdir(parents=True)
    for part in ("train", "t10k"):
        for name, header, size in (
            (f"{part}-images-idx3-ubyte", struct.pack(">4i", 2051, 2000, 28, 28), 784),
            (f"{part}-labels-idx1-ubyte", struct.pack(">2i", 2049, 2000), 1),
        ):
            digits = (RAW / name).read_bytes()[len(header) : len(header) + 2000 * size]
            (target / name).write_bytes(header + digits)
    return target.parent.parent


@pytest.fixture(scope="session")
def options(small_mnist):
    """5 updates an epoch."""
    return ("--data-dir", small_mnist, "--epochs", 3, "--batch-size", 400, "--device", "cpu")


@pytest.fixture(scope="session")
def finished_run(options, tmp_path_factory):
    """The folder of an uninterrupted run, and what it printed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = command(*options, "--output-dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
