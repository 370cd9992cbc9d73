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


def one_line(stop, *words):
    """The line with which `main` stopped; has it these words?"""
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
    "arguments",
    [
        *(["--epochs", value] for value in ("0", "-1", "many", "1.5")),
        *(["--batch-size", value] for value in ("0", "many")),
        *(["--lr", value] for value in ("0", "-1", "1.1", "1e30", "nan", "inf", "fast")),
        ["--seed", "1e3"],
        ["--what"],
    ],
    ids="=".join,
)
def test_options_that_cannot_be(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(*arguments, "--output-dir", tmp_path / "run")
    usage, line = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and usage.startswith("usage: ") and arguments[0] in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_cannot_be_used(name, capsys):
    assert gan_mnist.usable_device(name) == torch.device("cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"On the CPU: {name} cannot be used, ") and len(line) > 50


@pytest.mark.parametrize("folder", ["full", "file", "file/below"])
def test_output_folder_that_cannot_be_made(folder, options, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_main(*options, "--output-dir", tmp_path / folder)
    one_line(stop, tmp_path / folder, "--output-dir")
    assert contents(tmp_path) == before


def test_no_data_and_no_network(tmp_path, no_network):
    with pytest.raises(SystemExit) as stop:
        run_main("--data-dir", tmp_path, "--output-dir", tmp_path / "run")
    one_line(stop, tmp_path, "train-images-idx3-ubyte.gz", "copy data", "--data-dir")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), EOFError()])
def test_data_that_cannot_be_unpacked(error, tmp_path, monkeypatch):
    """A clone that the user may not write to; an error that gives no reason."""

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(gan_mnist.datasets.MNIST, "__init__", fail)
    with pytest.raises(SystemExit) as stop:
        run_main("--data-dir", tmp_path, "--output-dir", tmp_path / "run")
    one_line(stop, type(error).__name__, "copy data", "--data-dir")
    assert "()" not in stop.value.code and ": )" not in stop.value.code


@pytest.mark.parametrize("size", [0, 3, 15, 16, 1500])
def test_unpacked_file_cut_short_and_how_to_mend_it(size, tmp_path, no_network):
    shutil.copytree(RAW, tmp_path / "MNIST" / "raw")
    raw = tmp_path / "MNIST" / "raw"
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (raw / name).write_bytes((RAW / name).read_bytes()[:size])
    with pytest.raises(SystemExit) as stop:
        run_main("--data-dir", tmp_path, "--output-dir", tmp_path / "run")
    one_line(stop, raw, "delete what does not end in .gz")
    for path in raw.iterdir():
        if path.suffix != ".gz":
            path.unlink()
    assert len(gan_mnist.load_mnist(tmp_path)) == 60_000


@pytest.mark.parametrize("lr", ["0.05", "1"])
def test_training_that_is_dead_from_the_start(lr, options, tmp_path, capsys):
    """BCELoss ends at 100 and passes no gradient there."""
    with pytest.raises(SystemExit) as stop:
        run_main(*options, "--lr", lr, "--output-dir", tmp_path / "run")
    one_line(stop, "Training has failed", "lower --lr")
    assert list(contents(tmp_path / "run")) == ["real.png"]
    assert "--resume" not in capsys.readouterr().out


def test_training_that_dies_later_leaves_the_last_good_checkpoint(options, tmp_path, finished_run):
    spoil = "self.param_groups[0]['params'][-1].data.fill_(1e9)"
    before = AT_UPDATE.format(number=20.5, action=spoil)  # the discriminator's, in epoch 2
    folder = tmp_path / "run"
    done = command(*options, "--output-dir", folder, before=before)
    assert done.returncode == 1 and done.stderr.startswith("Training has failed")
    assert done.stderr.count("\n") == 1
    assert "epoch_001.png" in contents(folder) and "epoch_002.png" not in contents(folder)
    assert command("--resume", folder).returncode == 0
    assert contents(folder) == contents(finished_run[0])


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


@pytest.mark.parametrize(
    "damage", ["no folder", "no file", "empty", "text", "cut short", "other program", "malicious"]
)
def test_checkpoint_that_cannot_be_read(damage, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    if damage != "no folder":
        folder.mkdir()
        whole = (finished_run[0] / "checkpoint.pt").read_bytes()
        written = {"empty": b"", "text": b"hello", "cut short": whole[: len(whole) // 2]}
        saved = {"other program": {"model": torch.zeros(3)}, "malicious": {"epochs": Malicious()}}
        if damage in written:
            (folder / "checkpoint.pt").write_bytes(written[damage])
        elif damage in saved:
            torch.save(saved[damage], folder / "checkpoint.pt")
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_main("--resume", folder)
    one_line(stop, "Cannot go on with", folder)
    assert contents(tmp_path) == before and not (tmp_path / "malicious").exists()


def edited(tmp_path, *edits):
    """A copy of the script with a reader's edits in it, each of a text that is there."""
    source = SCRIPT.read_text(encoding="utf-8")
    for old, new in edits:
        assert old in source, old
        source = source.replace(old, new)
    script = tmp_path / "edited.py"
    script.write_text(source, encoding="utf-8")
    return script


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("nn.Linear(1024, 512), nn", "nn.Linear(1000, 512), nn", "RuntimeError: mat1 and mat2"),
        (" nn.Sigmoid(),", "", "RuntimeError: all elements of input should be between 0 and 1"),
        ("noise = torch.randn(size,", "noise = torch.rnadn(size,", "AttributeError: module 'torch'"),
        ("mnist.data.unsqueeze(1)", "mnist.data.view(7, 1)", "RuntimeError: shape '[7, 1]'"),
        ("datasets.MNIST(data_dir, train", "datasets.MNITS(data_dir, train", "AttributeError: "),
        ("torch.ones(size, 1, device", "torch.ones(size, device", "ValueError: Using a target"),
        ("# (2)", "open('no.txt')  #", "FileNotFoundError: "),
        (" nn.Hardtanh(0.0, 1.0),", " nn.Hardtahn(0.0, 1.0),", "AttributeError: module 'torch.nn'"),
    ],
    ids=lambda value: value if "Error" in value else "",
)
def test_a_slip_in_the_readers_edit_keeps_its_traceback(old, new, error, options, tmp_path):
    script = edited(tmp_path, (old, new))
    done = command(*options, "--output-dir", tmp_path / "run", script=script)
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(error), done.stderr
    assert str(script) in done.stderr and "--lr" not in done.stderr


@pytest.mark.parametrize(
    "edits",
    [
        [("nn.Linear(512, 256), nn", "nn.Linear(512, 10), nn"),
         ("nn.Linear(256, 1)", "nn.Linear(10, 1)")],
        [('"betas": (0.0, 0.999)', '"betas": (0.9, 0.999)')],
        [("nn.LeakyReLU(0.2)", "nn.ReLU()")],
        [("HIDDEN_PIXELS = 0.2", "HIDDEN_PIXELS = 0")],
    ],
    ids=["width", "betas", "activation", "no dropout"],
)  # fmt: skip
def test_a_valid_edit_trains(edits, options, tmp_path):
    script = edited(tmp_path, *edits)
    done = command(*options, "--output-dir", tmp_path / "run", script=script)
    assert done.returncode == 0, done.stderr
