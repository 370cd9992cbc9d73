"""Whatever stops a run, what was made stays whole, and it goes on from there to the same end."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import AT_UPDATE, SCRIPT, command, contents, run_main
from PIL import Image

import gan_mnist

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

# Stop the process in the middle of writing the Nth of the files of a run: real.png, then for each
# epoch the picture, losses.png, training.gif, generator.pt and checkpoint.pt.
WHILE_WRITING = """
import os, pathlib, signal
write_bytes, count = pathlib.Path.write_bytes, 0
def dying(path, content):
    global count
    count += 1
    if count == {number}:
        write_bytes(path, content[: len(content) // 2])
        os.kill(os.getpid(), signal.{signal})
    return write_bytes(path, content)
pathlib.Path.write_bytes = dying
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


@pytest.mark.parametrize(("how", "number"), [(IN_AN_EPOCH, 33), (WHILE_WRITING, 11)])
def test_ctrl_c_prints_the_command_that_goes_on(how, number, options, tmp_path, finished_run):
    folder = tmp_path / "a run's folder"
    before = how.format(number=number, signal="SIGINT")
    stopped = command(*options, "--output-dir", folder, before=before)
    assert stopped.returncode == 130 and stopped.stderr == ""
    assert_files_are_whole(folder)
    python, *line = shlex.split(stopped.stdout.splitlines()[-1].removeprefix("To go on: "))
    assert (python, line[:3]) == ("python", [str(SCRIPT), "--resume", str(folder)])
    done = subprocess.run([sys.executable, *line], capture_output=True, text=True)
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
    assert contents(folder) == contents(finished_run[0])


@pytest.mark.parametrize("times", [1, 9], ids=["for a moment", "for long"])
def test_a_file_that_another_program_has_open(times, options, tmp_path, monkeypatch, capsys):
    """As on Windows, from epoch 2 on."""
    replace, left = gan_mnist.Path.replace, [times]

    def locked(path, target):
        if target.name == "losses.png" and (tmp_path / "epoch_002.png").exists() and left[0]:
            left[0] -= 1
            raise PermissionError(13, "Permission denied", str(target))
        return replace(path, target)

    tmp_path = tmp_path / "run"
    monkeypatch.setattr(gan_mnist.Path, "replace", locked)
    monkeypatch.setattr(gan_mnist.time, "sleep", lambda seconds: None)
    if times > 1:
        with pytest.raises(SystemExit, match="Cannot write .*losses.png.*Permission denied"):
            run_main(*options, "--output-dir", tmp_path)
        assert f'--resume "{tmp_path}"' in capsys.readouterr().out
    else:
        run_main(*options, "--output-dir", tmp_path)
    assert left[0] == (7 if times == 9 else 0)


def test_what_others_do_to_the_files_does_not_stop_a_run(options, tmp_path, finished_run):
    """A synced folder sets its times late; a person deletes a picture."""
    action = f"run = pathlib.Path({str(tmp_path / 'run')!r}); (run / 'real.png').unlink()"
    action += "; [os.utime(path) for path in run.iterdir()]"
    before = AT_UPDATE.format(number=30, action=action)
    done = command(*options, "--output-dir", tmp_path / "run", before=before)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run").items() < contents(finished_run[0]).items()


def test_a_long_run_needs_few_open_files(finished_run, tmp_path):
    folder = Path(shutil.copytree(finished_run[0], tmp_path / "run"))
    for number in range(200, 250):
        shutil.copy(folder / "epoch_003.png", folder / f"epoch_{number}.png")
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    done = command("--resume", folder, "--epochs", 4, before=before)
    assert (done.returncode, done.stderr) == (0, "")
    assert Image.open(folder / "training.gif").n_frames > 4


def test_resume_takes_its_settings_from_the_checkpoint(options, tmp_path):
    folder = tmp_path / "run"
    run_main(*options, "--output-dir", folder, "--epochs", 1)
    moved = folder.rename(tmp_path / "moved")
    for epochs, message in ([], "1 epochs are done"), (["--epochs", 1], "1 epochs are done"):
        with pytest.raises(SystemExit, match=f"^{message}: --epochs N continues up to N"):
            run_main("--resume", moved, *epochs)
    run_main("--resume", moved, "--epochs", 2, "--batch-size", 100)  # as it was
    settings = torch.load(moved / "checkpoint.pt", weights_only=True)
    assert settings["batch_size"] == 100 and settings["epochs"] == len(settings["history"]) == 2


@pytest.mark.parametrize(
    "argument", ["--batch-size=50", "--lr=0.001", "--seed=7", "--output-dir=elsewhere"]
)
def test_resume_refuses_other_settings(argument, finished_run, capsys):
    before = contents(finished_run[0])
    with pytest.raises(SystemExit) as stop:
        run_main("--resume", finished_run[0], "--epochs", 4, argument)
    _, line = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and argument.split("=")[0] in line
    assert contents(finished_run[0]) == before
