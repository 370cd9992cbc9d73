"""Each mistake a person can make ends in one clear line, an exit code that is not 0, and with nothing lost."""

import gzip
import os
import shutil
import socket
import subprocess
from argparse import Namespace

import pytest
import torch
from conftest import NO_NETWORK, ROOT, SMALL, command, command_line, write_small_mnist
from torchvision.datasets import MNIST
from torchvision.datasets.utils import calculate_md5

from gan_mnist import GAN, load_checkpoint, load_mnist_or_explain, main


def assert_one_clear_line(done, *words):
    assert done.returncode not in (0, None) and done.returncode > 0, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 + lines[0].startswith("usage: "), done.stderr
    for word in words:
        assert str(word) in lines[-1], done.stderr


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--epochs", value] for value in ("0", "-1", "many", "1.5")),
        *(["--batch-size", value] for value in ("0", "-1", "many")),
        *(["--lr", value] for value in ("0", "-1", "nan", "inf", "-inf", "fast")),
        *(["--seed", value] for value in ("-1", "4294967296", "1e3", "x")),
        *(["--device", value] for value in ("gpu", "cuda:99", "meta", "")),
        ["--what"],
    ],
    ids="=".join,
)
def test_options_that_cannot_be(arguments, finished_run, capsys):
    before = contents(finished_run[0])
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--output-dir", str(finished_run[0])])
    printed = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert len(printed) == 2 and printed[0].startswith("usage: ") and arguments[0] in printed[1]
    assert contents(finished_run[0]) == before


def test_batch_larger_than_the_data(small_mnist, finished_run):
    before = contents(finished_run[0])
    done = command("--data-dir", small_mnist, "--output-dir", finished_run[0], "--batch-size", SMALL + 1)
    assert_one_clear_line(done, "--batch-size 2001", "2000 digits")
    assert contents(finished_run[0]) == before


@pytest.mark.parametrize("kind", ["file", "below a file", "cannot be created"])
def test_output_folder_that_cannot_be(kind, small_mnist, tmp_path):
    (tmp_path / "file").write_text("mine")
    folder = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "out", "cannot be created": "/proc/out"}[
        kind
    ]
    done = command("--data-dir", small_mnist, "--output-dir", folder)
    assert_one_clear_line(done, "--output-dir", folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_full_disk_leaves_the_checkpoint_of_the_epoch_before(small_mnist, tmp_path, finished_run):
    options = ("--data-dir", small_mnist, "--output-dir", tmp_path, "--device", "cpu")
    assert command(*options, "--epochs", 1).returncode == 0
    before = contents(tmp_path)
    # 5 MB are enough for pictures, but for no checkpoint.
    done = command(*options, "--epochs", 3, "--resume", limit=5_000_000)
    assert_one_clear_line(done, "File too large")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before[(tmp_path / "checkpoint.pt").relative_to(tmp_path)]
    assert command(*options, "--epochs", 3, "--resume").returncode == 0
    assert (tmp_path / "generator.pt").read_bytes() == (finished_run[0] / "generator.pt").read_bytes()


def test_no_data_and_no_network(tmp_path, finished_run):
    before = contents(finished_run[0])
    done = command("--data-dir", tmp_path, "--output-dir", finished_run[0], before=NO_NETWORK)
    assert_one_clear_line(done, "train-images-idx3-ubyte.gz", "data/README.md", tmp_path / "MNIST" / "raw")
    assert contents(finished_run[0]) == before


def test_data_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = command("--data-dir", tmp_path / "file", "--output-dir", tmp_path / "out", before=NO_NETWORK)
    assert_one_clear_line(done, "No whole MNIST", tmp_path / "file")
    done = command("--data-dir", "/proc", "--output-dir", tmp_path / "out", before=NO_NETWORK)
    assert_one_clear_line(done, "No whole MNIST", "/proc/MNIST")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut short", "wrong MD5"])
def test_packed_file_that_is_damaged(damage, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (ROOT / "data" / "MNIST" / "raw").glob("*.gz"):
        shutil.copy(file, raw)
    labels = raw / "train-labels-idx1-ubyte.gz"
    content = bytearray(labels.read_bytes())
    if damage == "cut short":
        del content[1000:]
    else:
        content[1000] ^= 1
    labels.write_bytes(content)
    done = command("--data-dir", tmp_path, "--output-dir", tmp_path / "out", before=NO_NETWORK)
    assert_one_clear_line(done, "train-labels-idx1-ubyte.gz", "data/README.md")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def packed_small_mnist(tmp_path, monkeypatch):
    """The raw folder of the small MNIST with packed files, which torchvision is told to believe. No network."""

    def refuse(*args, **kwargs):
        raise OSError("the test has cut the network off")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    raw = write_small_mnist(tmp_path / "data") / "MNIST" / "raw"
    resources = []
    for name, _ in MNIST.resources:
        (raw / name).write_bytes(gzip.compress((raw / name).with_suffix("").read_bytes()))
        resources.append((name, calculate_md5(raw / name)))
    monkeypatch.setattr(MNIST, "resources", resources)
    return raw


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_unpacked_file_cut_short_is_unpacked_anew(name, packed_small_mnist):
    file = packed_small_mnist / name
    whole = file.read_bytes()
    options = Namespace(data_dir=packed_small_mnist.parent.parent, batch_size=100, device="cpu")
    for size in (0, 1, 3, 4, 7, 8, 15, 16, 17, 1500):
        file.write_bytes(whole[:size])
        assert len(load_mnist_or_explain(options).dataset) == SMALL
        assert file.read_bytes() == whole


def test_unpacked_file_is_never_lost_for_a_packed_one_that_is_damaged(packed_small_mnist):
    images, labels = packed_small_mnist / "train-images-idx3-ubyte", packed_small_mnist / "train-labels-idx1-ubyte"
    images.with_name(f"{images.name}.gz").write_bytes(b"damaged")
    labels.write_bytes(b"cut short")
    options = Namespace(data_dir=packed_small_mnist.parent.parent, batch_size=100, device="cpu")
    before = images.read_bytes()
    with pytest.raises(SystemExit, match="train-images-idx3-ubyte.gz"):
        load_mnist_or_explain(options)
    assert images.read_bytes() == before


def test_unpacked_file_cut_short_without_the_packed_one(tmp_path):
    raw = write_small_mnist(tmp_path / "data") / "MNIST" / "raw"
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:5000])
    done = command("--data-dir", tmp_path / "data", "--output-dir", tmp_path / "out", before=NO_NETWORK)
    assert_one_clear_line(done, "No whole MNIST", raw, "data/README.md")
    assert images.stat().st_size == 5000 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("lr", ["1e30", "1e38"])
def test_training_that_diverges(lr, small_mnist, tmp_path):
    options = ("--data-dir", small_mnist, "--output-dir", tmp_path, "--device", "cpu", "--epochs", 2)
    done = command(*options, "--lr", lr)
    assert_one_clear_line(done, "Epoch 1", "loss nan", "--lr")
    assert {path.name for path in tmp_path.iterdir()} == {"real.png"}


def test_training_that_diverges_later_leaves_the_last_good_checkpoint(small_mnist, tmp_path):
    options = ("--data-dir", small_mnist, "--output-dir", tmp_path, "--device", "cpu", "--epochs", 3)
    spoil = """
import torch
step, count = torch.optim.Adam.step, 0
def spoiling_step(self, *args, **kwargs):
    global count
    count += 1
    if count == 2 * 33:
        for p in self.param_groups[0]["params"]:
            p.data.fill_(float("nan"))
    return step(self, *args, **kwargs)
torch.optim.Adam.step = spoiling_step
"""
    done = command(*options, before=spoil)
    assert_one_clear_line(done, "Epoch 2", "loss nan", "--lr")
    assert len(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["history"]) == 1
    assert command(*options, "--resume").returncode == 0


def test_resume_without_a_checkpoint(small_mnist, tmp_path):
    done = command("--data-dir", small_mnist, "--output-dir", tmp_path, "--resume")
    assert_one_clear_line(done, tmp_path / "checkpoint.pt", "not there", "--resume")


@pytest.mark.parametrize(
    ("option", "value", "saved"), [("--batch-size", 50, 100), ("--lr", 1.0, 6e-4), ("--seed", 7, 0)]
)
def test_resume_with_settings_of_another_run(option, value, saved, small_mnist, finished_run):
    before = contents(finished_run[0])
    done = command("--data-dir", small_mnist, "--output-dir", finished_run[0], "--resume", option, value)
    assert_one_clear_line(done, f"'{option}': {value}", f"'{option}': {saved}")
    assert contents(finished_run[0]) == before


def damaged_checkpoints(whole):
    yield "empty", b""
    yield "text", b"hello"
    for share in (0.1, 0.5, 0.9, 0.999):
        yield f"cut to {share}", whole[: int(share * len(whole))]
    for place in range(0, len(whole), len(whole) // 40):
        yield f"byte {place}", whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]


def test_damaged_checkpoint(finished_run, tmp_path):
    path = tmp_path / "checkpoint.pt"
    whole = (finished_run[0] / "checkpoint.pt").read_bytes()
    settings = torch.load(finished_run[0] / "checkpoint.pt", weights_only=True)["settings"]
    gan = GAN(6e-4, "cpu")
    names = ("discriminator", "generator", "averaged", "d_optimizer", "g_optimizer")
    parts = {name: getattr(gan, name) for name in names}
    seen = 0
    for damage, content in damaged_checkpoints(whole):
        path.write_bytes(content)
        try:
            load_checkpoint(path, parts, settings)
        except SystemExit as stop:
            assert str(path) in str(stop) and "damaged" in str(stop) and "\n" not in str(stop)
            seen += 1
        else:  # zip files have a few bytes that mean nothing
            assert damage.startswith("byte"), damage
    assert seen >= 44
    path.write_bytes(whole)
    assert len(load_checkpoint(path, parts, settings)) == 3


@pytest.mark.parametrize("content", [[1, 2], {"settings": {}}, {"model": torch.zeros(3)}], ids=str)
def test_checkpoint_of_another_program(content, small_mnist, tmp_path):
    torch.save(content, tmp_path / "checkpoint.pt")
    before = contents(tmp_path)
    done = command("--data-dir", small_mnist, "--output-dir", tmp_path, "--resume")
    assert_one_clear_line(done, tmp_path / "checkpoint.pt", "--resume")
    assert contents(tmp_path) == before


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


def test_checkpoint_of_a_stranger_runs_no_code(small_mnist, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"settings": Malicious()}, tmp_path / "checkpoint.pt")
    done = command(
        "--data-dir",
        small_mnist,
        "--output-dir",
        tmp_path,
        "--resume",
        before=f"import os; os.chdir({str(tmp_path)!r})",
    )
    assert_one_clear_line(done, tmp_path / "checkpoint.pt", "damaged")
    assert not (tmp_path / "malicious").exists()


@pytest.mark.parametrize("stdout", ["closed pipe", "/dev/full"])
def test_output_that_cannot_be_printed(stdout, small_mnist, tmp_path):
    if stdout == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(stdout, os.O_WRONLY)
    arguments = command_line("--data-dir", small_mnist, "--output-dir", tmp_path, "--epochs", 1)
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert_one_clear_line(done, "Stopped")
