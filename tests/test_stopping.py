"""Whatever stops a run, what was made stays whole, and it goes on from there to the same end."""

import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from conftest import AT_UPDATE, SCRIPT, command, contents, run_main
from PIL import Image

import gan_mnist

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

# Stop the process in the middle of writing, or just before it moves into place, the Nth of the
# files of a run: real.png, then for each epoch the picture, losses.png, training.gif,
# generator.pt and checkpoint.pt.
WHILE_WRITING = """
import os, pathlib, signal
write, count = pathlib.Path.write_bytes, 0
def dying_write(path, content):
    global count
    count += 1
    if count == {number}:
        write(path, content[: len(content) // 2])
        os.kill(os.getpid(), signal.{signal})
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
        os.kill(os.getpid(), signal.{signal})
    return replace(path, target)
pathlib.Path.replace = dying_replace
"""
IN_AN_EPOCH = AT_UPDATE.replace("{action}", "os.kill(os.getpid(), signal.{signal})")


def assert_files_are_whole(folder):
    for path in folder.iterdir():
        if path.suffix in (".png", ".gif"):
            Image.open(path).load()
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("how", "number"),
    [
        pytest.param(IN_AN_EPOCH, 33, id="in epoch 2"),
        pytest.param(WHILE_WRITING, 7, id="in picture 2"),
        pytest.param(WHILE_WRITING, 11, id="in checkpoint 2"),
        pytest.param(BEFORE_MOVING, 14, id="before animation 3 is in place"),
        pytest.param(BEFORE_MOVING, 16, id="before checkpoint 3 is in place"),
    ],
)
def test_killed_and_resumed_ends_as_if_never_stopped(options, tmp_path, finished_run, how, number):
    folder = tmp_path / "run"
    before = how.format(number=number, signal="SIGKILL")
    killed = command(*options, "--output-dir", folder, before=before)
    assert killed.returncode == -signal.SIGKILL
    assert_files_are_whole(folder)
    resumed = command("--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    assert contents(folder) == contents(finished_run[0])


@pytest.mark.parametrize("how", [IN_AN_EPOCH.replace("{number}", "33"),
                                 WHILE_WRITING.replace("{number}", "11")])  # fmt: skip
def test_ctrl_c_prints_the_command_that_goes_on(how, options, tmp_path, finished_run):
    folder = tmp_path / "a run's folder"
    before = how.format(signal="SIGINT")
    stopped = command(*options, "--output-dir", folder, before=before)
    assert stopped.returncode == 130 and stopped.stderr == ""
    assert_files_are_whole(folder)
    (line,) = [line for line in stopped.stdout.splitlines() if line.startswith("To go on: ")]
    python, *arguments = shlex.split(line.removeprefix("To go on: "))
    assert (python, arguments[:3]) == ("python", [str(SCRIPT), "--resume", str(folder)])
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == contents(finished_run[0])


def test_ctrl_c_before_the_first_epoch_is_finished_promises_nothing(options, tmp_path):
    before = IN_AN_EPOCH.format(number=3, signal="SIGINT")
    stopped = command(*options, "--output-dir", tmp_path / "run", before=before)
    assert (stopped.returncode, stopped.stderr) == (130, "")
    assert "--resume" not in stopped.stdout
    assert list(contents(tmp_path / "run")) == ["real.png"]


def test_full_disk_leaves_the_checkpoint_of_the_epoch_before(options, tmp_path, finished_run):
    folder = tmp_path / "run"
    assert command(*options, "--output-dir", folder, "--epochs", 1).returncode == 0
    before = (folder / "checkpoint.pt").read_bytes()
    # 7 MB are enough for pictures and the generator, but for no checkpoint.
    done = command("--resume", folder, "--epochs", 3, limit=7_000_000)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "Cannot write" in done.stderr and "File too large" in done.stderr
    assert f'--resume "{folder}" --epochs 3' in done.stdout
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert command("--resume", folder, "--epochs", 3).returncode == 0
    left = contents(folder)
    assert left == contents(finished_run[0])


@pytest.mark.parametrize("times", [1, 100])
def test_a_file_that_another_program_has_open(times, options, tmp_path, monkeypatch, capsys):
    """As on Windows: for a moment, or for long."""
    replace, left = gan_mnist.Path.replace, [times]

    def locked(path, target):
        if target.name == "losses.png" and len(list(target.parent.glob("epoch*"))) == 2 and left[0]:
            left[0] -= 1
            raise PermissionError(13, "Permission denied", str(target))
        return replace(path, target)

    monkeypatch.setattr(gan_mnist.Path, "replace", locked)
    monkeypatch.setattr(gan_mnist.time, "sleep", lambda seconds: None)
    folder = tmp_path / "run"
    if times == 1:
        run_main(*options, "--output-dir", folder)
        return
    with pytest.raises(SystemExit, match="Cannot write .*losses.png .*Permission denied"):
        run_main(*options, "--output-dir", folder)
    assert f'--resume "{folder}"' in capsys.readouterr().out
    left[0] = 0
    run_main("--resume", folder)


def test_what_others_do_to_the_files_does_not_stop_a_run(options, tmp_path, finished_run):
    """A synced folder sets its times late; a person deletes a picture or opens it."""
    folder = tmp_path / "run"
    action = f"[os.utime(p) for p in pathlib.Path({str(folder)!r}).iterdir()]"
    action += f"; pathlib.Path({str(folder / 'real.png')!r}).unlink()"
    before = AT_UPDATE.format(number=30, action=action)
    done = command(*options, "--output-dir", folder, before=before)
    assert done.returncode == 0, done.stderr
    expected = contents(finished_run[0])
    del expected["real.png"]
    assert contents(folder) == expected


def test_resume_takes_its_settings_from_the_checkpoint(options, tmp_path, finished_run):
    folder = tmp_path / "run"
    run_main(*options, "--output-dir", folder, "--epochs", 2)
    with pytest.raises(SystemExit) as stop:
        run_main("--resume", folder)
    assert str(stop.value) == "2 epochs are done: --epochs N trains on, to N."
    run_main("--resume", folder, "--epochs", 3, "--batch-size", 100)
    with pytest.raises(SystemExit, match="^3 epochs are done"):
        run_main("--resume", folder, "--epochs", 2)
    assert contents(folder).keys() == contents(finished_run[0]).keys()
    last = "epoch_003.png"
    assert Image.open(folder / last).size == Image.open(finished_run[0] / last).size


@pytest.mark.parametrize(
    "arguments",
    [("--batch-size", 50), ("--lr", 0.001), ("--seed", 7), ("--output-dir", "elsewhere")],
    ids=lambda arguments: arguments[0],
)
def test_resume_refuses_other_settings(arguments, finished_run, capsys):
    before = contents(finished_run[0])
    with pytest.raises(SystemExit) as stop:
        run_main("--resume", finished_run[0], "--epochs", 4, *arguments)
    usage, line = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and arguments[0] in line
    assert contents(finished_run[0]) == before


def test_a_resumed_run_may_be_moved(finished_run, tmp_path):
    shutil.copytree(finished_run[0], tmp_path / "moved")
    run_main("--resume", tmp_path / "moved", "--epochs", 4)
    assert "epoch_004.png" in contents(tmp_path / "moved")
