"""A run from the command line: its folder, its files, what it prints."""

import io
import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import SCRIPT, command, contents, needs_posix, run_main
from PIL import Image
from torchvision.utils import save_image

import gan_mnist

FILES = {"real.png", "losses.png", "training.gif", "generator.pt", "checkpoint.pt"}


def grey(path):
    return Image.open(path).convert("L")


def test_every_file_is_there_and_shows_what_it_says(finished_run, small_mnist):
    folder, _ = finished_run
    pictures = [f"epoch_{epoch:03}.png" for epoch in (1, 2, 3)]
    assert {path.name for path in folder.iterdir()} == FILES | set(pictures)
    shown = [grey(folder / name) for name in ["real.png", *pictures]]
    assert {picture.size for picture in shown} == {(242, 242)}  # 8 x 8 of 28, 2 between
    assert len({picture.tobytes() for picture in shown}) == 4
    pixels = (small_mnist / "MNIST/raw/train-images-idx3-ubyte").read_bytes()[16:]
    for index in (0, 7, 8, 63):
        left, top = 2 + 30 * (index % 8), 2 + 30 * (index // 8)
        digit = shown[0].crop((left, top, left + 28, top + 28)).tobytes()
        assert digit == pixels[784 * index :][:784]
    with Image.open(folder / "training.gif") as animation:
        assert animation.n_frames == 3 and animation.info["loop"] == 0  # for ever
        for frame, picture in enumerate(shown[1:]):
            animation.seek(frame)
            assert animation.convert("L").tobytes() == picture.tobytes()
    assert Image.open(folder / "losses.png").size == (800, 600)


def test_saved_generator_draws_the_last_grid_again(finished_run, tmp_path):
    folder, _ = finished_run
    generator = gan_mnist.make_generator()
    generator.load_state_dict(torch.load(folder / "generator.pt", weights_only=True))
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")  # as in the run
    save_image(generator(torch.randn(64, 100)), tmp_path / "again.png")
    torch.set_float32_matmul_precision("highest")
    assert grey(tmp_path / "again.png").tobytes() == grey(folder / "epoch_003.png").tobytes()


def test_same_seed_gives_the_same_bytes_another_seed_others(finished_run, options, tmp_path):
    assert command(*options, "--output-dir", tmp_path / "0", "--seed", 0).returncode == 0
    run_main(*options, "--output-dir", tmp_path / "1", "--seed", 1)
    original, again, other = map(contents, (finished_run[0], tmp_path / "0", tmp_path / "1"))
    assert again == original
    assert all(other[name] != original[name] for name in original if name != "real.png")


def test_each_run_makes_the_first_free_folder_in_outputs(options, tmp_path):
    script = tmp_path / "gan_mnist.py"
    script.write_bytes(SCRIPT.read_bytes())
    (tmp_path / "outputs" / "run_1").mkdir(parents=True)
    done = command(*options, "--epochs", 1, script=script)
    assert f"files in {tmp_path / 'outputs' / 'run_2'}\n" in done.stdout
    assert {path.split("/")[0] for path in contents(tmp_path / "outputs")} == {"run_2"}


def test_prints_one_lasting_line_an_epoch_into_a_pipe(finished_run):
    folder, printed = finished_run
    first, *epochs = printed.splitlines()
    assert first == f"2,000 images on cpu, files in {folder}"
    assert [line[:12] for line in epochs] == [f"epoch  {epoch}/3  " for epoch in (1, 2, 3)]
    assert all("D loss" in line and "G loss" in line and "D(x)" in line for line in epochs)
    assert epochs[-1].endswith(" 0 s left") and max(map(len, epochs)) < 80


def test_runs_with_an_output_that_is_not_pythons_own(options, tmp_path, monkeypatch):
    """That of Jupyter, Spyder and IDLE also says that it is a terminal."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    sys.stdout.isatty = lambda: True
    run_main(*options, "--output-dir", tmp_path / "run")
    printed = sys.stdout.getvalue()
    assert printed.count("\n") == 4 and "\r" not in printed


@needs_posix
@pytest.mark.parametrize("shell", ["exec {} >&-", "set -o pipefail; {} | head -1"])
def test_goes_on_in_silence_when_nobody_reads(shell, options, tmp_path, finished_run):
    folder = tmp_path / "run"
    words = [sys.executable, SCRIPT, *options, "--epochs", 1, "--output-dir", folder]
    line = shell.format(" ".join(f"'{word}'" for word in words))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", "head" in shell)
    assert (folder / "checkpoint.pt").exists()
    assert grey(folder / "epoch_001.png") == grey(finished_run[0] / "epoch_001.png")


@needs_posix
def test_a_terminal_shows_batches_in_one_line_that_fits_into_a_narrow_window(options, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    line = [sys.executable, SCRIPT, *options, "--epochs", 1, "--output-dir", tmp_path / "run"]
    with subprocess.Popen([str(word) for word in line], stdout=theirs) as process:
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 1000):
                printed += chunk
        except OSError:  # how Linux says that the other end was closed
            pass
    assert process.returncode == 0
    live = re.findall(r"(batch \d+)\r", printed.decode())
    assert len(live) == 5 and max(map(len, live)) < 20
    assert printed.decode().count("s left") == 1
