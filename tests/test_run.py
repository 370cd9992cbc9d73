"""A run from the command line: its folder, its files, what it prints, and how it goes on."""

import io
import pty
import re
import shutil
import sys

import pytest
import quality
import torch
from conftest import ROOT, command, contents, edited, run_main
from PIL import Image, ImageSequence
from torchvision.utils import save_image


def grey(path):
    return Image.open(path).convert("L").tobytes()


def test_every_file_is_there_and_shows_what_it_says(finished, tmp_path):
    grids = [f"epoch_{epoch:03}.png" for epoch in (1, 2, 3)]
    others = ["losses.png", "training.gif", "generator.pt", "checkpoint.pt"]
    assert {path.name for path in finished.iterdir()} == {*grids, *others}
    shown = [grey(finished / name) for name in grids]
    assert len(set(shown)) == 3
    generator = quality.load_generator(finished / "generator.pt")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")  # as in the run
    save_image(generator(torch.randn(64, 100)), tmp_path / "drawn.png")
    assert grey(tmp_path / "drawn.png") == shown[2]
    gif = Image.open(finished / "training.gif")
    frames = [frame.convert("L").tobytes() for frame in ImageSequence.Iterator(gif)]
    assert frames == shown and gif.info["loop"] == 0  # for ever
    assert Image.open(finished / "losses.png").size == (800, 600)


def test_same_seed_gives_same_bytes_and_lines(finished, options, tmp_path, monkeypatch):
    """Into a pipe and in Jupyter, whose output also says that it is a terminal."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    sys.stdout.isatty = lambda: True
    run_main(*options, "--output-dir", tmp_path / "run")
    assert contents(tmp_path / "run") == contents(finished)
    lines = "2,000 images on cpu, files in .*/run\n"
    for epoch in 1, 2, 3:
        lines += f"epoch  {epoch}/3  D loss N  G loss N  D.x. N  D.G.z.. N +[0-9]+ s left\n"
    for printed in sys.stdout.getvalue(), finished.with_name("printed.txt").read_text():
        assert re.fullmatch(lines.replace("N", "[0-9.]{4}"), printed), printed


def test_another_seed_gives_other_bytes_in_the_first_free_folder(first_epoch, options, tmp_path):
    (tmp_path / "outputs" / "run_1").mkdir(parents=True)
    run_main(*options, "--epochs", 1, "--seed", 1, main=edited(tmp_path))
    ours, other = contents(first_epoch), contents(tmp_path / "outputs")
    assert all(other[f"run_2/{name}"] != ours[name] for name in ours)


@pytest.mark.parametrize("shell", ['exec "$@" >&-', 'set -o pipefail; "$@" | head -1'])
def test_goes_on_in_silence_when_nobody_reads(shell, options, tmp_path, first_epoch):
    bash = "bash", "-c", shell, "bash"
    done = command(*options, "--epochs", 1, "--output-dir", tmp_path / "run", prefix=bash)
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(tmp_path / "run") == contents(first_epoch)


def test_a_terminal_shows_batches_in_a_line_that_fits_a_narrow_window(options, tmp_path, capfd):
    words = [sys.executable, ROOT / "gan_mnist.py", *options, "--epochs", 1]
    assert pty.spawn([*map(str, words), "--output-dir", str(tmp_path / "run")]) == 0
    printed = capfd.readouterr().out
    live = re.findall(r"(batch \d+)\r", printed)
    assert len(live) == 5 and max(map(len, live)) < 20 and printed.count("s left") == 1


def test_goes_on_with_many_pictures_or_missing_ones(begun):
    """A long run has hundreds, and may open few files; a person deletes some."""
    (begun / "epoch_001.png").rename(begun / "epoch_200.png")
    for number in range(201, 250):
        shutil.copy(begun / "epoch_200.png", begun / f"epoch_{number}.png")
    few_files = "from resource import *; setrlimit(RLIMIT_NOFILE, (40, 40))"
    done = command("--resume", begun, "--epochs", 2, before=few_files)
    assert (done.returncode, done.stderr) == (0, "")


def test_resume_keeps_its_settings_but_those_that_are_given(options, tmp_path, monkeypatch):
    """Also from another folder, with the data where they were."""
    monkeypatch.chdir(options[1].parent)
    new = ["--data-dir", options[1].name, "--output-dir", tmp_path / "run", "--seed", 3]
    run_main(*options, *new, "--epochs", 1)
    monkeypatch.chdir(tmp_path)
    shutil.move("run", "moved")
    with pytest.raises(SystemExit, match="^1 epochs are done: --epochs N continues up to N"):
        run_main("--resume", "moved")
    run_main("--resume", "moved", "--epochs", 2, "--batch-size", 50, "--lr", 0.001)
    saved = torch.load("moved/checkpoint.pt", weights_only=True)
    kept = {"seed": 3, "epochs": 2, "batch_size": 50, "lr": 0.001, "data_dir": str(options[1])}
    assert saved["settings"].items() >= kept.items() and len(saved["history"]) == 2
    for adam in saved["states"]["D's Adam"], saved["states"]["G's Adam"]:
        assert adam["param_groups"][0]["lr"] == 0.001
        assert adam["state"][0]["step"] == 2000 / 400 + 2000 / 50
