"""Whatever stops a run, what was made stays whole, and it goes on from there to the same end."""

import os
import shutil
import signal
import subprocess

import pytest
import torch
from conftest import AT_UPDATE, command, command_line, contents
from PIL import Image

from gan_mnist import Generator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


def assert_files_are_whole(folder):
    for path in folder.glob("[!.]*.p[nt]*"):  # not the hidden left-over of the writing itself
        if path.suffix == ".png":
            Image.open(path).load()
        else:
            torch.load(path, weights_only=True)
    for path in folder.glob("*.gif"):
        with Image.open(path) as animation:
            animation.seek(animation.n_frames - 1)


def assert_same_end(folder, finished_run):
    assert contents(folder).keys() == contents(finished_run[0]).keys()
    for name, content in contents(folder).items():
        assert content == (finished_run[0] / name).read_bytes(), name


# Stop the process while it writes, or just before it moves into place, the Nth of the files of a
# run: real.png, then for each epoch the picture, losses.png, training.gif, generator.pt and
# checkpoint.pt.
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
IN_AN_EPOCH = AT_UPDATE.replace("{action}", "os.kill(os.getpid(), signal.SIGKILL)")
CTRL_C_IN_AN_EPOCH = IN_AN_EPOCH.replace("SIGKILL", "SIGINT")


@pytest.mark.parametrize(
    ("how", "number"),
    [
        pytest.param(IN_AN_EPOCH, 33, id="in epoch 2"),
        pytest.param(WHILE_WRITING, 7, id="in picture 2"),
        pytest.param(WHILE_WRITING, 10, id="in generator 2"),
        pytest.param(WHILE_WRITING, 11, id="in checkpoint 2"),
        pytest.param(BEFORE_MOVING, 11, id="before checkpoint 2 is in place"),
        pytest.param(BEFORE_MOVING, 14, id="before animation 3 is in place"),
        pytest.param(BEFORE_MOVING, 16, id="before checkpoint 3 is in place"),
    ],
)
def test_killed_and_resumed_ends_as_if_never_stopped(options, tmp_path, finished_run, how, number):
    killed = command(*options, before=how.format(number=number))
    assert killed.returncode == -signal.SIGKILL
    assert_files_are_whole(tmp_path / "out")
    resumed = command(*options, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_end(tmp_path / "out", finished_run)


def test_killed_from_outside_and_resumed(options, tmp_path, finished_run):
    with subprocess.Popen(command_line(*options), stdout=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("epoch  1/3"):
            assert process.poll() is None
        process.kill()
    assert_files_are_whole(tmp_path / "out")
    assert command(*options, "--resume").returncode == 0
    assert_same_end(tmp_path / "out", finished_run)


def test_killed_before_the_first_checkpoint_a_new_run_leaves_no_left_overs(
    options, tmp_path, finished_run
):
    killed = command(*options, before=WHILE_WRITING.format(number=6))
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "out").glob(".checkpoint.pt.*.part"))
    assert command(*options).returncode == 0
    for folder in (tmp_path / "out").glob("older_run_*"):
        shutil.rmtree(folder)
    assert_same_end(tmp_path / "out", finished_run)


def test_resuming_a_finished_run_leaves_it_as_it_is(options, tmp_path, finished_run):
    shutil.copytree(finished_run[0], tmp_path / "out")
    done = command(*options, "--resume")
    assert done.returncode == 0
    assert_same_end(tmp_path / "out", finished_run)


def test_more_epochs_train_on(options, tmp_path, finished_run):
    assert command(*options, "--epochs", 2).returncode == 0
    assert command(*options, "--epochs", 3, "--resume").returncode == 0
    assert_same_end(tmp_path / "out", finished_run)


def test_a_missing_earlier_picture_does_not_stop_the_animation(options, tmp_path):
    assert command(*options, "--epochs", 2).returncode == 0
    (tmp_path / "out" / "epoch_001.png").unlink()
    assert command(*options, "--resume").returncode == 0
    with Image.open(tmp_path / "out" / "training.gif") as animation:
        assert animation.n_frames == 2


def test_ctrl_c_leaves_what_is_finished_and_says_how_to_go_on(options, tmp_path, finished_run):
    done = command(*options, before=CTRL_C_IN_AN_EPOCH.format(number=33))
    assert done.returncode == 130 and done.stderr == ""
    assert "Stopped. --resume goes on.\n" in done.stdout
    assert_files_are_whole(tmp_path / "out")
    with Image.open(tmp_path / "out" / "training.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 1
    assert {path.name for path in (tmp_path / "out").glob("epoch_*.png")} == {"epoch_001.png"}
    saved = torch.load(tmp_path / "out" / "generator.pt", weights_only=True)
    Generator().load_state_dict(saved)
    assert command(*options, "--resume").returncode == 0
    assert_same_end(tmp_path / "out", finished_run)


def test_ctrl_c_while_a_checkpoint_is_written_leaves_whole_files(options, tmp_path, finished_run):
    done = command(*options, before=WHILE_WRITING.replace("SIGKILL", "SIGINT").format(number=11))
    assert done.returncode == 130 and done.stderr == ""
    assert_files_are_whole(tmp_path / "out")
    assert command(*options, "--resume").returncode == 0
    assert_same_end(tmp_path / "out", finished_run)


def test_ctrl_c_before_the_first_epoch_is_finished_promises_nothing(options, tmp_path):
    done = command(*options, before=CTRL_C_IN_AN_EPOCH.format(number=3))
    assert done.returncode == 130 and done.stderr == ""
    assert "Stopped. Nothing is saved yet.\n" in done.stdout
    assert "--resume" not in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"real.png"}
    # Nor is there an older run to move away.
    assert command(*options, "--epochs", 1).returncode == 0
    assert not list((tmp_path / "out").glob("older_run_*"))


def test_a_new_run_sets_an_older_one_aside(options, tmp_path, finished_run):
    out = tmp_path / "out"
    shutil.copytree(finished_run[0], out)
    (out / "epoch_041.png").write_bytes((out / "epoch_003.png").read_bytes())
    (out / "mine.png").write_text("not the script's")
    done = command(*options, "--epochs", 1)
    assert done.returncode == 0
    (aside,) = out.glob("older_run_*")
    assert str(aside) in done.stdout
    moved = {str(path): content for path, content in contents(finished_run[0]).items()}
    moved["epoch_041.png"] = moved["epoch_003.png"]
    del moved["real.png"]  # the new run's is the same
    assert {str(path): content for path, content in contents(aside).items()} == moved
    assert not (out / "epoch_002.png").exists() and not (out / "epoch_041.png").exists()
    assert (out / "mine.png").exists()
    with Image.open(out / "training.gif") as animation:
        assert animation.n_frames == 1


def test_deleting_real_png_is_not_taken_for_another_run(options, tmp_path, finished_run):
    delete = f"pathlib.Path({str(tmp_path / 'out' / 'real.png')!r}).unlink()"
    done = command(*options, before=AT_UPDATE.format(number=30, action=delete))
    assert done.returncode == 0, done.stderr
    last = "epoch_003.png"
    assert (tmp_path / "out" / last).read_bytes() == (finished_run[0] / last).read_bytes()
