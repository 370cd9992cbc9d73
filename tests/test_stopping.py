"""Whatever stops a run, what was made stays whole, and it goes on from there to the same end."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import SCRIPT, command, contents, needs_posix, run_main
from PIL import Image

import gan_mnist

pytestmark = needs_posix

# Kill the process in the middle of writing this file of epoch 2.
WHILE_WRITING = """
import os, pathlib, signal
write_bytes = pathlib.Path.write_bytes
def dying(path, content):
    in_epoch_2 = path.with_name("checkpoint.pt").exists()
    if in_epoch_2 and path.name == "{}.part":
        write_bytes(path, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write_bytes(path, content)
pathlib.Path.write_bytes = dying
"""


def stopped_in_epoch_2(sign, options, folder):
    """Start the script and send it the signal once epoch 1 is saved."""
    words = map(str, [sys.executable, SCRIPT, *options, "--output-dir", folder])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell starts what it runs in the background with Ctrl-C ignored. Here it has to count.
    count = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with subprocess.Popen(list(words), **pipes, **count) as process:
        process.stdout.readline()
        assert process.stdout.readline().startswith("epoch  1/3")
        time.sleep(0.2)
        process.send_signal(sign)
        process.errors = process.stderr.read()
    return process


def assert_files_are_whole(folder):
    for path in folder.iterdir():
        if path.suffix in (".png", ".gif"):
            Image.open(path).load()
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)


@pytest.mark.parametrize("place", ["epoch", "epoch_002.png", "checkpoint.pt"])
def test_killed_and_resumed_ends_as_if_never_stopped(place, options, tmp_path, finished_run):
    folder = tmp_path / "run"
    if place == "epoch":
        killed = stopped_in_epoch_2(signal.SIGKILL, options, folder)
    else:
        before = WHILE_WRITING.format(place)
        killed = command(*options, "--output-dir", folder, before=before)
    assert killed.returncode == -signal.SIGKILL
    assert_files_are_whole(folder)
    run_main("--resume", folder)
    for part in folder.glob("*.part"):  # of a file that the resumed run did not write
        part.unlink()
    assert contents(folder) == contents(finished_run[0])


def test_ctrl_c_says_how_to_go_on(options, tmp_path, finished_run):
    folder = tmp_path / "a run's folder"
    stopped = stopped_in_epoch_2(signal.SIGINT, options, folder)
    assert stopped.returncode == 1 and stopped.errors.count("\n") == 1
    assert_files_are_whole(folder)
    option, path = stopped.errors.split("go on with ")[1].strip().split(" ", 1)
    run_main(option, path.strip('"'))
    assert contents(folder) == contents(finished_run[0])


def test_full_disk_leaves_the_checkpoint_of_the_epoch_before(options, tmp_path, finished_run):
    folder = tmp_path / "run"
    run_main(*options, "--output-dir", folder, "--epochs", 1)
    checkpoint = (folder / "checkpoint.pt").read_bytes()
    # 7 MB are enough for pictures and the generator, but for no checkpoint.
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (7_000_000,) * 2)"
    done = command("--resume", folder, "--epochs", 3, before=before)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Cannot write") and "File too large" in done.stderr
    assert (folder / "checkpoint.pt").read_bytes() == checkpoint
    run_main("--resume", folder, "--epochs", 3)
    assert contents(folder) == contents(finished_run[0])


@pytest.mark.parametrize("times", [1, 9], ids=["for a moment", "for long"])
def test_a_file_that_another_program_has_open(times, options, tmp_path, monkeypatch):
    """As on Windows, from epoch 2 on."""
    replace, left, tries = Path.replace, [times], []

    def locked(path, target):
        if target.name == "losses.png" and (tmp_path / "run/epoch_002.png").exists() and left[0]:
            left[0] -= 1
            raise PermissionError(13, "Permission denied", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", locked)
    monkeypatch.setattr(gan_mnist.time, "sleep", tries.append)
    if times > 1:
        with pytest.raises(SystemExit, match="Cannot write .*losses.png.*Permission denied"):
            run_main(*options, "--output-dir", tmp_path / "run")
        assert_files_are_whole(tmp_path / "run")
    else:
        run_main(*options, "--output-dir", tmp_path / "run")
    assert left[0] == (7 if times == 9 else 0) and len(tries) == 1


def test_many_pictures_or_missing_ones_do_not_stop_a_run(finished_run, tmp_path):
    """A long run has hundreds, and may open few files; a person deletes some."""
    folder = Path(shutil.copytree(finished_run[0], tmp_path / "run"))
    (folder / "real.png").unlink()
    (folder / "epoch_002.png").unlink()
    for number in range(200, 250):
        shutil.copy(folder / "epoch_003.png", folder / f"epoch_{number}.png")
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    done = command("--resume", folder, "--epochs", 4, before=before)
    assert (done.returncode, done.stderr) == (0, "")
    assert Image.open(folder / "training.gif").n_frames > 3


def test_resume_takes_its_settings_from_the_checkpoint(options, tmp_path, monkeypatch):
    """Also in another folder, with the data where they were."""
    monkeypatch.chdir(options[1].parent)
    data_dir = ("--data-dir", options[1].name)
    run_main(*options[2:], *data_dir, "--output-dir", tmp_path / "run", "--epochs", 1, "--seed", 3)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for epochs in [], ["--epochs", 1]:
        with pytest.raises(SystemExit, match="^1 epochs are done: --epochs N continues up to N"):
            run_main("--resume", moved, *epochs)
    run_main("--resume", moved, "--epochs", 2)
    saved = torch.load(moved / "checkpoint.pt", weights_only=True)
    assert saved["settings"]["seed"] == 3 and saved["settings"]["epochs"] == 2
    assert len(saved["history"]) == 2 and saved["batches"] == 10


def test_resume_obeys_what_is_given_and_keeps_it(finished_run, tmp_path):
    folder = shutil.copytree(finished_run[0], tmp_path / "run")
    new = {"epochs": 4, "batch_size": 50, "lr": 0.001, "seed": 7}
    words = (word for name in new for word in ("--" + name.replace("_", "-"), new[name]))
    run_main("--resume", folder, *words)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert saved["settings"].items() >= new.items() and saved["batches"] == 3 * 5 + 40
    for optimizer in "D's Adam", "G's Adam":
        assert saved["states"][optimizer]["param_groups"][0]["lr"] == 0.001
