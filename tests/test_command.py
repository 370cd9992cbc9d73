import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from argparse import Namespace

import matplotlib
import pytest
import torch
from conftest import NO_NETWORK, ROOT, command, command_line
from matplotlib.figure import Figure
from PIL import Image
from torchvision.utils import save_image

import gan_mnist
from gan_mnist import GAN, Generator, load_mnist, main, parse_options, save_curves, train_and_save


def test_importing_has_no_effect(tmp_path):
    shutil.copy(ROOT / "gan_mnist.py", tmp_path)
    code = "import gan_mnist, torch; print(torch.initial_seed())"
    python = [sys.executable, "-B", "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["gan_mnist.py"]


def test_every_file_is_there(finished_run):
    folder, _ = finished_run
    names = {"real.png", "training.gif", "losses.png", "generator.pt", "checkpoint.pt"}
    pictures = {f"epoch_{epoch:03}.png" for epoch in (1, 2, 3)}
    assert {path.name for path in folder.iterdir()} == names | pictures


def test_pictures_can_be_opened_and_differ(finished_run):
    folder, _ = finished_run
    names = ("real.png", "epoch_001.png", "epoch_003.png")
    pictures = [Image.open(folder / name).convert("L") for name in names]
    assert {picture.size for picture in pictures} == {(242, 242)}  # 8 x 8 of 28 pixels, 2 between
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert Image.open(folder / "losses.png").size == (800, 500)


def test_real_png_shows_the_first_digits_as_mnist_has_them(finished_run, small_mnist):
    content = (small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()
    assert struct.unpack(">4i", content[:16]) == (2051, 2000, 28, 28)
    picture = Image.open(finished_run[0] / "real.png").convert("L")
    for index in (0, 7, 8, 63):
        left, top = 2 + 30 * (index % 8), 2 + 30 * (index // 8)
        shown = picture.crop((left, top, left + 28, top + 28)).tobytes()
        assert shown == content[16 + 784 * index :][:784]


def test_animation_has_a_frame_an_epoch_with_its_number(finished_run):
    folder, _ = finished_run
    with Image.open(folder / "training.gif") as animation:
        assert animation.n_frames == 3 and animation.info["loop"] == 0  # for ever
        labels, milliseconds = [], []
        for epoch in (1, 2, 3):
            animation.seek(epoch - 1)
            milliseconds.append(animation.info["duration"])
            frame = animation.convert("L")
            picture = Image.open(folder / f"epoch_{epoch:03}.png").convert("L")
            assert frame.crop((0, 0, 242, 242)).tobytes() == picture.tobytes()
            labels.append(frame.crop((0, 242, *frame.size)))
    assert milliseconds == [150, 150, 2000]
    assert all(label.getextrema()[0] == 0 and label.getextrema()[1] > 200 for label in labels)
    assert len({label.tobytes() for label in labels}) == 3


def test_curves_are_those_of_the_history_with_labels(tmp_path, monkeypatch):
    figures, savefig = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    history = [[1.2, 1.1, 0.6, 0.4], [1.3, 0.9, 0.55, 0.45], [1.25, 1.0, 0.58, 0.42]]
    with matplotlib.rc_context({"savefig.format": "svg"}):
        save_curves(tmp_path / "losses.png", history)
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    shown = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    labels = ["D loss", "G loss", "D(x), real", "D(G(z)), fake"]
    expected = {
        label: [[epoch, means[n]] for epoch, means in enumerate(history, start=1)]
        for n, label in enumerate(labels)
    }
    assert shown == expected
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels
    assert axes.get_xlabel() == "epoch" and "loss (BCE)" in axes.get_ylabel()
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 1.3


def test_saved_generator_draws_the_last_grid_again(finished_run, tmp_path):
    folder, _ = finished_run
    generator = Generator()
    generator.load_state_dict(torch.load(folder / "generator.pt", weights_only=True))
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")  # as in the run
    try:
        images = generator(torch.randn(64, 100))
    finally:
        torch.set_float32_matmul_precision("highest")
    save_image(images, tmp_path / "again.png")
    again, last = Image.open(tmp_path / "again.png"), Image.open(folder / "epoch_003.png")
    assert again.tobytes() == last.tobytes()


NUMBER = r"\d+\.\d+"
PROGRESS = (
    rf"epoch +(\d+)/\d+  D loss {NUMBER}  G loss {NUMBER}  "
    rf"D\(x\) {NUMBER}  D\(G\(z\)\) {NUMBER}  (\d+) s left"
)


def test_prints_one_lasting_line_an_epoch_into_a_pipe(finished_run):
    folder, printed = finished_run
    first, *epochs = printed.splitlines()
    assert first == f"2,000 digits on cpu, files in {folder}"
    found = [re.fullmatch(PROGRESS, line) for line in epochs]
    assert [match[1] for match in found] == ["1", "2", "3"] and found[-1][2] == "0"


def test_live_line_on_a_terminal_covers_the_one_before(small_mnist, tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    # A clock that goes on by a second each time that it is asked: every batch gets its live line.
    clock = "import itertools, time; time.monotonic = itertools.count().__next__"
    options = ("--data-dir", small_mnist, "--output-dir", tmp_path, "--device", "cpu")
    arguments = command_line(*options, "--epochs", 2, "--batch-size", 100, before=clock)
    with subprocess.Popen(arguments, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 1000):
                printed += chunk
        except OSError:  # how Linux says that the other end was closed
            pass
    assert process.returncode == 0
    lines = printed.decode().replace("\r\n", "\n").splitlines()[1:]  # splits at \r too
    assert len(lines) == 2 * 20
    assert all(re.fullmatch(PROGRESS, line.rstrip()) and len(line) == 79 for line in lines)


def fake_training(monkeypatch, losses, seconds_a_batch, digits=200):
    """Let `train` only pass the time: 2 batches an epoch, with these means."""
    clock = [0.0]

    def train(gan, images, batch_size, num_epochs, seed):
        for epoch in range(len(gan.history) + 1, num_epochs + 1):
            for batch in (1, 2):
                clock[0] += seconds_a_batch
                yield epoch, batch, batch * digits / 2 * torch.tensor(losses)

    monkeypatch.setattr(gan_mnist, "train", train)
    monkeypatch.setattr(gan_mnist.time, "monotonic", lambda: clock[0])


def run_fake_training(tmp_path, epochs, already=0):
    gan = GAN(1e-4, "cpu")
    gan.history = [[1.0, 1.0, 0.5, 0.5]] * already
    options = Namespace(
        output_dir=tmp_path, batch_size=100, epochs=epochs, seed=0, resume=already > 0
    )
    train_and_save(gan, torch.zeros(200, 1, 28, 28), torch.randn(64, 100), options, {})


def test_time_left_is_that_of_the_epochs_to_come(tmp_path, monkeypatch, capsys):
    fake_training(monkeypatch, [1.0, 1.0, 0.5, 0.5], seconds_a_batch=10)
    run_fake_training(tmp_path, 4)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in printed] == [
        "60 s left",
        "40 s left",
        "20 s left",
        "0 s left",
    ]
    run_fake_training(tmp_path, 9, already=7)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in printed] == ["20 s left", "0 s left"]


def test_every_line_fits_in_80_columns(tmp_path, monkeypatch, capsys):
    fake_training(monkeypatch, [19.9991, 99.9996, 0.9999, 0.9999], seconds_a_batch=400)
    run_fake_training(tmp_path, 12, already=0)
    lines = capsys.readouterr().out.splitlines()
    assert "D loss 19.999  G loss 100.000" in lines[0] and "8800 s left" in lines[0]
    assert len(lines) == 12 and max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("losses", "fails"),
    [
        ([0.0, 100.0, 1.0, 0.0], False),  # the discriminator wins: that is shown
        ([19.9, 1.0, 1.0, 1.0], False),
        ([20.1, 1.0, 1.0, 1.0], True),  # BCELoss ends at 100, and there is no way back from there
        ([float("nan"), 1.0, 0.5, 0.5], True),
        ([1.0, float("nan"), 0.5, 0.5], True),
        ([1.0, float("inf"), 0.5, 0.5], True),
    ],
)
def test_an_epoch_from_which_nothing_is_learned(losses, fails, tmp_path, monkeypatch):
    fake_training(monkeypatch, losses, seconds_a_batch=1)
    if fails:
        with pytest.raises(SystemExit, match="epoch  1/2  D loss .*lower --lr"):
            run_fake_training(tmp_path, 2)
    else:
        run_fake_training(tmp_path, 2)
    assert (tmp_path / "checkpoint.pt").exists() == (not fails)


def test_same_seed_gives_the_same_bytes_another_seed_others(finished_run, small_mnist, tmp_path):
    folder, _ = finished_run
    for name, seed in (("again", 0), ("other", 1)):
        done = command(
            "--data-dir", small_mnist, "--output-dir", tmp_path / name, "--epochs", 3,
            "--batch-size", 100, "--seed", seed, "--device", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for name in ("generator.pt", "epoch_003.png", "losses.png", "training.gif"):
        original = (folder / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == original
        assert (tmp_path / "other" / name).read_bytes() != original


def test_trains_with_the_network_cut_off(small_mnist, tmp_path):
    options = ("--data-dir", small_mnist, "--output-dir", tmp_path, "--epochs", 1)
    done = command(*options, before=NO_NETWORK)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "generator.pt").exists()


def test_the_repositorys_files_are_unpacked_with_the_network_cut_off(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("the test has cut the network off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (ROOT / "data" / "MNIST" / "raw").glob("*.gz"):
        shutil.copy(file, raw)
    assert len(load_mnist(tmp_path, "cpu")) == 60_000


def test_default_folders_stand_beside_the_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = parse_options([])
    assert (options.data_dir, options.output_dir) == (ROOT / "data", ROOT / "outputs")
    assert (options.epochs, options.seed) == (40, 0)


def test_help_explains_each_option_in_a_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for option in (
        "epochs",
        "batch-size",
        "lr",
        "seed",
        "device",
        "data-dir",
        "output-dir",
        "resume",
    ):
        assert re.search(rf"--{option}\b.*\n? +\w", printed)


def test_a_folder_that_the_terminal_has_no_letters_for(small_mnist, tmp_path):
    folder = tmp_path / "数字"
    options = ("--data-dir", small_mnist, "--output-dir", folder, "--epochs", 1, "--device", "cpu")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command_line(*options), capture_output=True, text=True, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u6570\u5b57" in done.stdout and (folder / "generator.pt").exists()


def test_a_gpu_that_cannot_be_used_leaves_the_work_to_the_cpu_with_a_reason(monkeypatch, capsys):
    """PyTorch's `meta` device stands in for it: it is there, but no number can be read from it."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert parse_options([]).device == torch.device("cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert "CPU" in line and "meta" in line
