"""Whatever stops a run, what was made stays whole and the run goes on from there, to the very same end."""

import shutil
import signal
import subprocess
import time

import pytest
import torch
from conftest import command, command_line
from PIL import Image

from gan_mnist import Generator

RESULTS = ("generator.pt", "losses.png", "training.gif", "real.png", *(f"epoch_{n:03}.png" for n in (1, 2, 3)))


@pytest.fixture
def options(small_mnist, tmp_path):
    return ("--data-dir", small_mnist, "--output-dir", tmp_path, "--epochs", 3, "--device", "cpu")


def assert_files_are_whole(folder):
    for path in folder.glob("*.p[nt]*"):
        if path.suffix == ".png":
            Image.open(path).load()
        else:
            torch.load(path, weights_only=True)
    for path in folder.glob("*.gif"):
        with Image.open(path) as animation:
            animation.seek(animation.n_frames - 1)


def assert_same_end(folder, finished_run):
    for name in RESULTS:
        assert (folder / name).read_bytes() == (finished_run[0] / name).read_bytes(), name
    left_overs = {path.name for path in folder.iterdir()} - set(RESULTS) - {"checkpoint.pt"}
    assert not left_overs


# Kill the process while it writes, or just before it moves into place, the Nth of the files of a run, which are
# real.png, then a picture and a checkpoint for each epoch, then generator.pt, losses.png and training.gif.
WHILE_WRITING = """
import os, pathlib, signal
write, count = pathlib.Path.write_bytes, 0
def dying_write(path, content):
    global count
    count += 1
    if count == {number}:
        write(path, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, content)
pathlib.Path.write_bytes = dying_write
"""
BEFORE_MOVING = """
import os, pathlib, signal
replace, count = pathlib.Path.replace, 0
def dying_replace(path, target):
    global count
    count += 1
    if count == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
pathlib.Path.replace = dying_replace
"""
# The 13th update of the 2nd epoch: the middle of an epoch of 20 batches.
IN_AN_EPOCH = """
import os, signal, torch
step, count = torch.optim.Adam.step, 0
def dying_step(self, *args, **kwargs):
    global count
    count += 1
    if count == 2 * {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)
torch.optim.Adam.step = dying_step
"""


@pytest.mark.parametrize(
    ("how", "number"),
    [
        pytest.param(IN_AN_EPOCH, 33, id="in epoch 2"),
        pytest.param(WHILE_WRITING, 4, id="in picture 2"),
        pytest.param(WHILE_WRITING, 5, id="in checkpoint 2"),
        pytest.param(BEFORE_MOVING, 5, id="before checkpoint 2 is in place"),
        pytest.param(WHILE_WRITING, 8, id="in generator"),
        pytest.param(BEFORE_MOVING, 10, id="before animation is in place"),
    ],
)
def test_killed_and_resumed_it_ends_as_if_never_interrupted(options, tmp_path, finished_run, how, number):
    killed = command(*options, before=how.format(number=number))
    assert killed.returncode == -signal.SIGKILL
    assert_files_are_whole(tmp_path)
    resumed = command(*options, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_end(tmp_path, finished_run)


def test_killed_from_outside_and_resumed(options, tmp_path, finished_run):
    with subprocess.Popen(command_line(*options), stdout=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("epoch  1/3"):
            assert process.poll() is None
        time.sleep(0.1)
        process.kill()
    assert_files_are_whole(tmp_path)
    assert command(*options, "--resume").returncode == 0
    assert_same_end(tmp_path, finished_run)


def test_killed_before_the_first_checkpoint_a_new_run_leaves_no_left_overs(options, tmp_path, finished_run):
    assert command(*options, before=WHILE_WRITING.format(number=3)).returncode == -signal.SIGKILL
    assert (tmp_path / ".part").exists()
    assert command(*options).returncode == 0
    for folder in tmp_path.glob("older_run_*"):
        shutil.rmtree(folder)
    assert_same_end(tmp_path, finished_run)


def test_a_finished_run_has_nothing_left_to_do_and_redraws_its_pictures(options, tmp_path, finished_run):
    shutil.copytree(finished_run[0], tmp_path, dirs_exist_ok=True)
    for name in ("generator.pt", "losses.png", "training.gif"):
        (tmp_path / name).unlink()
    done = command(*options, "--resume")
    assert done.returncode == 0 and "nothing left to do" in done.stdout
    assert_same_end(tmp_path, finished_run)


def test_more_epochs_train_on(small_mnist, tmp_path, finished_run):
    options = ("--data-dir", small_mnist, "--output-dir", tmp_path, "--device", "cpu")
    assert command(*options, "--epochs", 2).returncode == 0
    assert command(*options, "--epochs", 3, "--resume").returncode == 0
    assert_same_end(tmp_path, finished_run)


def test_ctrl_c_draws_what_is_finished_and_says_how_to_go_on(options, tmp_path, finished_run):
    with subprocess.Popen(command_line(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("epoch  1/3"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate()
    assert process.returncode == 130 and errors == ""
    assert "--resume" in printed
    assert_files_are_whole(tmp_path)
    with Image.open(tmp_path / "training.gif") as animation:
        assert animation.n_frames == len(list(tmp_path.glob("epoch_*.png"))) == 1
    Generator().load_state_dict(torch.load(tmp_path / "generator.pt", weights_only=True))
    assert command(*options, "--resume").returncode == 0
    assert_same_end(tmp_path, finished_run)


# Ctrl-C in the middle of the 2nd epoch, and again while the results are written.
CTRL_C_TWICE = IN_AN_EPOCH.replace("SIGKILL", "SIGINT").format(number=33) + WHILE_WRITING.replace(
    "SIGKILL", "SIGINT"
).format(number=5)


def test_second_ctrl_c_stops_at_once_and_leaves_whole_files(options, tmp_path, finished_run):
    done = command(*options, before=CTRL_C_TWICE)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert_files_are_whole(tmp_path)
    assert command(*options, "--resume").returncode == 0
    assert_same_end(tmp_path, finished_run)


def test_ctrl_c_before_the_first_epoch_is_finished(options, tmp_path):
    done = command(*options, before=IN_AN_EPOCH.replace("SIGKILL", "SIGINT").format(number=3))
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"real.png"}


def test_a_new_run_sets_an_older_one_aside(options, tmp_path, finished_run):
    shutil.copytree(finished_run[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "epoch_041.png").write_bytes((tmp_path / "epoch_003.png").read_bytes())
    (tmp_path / "mine.png").write_text("not the script's")
    done = command(*options[:-4], "--epochs", 1, "--device", "cpu")
    assert done.returncode == 0
    (aside,) = tmp_path.glob("older_run_*")
    assert str(aside) in done.stdout
    for name in (*RESULTS, "checkpoint.pt"):
        assert (aside / name).read_bytes() == (finished_run[0] / name).read_bytes()
    assert not (tmp_path / "epoch_002.png").exists() and not (tmp_path / "epoch_041.png").exists()
    assert (tmp_path / "mine.png").exists()
    with Image.open(tmp_path / "training.gif") as animation:
        assert animation.n_frames == 1
