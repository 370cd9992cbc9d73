import os
import pty
import re
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from conftest import NO_NETWORK, ROOT, command, command_line
from PIL import Image
from torchvision.utils import save_image

from gan_mnist import GRID, Generator, load_mnist, main, parse_options


def test_importing_has_no_effect(tmp_path):
    shutil.copy(ROOT / "gan_mnist.py", tmp_path)
    code = "import sys; sys.dont_write_bytecode = True; import gan_mnist, torch; print(torch.initial_seed())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["gan_mnist.py"]


def test_every_file_is_there(finished_run):
    folder, _ = finished_run
    names = {"real.png", "training.gif", "losses.png", "generator.pt", "checkpoint.pt"}
    assert {path.name for path in folder.iterdir()} == names | {f"epoch_{epoch:03}.png" for epoch in (1, 2, 3)}


def test_pictures_can_be_opened_and_differ(finished_run):
    folder, _ = finished_run
    pictures = [Image.open(folder / name).convert("L") for name in ("real.png", "epoch_001.png", "epoch_003.png")]
    assert {picture.size for picture in pictures} == {(242, 242)}  # 8 x 8 digits of 28 pixels, 2 between
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert Image.open(folder / "losses.png").size == (800, 500)


def test_animation_has_a_frame_an_epoch_with_its_number(finished_run):
    folder, _ = finished_run
    with Image.open(folder / "training.gif") as animation:
        assert animation.n_frames == 3
        labels = []
        for epoch in (1, 2, 3):
            animation.seek(epoch - 1)
            frame = animation.convert("L")
            picture = Image.open(folder / f"epoch_{epoch:03}.png").convert("L")
            assert frame.crop((0, 0, 242, 242)).tobytes() == picture.tobytes()
            labels.append(frame.crop((0, 242, *frame.size)))
    assert all(label.getextrema()[0] == 0 and label.getextrema()[1] > 200 for label in labels)  # white on black
    assert len({label.tobytes() for label in labels}) == 3


def test_saved_generator_draws_the_last_grid_again(finished_run, tmp_path):
    folder, _ = finished_run
    generator = Generator()
    generator.load_state_dict(torch.load(folder / "generator.pt", weights_only=True))
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")  # as in the run
    try:
        save_image(generator(torch.randn(64, 100)), tmp_path / "again.png", **GRID)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert Image.open(tmp_path / "again.png").tobytes() == Image.open(folder / "epoch_003.png").tobytes()


def test_prints_one_lasting_line_an_epoch_into_a_pipe(finished_run):
    folder, printed = finished_run
    first, *epochs, last = printed.splitlines()
    assert first == "2,000 digits on cpu; parameters: D 1,460,225, G 1,486,352"
    number = r"\d+\.\d+"
    pattern = rf" (\d)/3  D loss {number}  G loss {number}  D\(x\) {number}  D\(G\(z\)\) {number} +\d+ s, +(\d+) s left"
    found = [re.fullmatch("epoch " + pattern, line) for line in epochs]
    assert [match[1] for match in found] == ["1", "2", "3"] and found[-1][2] == "0"
    assert str(folder) in last and last.startswith("Saved")


def test_live_line_on_a_terminal_is_redrawn_in_place(small_mnist, tmp_path):
    ours, theirs = pty.openpty()
    arguments = command_line("--data-dir", small_mnist, "--output-dir", tmp_path, "--epochs", 1, "--batch-size", 4)
    with subprocess.Popen(arguments, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 1000):
                printed += chunk
        except OSError:  # how Linux says that the other end was closed
            pass
    assert process.returncode == 0
    live = re.findall(
        r"epoch  1/1  D loss [\d.]+  G loss [\d.]+  batch +\d+/500 +\d+ s, +\d+ s left\r(?!\n)", printed.decode()
    )
    assert len(live) >= 2 and all(len(line) < 80 for line in live)


def test_same_seed_gives_the_same_bytes_another_seed_others(finished_run, small_mnist, tmp_path):
    folder, _ = finished_run
    for name, seed in (("again", 0), ("other", 1)):
        done = command(
            "--data-dir", small_mnist, "--output-dir", tmp_path / name, "--epochs", 3, "--seed", seed, "--device", "cpu"
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for name in ("generator.pt", "epoch_003.png", "losses.png", "training.gif"):
        original = (folder / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == original
        assert (tmp_path / "other" / name).read_bytes() != original


def test_trains_with_the_network_cut_off(small_mnist, tmp_path):
    done = command("--data-dir", small_mnist, "--output-dir", tmp_path, "--epochs", 1, before=NO_NETWORK)
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
    assert len(load_mnist(tmp_path, 100, "cpu").dataset) == 60_000


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
    for option in ("epochs", "batch-size", "lr", "seed", "device", "data-dir", "output-dir", "resume"):
        assert re.search(rf"--{option}\b.*\n? +\w", printed)
