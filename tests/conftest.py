"""What the tests share: a small MNIST of real digits, and ways to run the script."""

import hashlib
import re
import runpy
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import gan_mnist  # noqa: E402


def command(*arguments, before=""):
    """Run the script in a process of its own. `before` is Python to run first."""
    how = ["-Bc", f"{before}\nimport gan_mnist; gan_mnist.main()"] if before else ["gan_mnist.py"]
    words = map(str, [sys.executable, *how, *arguments])
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=200)


def run_main(*arguments, main=gan_mnist.main):
    """Run the script's `main` in this process."""
    main([str(word) for word in arguments])


def edited(folder, *edits, **settings):
    """The `main` of a copy of the script after the reader's edits, each an old and a new text, and
    with these settings at its top."""
    source, script = (ROOT / "gan_mnist.py").read_text(encoding="utf-8"), folder / "edited.py"
    for name, value in settings.items():
        edits += re.search(rf"^{name} = .*", source, re.MULTILINE)[0], f"{name} = {value}"
    for old, new in zip(edits[::2], edits[1::2]):
        assert old in source, old
        source = source.replace(old, new)
    script.write_text(source, encoding="utf-8")
    return runpy.run_path(str(script))["main"]


def plain(value):
    """The same value without tensors."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value.numpy().tobytes() if torch.is_tensor(value) else value


def contents(folder):
    """Each file's name and a hash of its bytes; of a checkpoint, what it holds."""
    found = {}
    for path in filter(Path.is_file, folder.rglob("*")):
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    if (folder / "checkpoint.pt").is_file():
        found["checkpoint.pt"] = plain(torch.load(folder / "checkpoint.pt", weights_only=True))
    return found


@pytest.fixture(scope="session")
def options(tmp_path_factory):
    """Three epochs of 5 updates, with the first 500 digits. The labels are not used."""
    gan_mnist.load_mnist(ROOT / "data")  # unpacks it
    data_dir = shutil.copytree(ROOT / "data", tmp_path_factory.mktemp("small") / "data")
    images = data_dir / "MNIST/raw/train-images-idx3-ubyte"
    pixels = images.read_bytes()[16:][: 500 * 28 * 28]
    images.write_bytes(struct.pack(">4i", 2051, 500, 28, 28) + pixels)
    return ("--data-dir", data_dir, "--device", "cpu", "--epochs", 3)


@pytest.fixture(scope="session")
def finished(options, tmp_path_factory):
    """The folder of an uninterrupted run. What it printed is kept beside it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = command(*options, "--output-dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    folder.with_name("printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def first_epoch(options, tmp_path_factory):
    """The folder of the same run with `--epochs 1`."""
    folder = tmp_path_factory.mktemp("first") / "run"
    run_main(*options, "--epochs", 1, "--output-dir", folder)
    return folder


@pytest.fixture
def begun(first_epoch, tmp_path):
    """A copy of it, to go on with."""
    return shutil.copytree(first_epoch, tmp_path / "a run's folder")
