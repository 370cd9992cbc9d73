"""A run from the command line: its folder, its files, what it prints, and how it goes on."""

import io
import pty
import re
import shutil
import sys

import pytest
import quality
import torch
from conftest import command, contents, edited, run_main
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageSequence
from torchvision.utils import save_image


def grey(path):
    """The frames of a picture, in grey."""
    return [frame.convert("L").tobytes() for frame in ImageSequence.Iterator(Image.open(path))]


def test_every_file_is_there_and_shows_what_it_says(finished, tmp_path):
    grids = [f"epoch_{epoch:03}.png" for epoch in (1, 2, 3)]
    others = ["losses.png", "training.gif", "generator.pt", "checkpoint.pt"]
    assert {path.name for path in finished.iterdir()} == {*grids, *others}
    shown = [grey(finished / name)[0] for name in grids]
    assert len(set(shown)) == 3
    generator = quality.load_generator(finished / "generator.pt")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")  # as in the run
    save_image(generator(torch.randn(64, 100)), tmp_path / "drawn.png")
    assert grey(tmp_path / "drawn.png") == shown[2:]
    assert grey(finished / "training.gif") == shown
    assert Image.open(finished / "training.gif").info["loop"] == 0  # for ever
    assert Image.open(finished / "losses.png").size == (800, 600)


def test_the_curves_bear_the_names_of_what_they_show(options, tmp_path, monkeypatch):
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, file: figures.append(f) or savefig(f, file))
    run_main(*options, "--epochs", 1, "--output-dir", tmp_path / "run")
    (means,) = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["history"]
    shown = {line.get_label(): line.get_ydata()[0] for a in figures[0].axes for line in a.lines}
    names = [text.get_text() for a in figures[0].axes for text in a.get_legend().get_texts()]
    assert names == ["D loss", "G loss", "D(x)", "D(G(z))"]
    assert [shown[name] for name in names] == pytest.approx(means)


def test_same_seed_gives_same_bytes_and_lines(finished, options, tmp_path, monkeypatch):
    """Into a pipe and in Jupyter, whose output also says that it is a terminal."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    sys.stdout.isatty = lambda: True
    run_main(*options, "--output-dir", tmp_path / "run")
    assert contents(tmp_path / "run") == contents(finished)
    lines = "500 images on cpu, files in .*/run\n"
    for epoch in 1, 2, 3:
        lines += f"epoch  {epoch}/3  D loss N  G loss N  D.x. N  D.G.z.. N +[0-9]+ s left\n"
    for printed in sys.stdout.getvalue(), finished.with_name("printed.txt").read_text():
        assert re.fullmatch(lines.replace("N", "[0-9.]{4}"), printed), printed


def test_another_seed_gives_other_bytes_in_the_first_free_folder(first_epoch, options, tmp_path):
    """A date and time as seed: a million times that has more than 64 bits."""
    (tmp_path / "outputs" / "run_1").mkdir(parents=True)
    run_main(*options, "--epochs", 1, "--seed", 20261129172701, main=edited(tmp_path))
    ours, other = contents(first_epoch), contents(tmp_path / "outputs")
    assert all(other[f"run_2/{name}"] != ours[name] for name in ours)


def test_a_terminal_shows_some_batches_in_a_narrow_line(options, tmp_path, capfd):
    """Not all: where a notebook's `!` runs the script, each stays in the notebook."""
    small = "import gan_mnist; gan_mnist.BATCH_SIZE = 10; gan_mnist.main()"
    words = ["-c", small, *options, "--epochs", 1, "--output-dir", tmp_path / "run"]
    assert pty.spawn([sys.executable, *map(str, words)]) == 0
    assert re.findall(r"(batch \d+)\r", capfd.readouterr().out) == ["batch 20", "batch 40"]


def test_frames_are_in_order_whatever_else_is_there(options, begun):
    """A long run has hundreds, and may open few files; a person copies and deletes some."""
    run = torch.load(begun / "checkpoint.pt", weights_only=True)
    torch.save(run | {"next_epoch": 1000}, begun / "checkpoint.pt")
    grid = Image.open(begun / "epoch_001.png")
    for number in range(930, 1000):
        ImageChops.offset(grid, number).save(begun / f"epoch_{number}.png")
    numbers = sorted(int(path.stem[6:]) for path in begun.glob("epoch_*")) + [1000, 1001]
    shutil.copy(begun / "epoch_001.png", begun / "epoch_001 copy.png")
    few_files = "from resource import *; setrlimit(RLIMIT_NOFILE, (40, 40))"
    done = command(*options, "--resume", begun, "--epochs", 1001, before=few_files)
    assert (done.returncode, done.stderr) == (0, "")
    frames = [grey(begun / f"epoch_{number:03}.png")[0] for number in numbers]
    assert grey(begun / "training.gif") == frames


def test_what_the_file_says_counts_when_a_run_is_resumed(options, begun):
    """Number of epochs, rate, betas, batch size. The seed stays the run's."""
    settings = dict(NUM_EPOCHS=2, BATCH_SIZE=50, LEARNING_RATE=1e-4, BETAS=(0.5, 0.9))
    main = edited(begun.parent, **settings)
    run_main(*options[:-2], "--resume", begun, main=main)
    saved = torch.load(begun / "checkpoint.pt", weights_only=True)
    assert saved["seed"] == 0 and len(saved["history"]) == 2
    for name in "d_optimizer", "g_optimizer":
        adam = saved["states"][name]
        assert adam["param_groups"][0].items() >= {"lr": 1e-4, "betas": (0.5, 0.9)}.items()
        assert adam["state"][0]["step"] == 500 / 100 + 500 / 50


def test_device_and_data_belong_to_the_machine(first_epoch, finished, options, tmp_path):
    """A run goes on where the data lie elsewhere, though nobody says where."""
    moved, main = shutil.copytree(first_epoch, tmp_path / "moved"), edited(tmp_path)
    shutil.copytree(options[1], tmp_path / "data")
    with pytest.raises(SystemExit, match="^1 epochs are done: --epochs must be more"):
        run_main("--resume", moved, "--epochs", 1, main=main)
    run_main("--resume", moved, "--epochs", 3, main=main)
    assert contents(moved) == contents(finished)
    saved = torch.load(moved / "checkpoint.pt", weights_only=True)
    expected = {"seed", "num_epochs", "next_epoch", "batches", "history", "states"}
    assert set(saved) == expected
