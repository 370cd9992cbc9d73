"""What goes wrong ends in one clear line, an exit code that is not 0, and with nothing lost."""

import functools
import http.server
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import command, contents, edited, run_main
from PIL import Image
from torchvision.datasets import MNIST

import gan_mnist


def test_options_that_cannot_be(capsys):
    for words in "--epochs=many", "--seed=x", "--resume=a --output-dir=b", "--resume=a --seed=0":
        with pytest.raises(SystemExit, match="^2$"):
            run_main(*words.split())
        option, line = words.split()[-1].split("=")[0], capsys.readouterr().err.splitlines()[-1]
        assert re.search(f"error: .*{option}", line), line


def test_what_cannot_be_used(options, first_epoch, tmp_path, monkeypatch):
    """A device, data, folders and checkpoints. Data are mended as data/README.md says."""
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # where nobody answers
    monkeypatch.chdir(tmp_path)
    for name, size in ("cut", 3), ("half", 1500), ("empty", 0):
        raw = Path(shutil.copytree(options[1], name), "MNIST/raw")
        os.truncate(raw / "train-images-idx3-ubyte", size)
    shutil.copy(first_epoch / "checkpoint.pt", "cut")
    os.truncate("cut/checkpoint.pt", 1_000_000)
    shutil.copy(first_epoch / "generator.pt", "half/checkpoint.pt")
    torch.save([1], "empty/checkpoint.pt")
    os.mkdir("bad")
    Path("bad/checkpoint.pt").write_bytes(b"cio\nopen\n(S'made.txt'\nS'w'\ntR.")  # makes a file
    before = contents(tmp_path)
    lines = {
        "--output-dir new --epochs 0": "0 epochs are done: --epochs must be more",
        "--output-dir new --device gpu": "Cannot use --device gpu: .*gpu",
        "--output-dir new --device cuda:99": "Cannot use --device cuda:99: .",
        "--output-dir new --device meta": "Cannot use --device meta: .*meta",
        "--output-dir new --data-dir no": "Cannot load MNIST from no: .*[Rr]efused",
        "--output-dir new --data-dir cut": "Cannot load MNIST from cut: AssertionError",
        "--output-dir new --data-dir half": "Cannot load MNIST from half: RuntimeError: .*shape",
        "--output-dir new --data-dir empty": "Cannot load MNIST from empty: ValueError: .",
        "--output-dir bad": "Cannot make .*'bad'.* another --output-dir",
        "--output-dir bad/checkpoint.pt/below": "Cannot make .* another --output-dir",
    }
    folders = "no", "cut", "half", "bad", "empty"
    lines |= {f"--resume {x}": f"Cannot go on with {x}: ." for x in folders}
    for words, line in lines.items():
        with pytest.raises(SystemExit, match=f"^{line}[^\n]*$"):
            run_main(*options, *words.split())
        assert contents(tmp_path) == before and not os.path.exists("new"), words
    for path in raw.glob("*-ubyte"):
        path.unlink()
    assert len(gan_mnist.load_mnist("empty")) == 60_000


def test_a_mirror_that_sends_something_else(tmp_path, monkeypatch):
    """As networks do in which one has to log in."""
    (tmp_path / "train-images-idx3-ubyte.gz").write_text("Please log in.")
    files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.HTTPServer(("127.0.0.1", 0), files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        with pytest.raises(SystemExit, match="^Cannot load MNIST from [^\n]* corrupted[^\n]*$"):
            run_main("--data-dir", tmp_path / "new")
        server.shutdown()


def test_a_gpu_of_pytorchs_choice_that_cannot_be_used(options, tmp_path, monkeypatch, capsys):
    """PyTorch's `meta` stands in for a GPU that is there but does not work."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("meta"))
    words = "--data-dir", options[1], "--epochs", 1, "--output-dir", tmp_path / "run"
    run_main(*words)
    why, used, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch("Cannot use the GPU: .*meta.* CPU.*", why) and "images on cpu" in used


LOGITS = "nn.BCELoss", "nn.BCEWithLogitsLoss", "        nn.Sigmoid(),", "        # nn.Sigmoid(),"


LOST = (  # by the loss of the discriminator, by that of the generator, by a loss of NaN
    ((), dict(LEARNING_RATE=1)),
    ((), dict(LEARNING_RATE=0.005, BATCH_SIZE=5, BETAS=(0.9, 0.999))),
    (LOGITS, dict(LEARNING_RATE=1e30)),
)


@pytest.mark.parametrize("edits, settings", LOST)
def test_training_that_is_lost_leaves_the_last_good_checkpoint(
    edits, settings, options, begun, capsys
):
    main = edited(begun.parent, *edits, **settings)
    with pytest.raises(SystemExit, match="^Training has failed[^\n]*LEARNING_RATE[^\n]*$"):
        run_main(*options, "--resume", begun, "--epochs", 9, main=main)
    history = torch.load(begun / "checkpoint.pt", weights_only=True)["history"]
    assert len(history) == 1 + capsys.readouterr().out.count("s left")
    assert torch.tensor(history)[:, :2].max() < 28


SLIPS = (
    ("nn.Sigmoid(),", "nn.Tanh(),", RuntimeError, "elements .* should be between 0 and 1"),
    ("mnist.data.unsqueeze(1)", "mnist.data.view(7, 1)", RuntimeError, "shape '.7, 1.'"),
    ("= datasets.MNIST(", "= datasets.MNITS(", AttributeError, "module 'torchvision"),
    ("# (2)", "open('no.txt')  #", FileNotFoundError, "no.txt"),
    ("weights_only=True", "weight_only=True", TypeError, "weight_only"),
    ("NOISE_SIZE = 100", "NOISE_SIZE = 50", RuntimeError, "Error.s. in loading state_dict"),
)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_the_readers_edit_keeps_its_traceback(slip, options, begun, capsys):
    """What was raised arrives as it was, and nothing promises that one can go on."""
    old, new, error, words = slip
    with pytest.raises(error, match=words):
        run_main(*options, "--resume", begun, main=edited(begun.parent, old, new))
    assert "go on" not in "".join(capsys.readouterr())


IN_AN_EPOCH = """
import signal; from torch.optim.optimizer import register_optimizer_step_pre_hook as before_step
left = [None] * 5; before_step(lambda *_: left.pop() if left else signal.raise_signal({sign}))
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where Ctrl-C is ignored"""
# What writes more into a file than there is room is killed (SIG_DFL) or gets an error (SIG_IGN).
IN_A_FILE = """
from resource import *; from signal import *; signal(SIGXFSZ, {then})
setrlimit(RLIMIT_CORE, (0, 0)); setrlimit(RLIMIT_FSIZE, ({room}, {room}))"""


def test_stopped_in_epoch_2_and_resumed_ends_as_if_never_stopped(options, begun, finished):
    """Each time, what is in the folder stays whole, and the checkpoint that of epoch 1."""
    again, checkpoint = [*options, "--resume", begun], (begun / "checkpoint.pt").read_bytes()
    for before, code, errors in (  # pictures have more than 10 kB, generator.pt 3.6 MB
        (IN_AN_EPOCH.format(sign=9), -signal.SIGKILL, ""),
        (IN_AN_EPOCH.format(sign=2), 1, f'Stopped. [^\n]* go on with --resume "{begun}"\n'),
        (IN_A_FILE.format(room=10_000, then="SIG_DFL"), -signal.SIGXFSZ, ""),
        (IN_A_FILE.format(room=7_000_000, then="SIG_DFL"), -signal.SIGXFSZ, ""),
        (IN_A_FILE.format(room=3_000_000, then="SIG_IGN"), 1, "Cannot write .*too large\n"),
    ):
        stopped = command(*again, before=before)
        assert stopped.returncode == code and re.fullmatch(errors, stopped.stderr), stopped
        for path in begun.glob("*.pt"):
            torch.load(path, weights_only=True)
        for path in [*begun.glob("*.png"), *begun.glob("*.gif")]:
            Image.open(path).load()
        assert (begun / "checkpoint.pt").read_bytes() == checkpoint
    run_main(*again)
    assert contents(begun) == contents(finished)


def test_a_file_that_another_program_has_open(options, begun, finished, monkeypatch):
    """As on Windows: for long, then for a moment."""
    replace, locked, again = os.replace, [True], [*options, "--resume", begun]

    def refuse(source, target):
        if locked and Path(target).name == "losses.png":
            raise PermissionError(13, "Permission denied", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(SystemExit, match="^Cannot write [^\n]*losses.png[^\n]*Permission denied"):
        run_main(*again)
    monkeypatch.setattr(time, "sleep", lambda seconds: locked.clear())
    run_main(*again)
    assert contents(begun) == contents(finished) and not locked
