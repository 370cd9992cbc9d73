"""A run from the command line: its folder, its files, what it prints."""

import io
import os
import subprocess
import sys

import pytest
import torch
from conftest import FILES, ROOT, SCRIPT, command, contents, run_main
from PIL import Image
from torchvision.utils import save_image

import gan_mnist


def test_importing_has_no_effect(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import gan_mnist, torch"
    python = [sys.executable, "-B", "-c", code + "; print(torch.initial_seed())"]
    done = subprocess.run(python, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_file_is_there_and_the_pictures_differ(finished_run):
    folder, _ = finished_run
    pictures = [f"epoch_{epoch:03}.png" for epoch in (1, 2, 3)]
    assert {path.name for path in folder.iterdir()} == FILES | set(pictures)
    shown = [Image.open(folder / name).convert("L") for name in ["real.png", *pictures]]
    assert {picture.size for picture in shown} == {(242, 242)}  # 8 x 8 of 28, 2 between
    assert len({picture.tobytes() for picture in shown}) == 4
    assert Image.open(folder / "losses.png").size == (800, 500)


def test_real_png_shows_the_first_digits_as_mnist_has_them(finished_run, small_mnist):
    pixels = (small_mnist / "MNIST/raw/train-images-idx3-ubyte").read_bytes()[16:]
    picture = Image.open(finished_run[0] / "real.png").convert("L")
    for index in (0, 7, 8, 63):
        left, top = 2 + 30 * (index % 8), 2 + 30 * (index // 8)
        shown = picture.crop((left, top, left + 28, top + 28)).tobytes()
        assert shown == pixels[784 * index :][:784]


def test_animation_shows_the_grid_of_each_epoch_for_ever(finished_run):
    folder, _ = finished_run
    with Image.open(folder / "training.gif") as animation:
        assert animation.n_frames == 3 and animation.info["loop"] == 0
        for epoch in (1, 2, 3):
            animation.seek(epoch - 1)
            picture = Image.open(folder / f"epoch_{epoch:03}.png")
            assert animation.convert("L").tobytes() == picture.convert("L").tobytes()


def test_saved_generator_draws_the_last_grid_again(finished_run, tmp_path):
    folder, _ = finished_run
    generator = gan_mnist.Generator()
    generator.load_state_dict(torch.load(folder / "generator.pt", weights_only=True))
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")  # as in the run
    try:
        save_image(generator(torch.randn(64, 100)), tmp_path / "again.png")
    finally:
        torch.set_float32_matmul_precision("highest")
    again, last = Image.open(tmp_path / "again.png"), Image.open(folder / "epoch_003.png")
    assert again.tobytes() == last.tobytes()


def test_same_seed_gives_the_same_bytes_another_seed_others(finished_run, options, tmp_path):
    original = contents(finished_run[0])
    for seed in (0, 1):
        done = command(*options, "--output-dir", tmp_path / str(seed), "--seed", seed)
        assert done.returncode == 0, done.stderr
    again, other = contents(tmp_path / "0"), contents(tmp_path / "1")
    del original["checkpoint.pt"], again["checkpoint.pt"]
    assert again == original
    assert all(other[name] != original[name] for name in original if name != "real.png")


def test_each_run_makes_the_first_free_folder_in_outputs(options, tmp_path):
    script = tmp_path / "gan_mnist.py"
    script.write_bytes(SCRIPT.read_bytes())
    before = {}
    for number in (1, 2):
        done = command(*options, "--epochs", 1, script=script)
        assert done.returncode == 0, done.stderr
        assert f"files in {tmp_path / 'outputs' / f'run_{number}'}\n" in done.stdout
        after = contents(tmp_path / "outputs")
        assert before.items() <= after.items() and len(after) == 6 * number
        before = after


def test_prints_one_lasting_line_an_epoch_into_a_pipe(finished_run):
    folder, printed = finished_run
    first, *epochs = printed.splitlines()
    assert first == f"2,000 images on cpu, files in {folder}"
    assert [line[:12] for line in epochs] == [f"epoch  {epoch}/3  " for epoch in (1, 2, 3)]
    assert all("D loss" in line and "G loss" in line and "D(x)" in line for line in epochs)
    assert epochs[-1].endswith("  0 s left") and max(map(len, epochs)) < 80


class Notebook(io.StringIO):
    """Stands in for the output of Jupyter, Spyder and IDLE: no `reconfigure`, no `fileno`;
    IDLE's says that it is a terminal."""

    def isatty(self):
        return True


def test_runs_with_an_output_that_is_not_pythons_own(options, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Notebook())
    run_main(*options, "--output-dir", tmp_path / "run")
    printed = sys.stdout.getvalue()
    assert printed.count("\n") == 4 and "\r" not in printed


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_live_lines_on_a_terminal_fit_into_it(columns, small_mnist, tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    options = ["--data-dir", small_mnist, "--output-dir", tmp_path / "run", "--device", "cpu",
               "--epochs", "1", "--batch-size", "20"]  # fmt: skip
    environment = os.environ | {"COLUMNS": str(columns)}
    command_line = [sys.executable, SCRIPT, *options]
    with subprocess.Popen(command_line, stdout=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 1000):
                printed += chunk
        except OSError:  # how Linux says that the other end was closed
            pass
    assert process.returncode == 0
    *live, last = printed.decode().split("\n")[1].rstrip("\r").split("\r")
    assert len(live) == 4 and all(line.startswith("epoch  1/1  D loss") for line in live)
    assert all(len(line) <= columns - 1 for line in live) and last.endswith("0 s left")
    assert columns < 80 or all(line.endswith(" s left") for line in live)


def test_curves_are_the_means_of_the_epochs(finished_run, tmp_path, monkeypatch):
    figures, savefig = [], gan_mnist.Figure.savefig
    keep = lambda figure, file: (figures.append(figure), savefig(figure, file))  # noqa: E731
    monkeypatch.setattr(gan_mnist.Figure, "savefig", keep)
    checkpoint = torch.load(finished_run[0] / "checkpoint.pt", weights_only=True)
    (tmp_path / "checkpoint.pt").write_bytes((finished_run[0] / "checkpoint.pt").read_bytes())
    run_main("--resume", tmp_path, "--epochs", 4)
    (axes,) = figures[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert list(lines) == ["D loss", "G loss", "D(x)", "D(G(z))"]
    for number, line in enumerate(lines.values()):
        means = [means[number] for means in checkpoint["history"]]
        assert line[:3] == [[epoch, mean] for epoch, mean in enumerate(means, start=1)]
        assert len(line) == 4
    assert len(axes.get_legend().get_texts()) == 4


def test_a_gpu_that_does_not_work_leaves_the_work_to_the_cpu(options, tmp_path, monkeypatch, capsys):
    """PyTorch's `meta` device stands in for it: it is there, but nothing can be read from it."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert gan_mnist.usable_device(None) == torch.device("cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert "CPU" in line and "meta cannot be used" in line


def test_help_names_each_option(capsys):
    with pytest.raises(SystemExit) as stop:
        run_main("--help")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for name in ("epochs", "batch-size", "lr", "seed", "device", "data-dir", "output-dir", "resume"):
        assert f"--{name}" in printed
