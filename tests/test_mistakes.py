"""Each mistake that a person is likely to make ends in one clear line, an exit code that is not
0, and with nothing lost. A slip in the reader's own edit keeps Python's traceback."""

import os
import shutil
import socket

import pytest
import torch
from conftest import AT_UPDATE, ROOT, SCRIPT, command, contents, run_main

import gan_mnist

RAW = ROOT / "data" / "MNIST" / "raw"


def stops_with(*words, arguments):
    """Does `main` stop with one line that has these words?"""
    with pytest.raises(SystemExit) as stop:
        run_main(*arguments)
    line = stop.value.code
    assert isinstance(line, str) and "\n" not in line, line
    assert all(str(word) in line for word in words), line


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("the test has cut the network off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    "argument",
    [
        *("--epochs=0", "--epochs=many", "--epochs=1.5", "--batch-size=0", "--seed=1e3", "--what"),
        *("--lr=0", "--lr=-1", "--lr=1.1", "--lr=1e30", "--lr=nan", "--lr=inf", "--lr=fast"),
    ],
)
def test_options_that_cannot_be(argument, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(argument, "--output-dir", tmp_path / "run")
    usage, line = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and usage.startswith("usage: ")
    assert argument.split("=")[0] in line and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", None])
def test_a_device_that_cannot_be_used(name, monkeypatch, capsys):
    """PyTorch's `meta` stands in for a GPU that is there but does not work."""
    meta = torch.device("meta")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: meta)
    assert gan_mnist.usable_device(name) == torch.device("cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"On the CPU: {name or meta} cannot be used, ") and len(line) > 50


@pytest.mark.parametrize("name", ["full", "file", "file/below"])
def test_output_folder_that_cannot_be_made(name, options, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / name
    stops_with(folder, "--output-dir", arguments=[*options, "--output-dir", folder])
    assert contents(tmp_path) == {"file": b"mine"}


def test_no_data_and_no_network(tmp_path, no_network):
    words = tmp_path, "train-images-idx3-ubyte.gz", "Copy the folder data", "--data-dir"
    stops_with(*words, arguments=["--data-dir", tmp_path, "--output-dir", tmp_path / "run"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), EOFError()])
def test_data_that_cannot_be_unpacked(error, tmp_path, monkeypatch):
    """A clone that the user may not write to; an error that gives no reason."""

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(gan_mnist.datasets.MNIST, "__init__", fail)
    words = f". {type(error).__name__}: ", "Copy the folder data", "--data-dir"
    stops_with(*words, arguments=["--data-dir", tmp_path, "--output-dir", tmp_path / "run"])


@pytest.mark.parametrize("size", [0, 3, 15, 1500])
def test_unpacked_file_cut_short_and_how_to_mend_it(size, tmp_path, no_network):
    shutil.copytree(RAW, tmp_path / "MNIST" / "raw")
    raw = tmp_path / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").write_bytes(
        (RAW / "train-images-idx3-ubyte").read_bytes()[:size]
    )
    arguments = ["--data-dir", tmp_path, "--output-dir", tmp_path / "run"]
    stops_with(raw, "broken? Delete all but .gz.", arguments=arguments)
    for path in raw.iterdir():
        if path.suffix != ".gz":
            path.unlink()
    assert len(gan_mnist.load_mnist(tmp_path)) == 60_000


@pytest.mark.parametrize("lr", ["0.05", "1"])
def test_training_that_is_dead_from_the_start(lr, options, tmp_path, capsys):
    """The discriminator gets so sure that its sigmoid passes no gradient."""
    arguments = [*options, "--lr", lr, "--output-dir", tmp_path / "run"]
    stops_with("Training has failed", "lower --lr", arguments=arguments)
    assert list(contents(tmp_path / "run")) == ["real.png"]
    assert "--resume" not in capsys.readouterr().out


def test_training_that_dies_later_leaves_the_last_good_checkpoint(options, tmp_path, finished_run):
    spoil = "self.param_groups[0]['params'][-1].data.fill_(1e9)"
    before = AT_UPDATE.format(number=20.5, action=spoil)  # the discriminator's, in epoch 2
    done = command(*options, "--output-dir", tmp_path / "run", before=before)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Training has failed") and "To go on" not in done.stdout
    assert command("--resume", tmp_path / "run").returncode == 0
    assert contents(tmp_path / "run") == contents(finished_run[0])


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


@pytest.mark.parametrize("damage", ["missing", "text", "cut short", "other program"])
def test_checkpoint_that_cannot_be_read(damage, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    if damage in ("text", "cut short"):
        whole = (finished_run[0] / "checkpoint.pt").read_bytes()
        checkpoint.write_bytes(b"hello" if damage == "text" else whole[: len(whole) // 2])
    elif damage != "missing":
        torch.save({"epochs": Malicious()}, checkpoint)
    before = contents(tmp_path)
    stops_with(f"Cannot go on with {tmp_path}", arguments=["--resume", tmp_path])
    assert contents(tmp_path) == before and not (tmp_path / "malicious").exists()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("nn.Linear(1024, 512), nn", "nn.Linear(1000, 512), nn", "RuntimeError: mat1 and mat2"),
        (" nn.Sigmoid(),", "", "RuntimeError: all elements of input should be between 0 and 1"),
        ("mnist.data.unsqueeze(1)", "mnist.data.view(7, 1)", "RuntimeError: shape '[7, 1]'"),
        ("= datasets.MNIST(", "= datasets.MNITS(", "AttributeError: module 'torchvision"),
        ("torch.ones(size, 1, device", "torch.ones(size, device", "ValueError: Using a target"),
        ("# (2)", "open('no.txt')  #", "FileNotFoundError: "),
    ],
    ids=lambda value: value if "Error" in value else "",
)
def test_a_slip_in_the_readers_edit_keeps_its_traceback(old, new, error, options, tmp_path):
    source, script = SCRIPT.read_text(encoding="utf-8"), tmp_path / "edited.py"
    assert old in source
    script.write_text(source.replace(old, new), encoding="utf-8")
    done = command(*options, "--output-dir", tmp_path / "run", script=script)
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(error), done.stderr
    assert str(script) in done.stderr and "--lr" not in done.stderr
