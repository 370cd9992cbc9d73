"""Each mistake that a person is likely to make ends in one clear line, an exit code that is not
0, and with nothing lost. A slip in the reader's own edit keeps Python's traceback."""

import os
import runpy
import shutil
import socket

import pytest
import torch
from conftest import RAW, SCRIPT, contents, run_main

import gan_mnist


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
    "argument", ["--epochs=0", "--lr=nan", f"--seed={2**70}", "--what", "--resume=outputs"]
)
def test_options_that_cannot_be(argument, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(argument, "--output-dir", tmp_path / "run")
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and not (tmp_path / "run").exists()
    assert "error: " in line and argument.split("=")[0] in line


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_typed_device_that_cannot_be_used_ends_in_one_line(name, options, tmp_path):
    arguments = [*options, "--device", name, "--output-dir", tmp_path / "run"]
    stops_with(f"Cannot use --device {name}", arguments=arguments)
    assert not (tmp_path / "run").exists()


def test_a_gpu_of_pytorchs_choice_that_cannot_be_used_leaves_the_cpu(monkeypatch):
    """PyTorch's `meta` stands in for a GPU that is there but does not work."""
    meta = torch.device("meta")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: meta)
    assert gan_mnist.usable_device(None) == torch.device("cpu")


@pytest.mark.parametrize("name", ["full", "file", "file/below"])
def test_output_folder_that_cannot_be_made(name, options, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / name
    stops_with(folder, "--output-dir", arguments=[*options, "--output-dir", folder])
    assert contents(tmp_path) == {"file": b"mine"}


def test_no_data_and_no_network(tmp_path, no_network):
    words = "Cannot load MNIST", tmp_path, "train-images-idx3-ubyte.gz"
    stops_with(*words, arguments=["--data-dir", tmp_path, "--output-dir", tmp_path / "run"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [3, 1500])
def test_unpacked_file_cut_short_and_how_to_mend_it(size, tmp_path, no_network):
    """As data/README.md says: delete all but the .gz files."""
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(RAW, raw)
    digits = raw / "train-images-idx3-ubyte"
    digits.write_bytes(digits.read_bytes()[:size])
    arguments = ["--data-dir", tmp_path, "--output-dir", tmp_path / "run"]
    stops_with("Cannot load MNIST", tmp_path, arguments=arguments)
    for path in raw.iterdir():
        if path.suffix != ".gz":
            path.unlink()
    assert len(gan_mnist.load_mnist(tmp_path)) == 60_000


@pytest.mark.parametrize("lr", ["0.005", "1"])
def test_training_that_is_lost(lr, options, tmp_path):
    """One of the networks gets so sure that its loss passes no gradient on."""
    epochs = ["--epochs", 4, "--batch-size", 10]  # 200 updates an epoch
    arguments = [*options, *epochs, "--lr", lr, "--output-dir", tmp_path / "run"]
    stops_with("Training has failed", "lower --lr", arguments=arguments)


def test_training_that_dies_later_leaves_the_last_good_checkpoint(options, tmp_path, finished_run):
    folder = tmp_path / "run"
    run_main(*options, "--output-dir", folder, "--epochs", 1)
    before = contents(folder)
    stops_with("Training has failed", arguments=["--resume", folder, "--epochs", 3, "--lr", 1])
    assert contents(folder) == before
    run_main("--resume", folder, "--epochs", 3)
    assert contents(folder) == contents(finished_run[0])


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


@pytest.mark.parametrize("damage", ["missing", "cut short", "other program", "weights"])
def test_checkpoint_that_cannot_be_read(damage, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    if damage == "cut short":
        checkpoint.write_bytes((finished_run[0] / "checkpoint.pt").read_bytes()[:1_000_000])
    elif damage == "weights":
        shutil.copy(finished_run[0] / "generator.pt", checkpoint)
    elif damage == "other program":
        torch.save({"epochs": Malicious()}, checkpoint)
    before = contents(tmp_path)
    stops_with(f"Cannot go on with {tmp_path}", arguments=["--resume", tmp_path])
    assert contents(tmp_path) == before and not (tmp_path / "malicious").exists()


def edited(old, new, folder):
    """The `main` of a script in which the reader has replaced old by new."""
    source, script = SCRIPT.read_text(encoding="utf-8"), folder / "edited.py"
    assert old in source
    script.write_text(source.replace(old, new), encoding="utf-8")
    return runpy.run_path(str(script))["main"]


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        (" nn.Sigmoid(),", "", RuntimeError, "all elements of input should be between 0 and 1"),
        ("mnist.data.unsqueeze(1)", "mnist.data.view(7, 1)", RuntimeError, "shape '.7, 1.'"),
        ("= datasets.MNIST(", "= datasets.MNITS(", AttributeError, "module 'torchvision"),
        ("# (2)", "open('no.txt')  #", FileNotFoundError, "no.txt"),
    ],
    ids=["loss", "shape", "name", "file"],
)
def test_a_slip_in_the_readers_edit_keeps_its_traceback(old, new, error, words, options, tmp_path):
    """No line in its place: what was raised arrives as it was."""
    main = edited(old, new, tmp_path)
    with pytest.raises(error, match=words) as raised:
        main([str(word) for word in (*options, "--output-dir", tmp_path / "run")])
    assert any("edited.py" in str(entry.path) for entry in raised.traceback)


def test_a_checkpoint_that_does_not_fit_the_edited_layers_promises_no_way_on(
    finished_run, tmp_path, capsys
):
    folder = shutil.copytree(finished_run[0], tmp_path / "run")
    main = edited("nn.Linear(512, 1024), nn.SiLU()", "nn.Linear(512, 1024), nn.Tanh(),\n"
                  "        nn.Linear(1024, 1024), nn.Tanh()", tmp_path)  # fmt: skip
    with pytest.raises(RuntimeError, match="Error.s. in loading state_dict"):
        main(["--resume", str(folder), "--epochs", "4"])
    assert "go on" not in "".join(capsys.readouterr())
