"""Each mistake a person can make ends in one clear line, an exit code that is not 0, and with
nothing lost. A slip in the reader's own edit keeps Python's traceback."""

import os
import shutil
import subprocess

import pytest
import torch
from conftest import (
    AT_UPDATE,
    NO_NETWORK,
    ROOT,
    SCRIPT,
    SMALL,
    command,
    command_line,
    contents,
    write_small_mnist,
)

from gan_mnist import GAN, main, resume


def assert_one_clear_line(done, *words):
    assert done.returncode not in (0, None) and done.returncode > 0, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 + lines[0].startswith("usage: "), done.stderr
    for word in words:
        assert str(word) in lines[-1], done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--epochs", value] for value in ("0", "-1", "many", "1.5")),
        *(["--batch-size", value] for value in ("0", "-1", "many")),
        *(["--lr", value] for value in ("0", "-1", "nan", "inf", "-inf", "fast")),
        *(["--seed", value] for value in ("-1", "4294967296", "1e3", "x")),
        *(["--device", value] for value in ("gpu", "cuda:99", "meta", "")),
        ["--what"],
    ],
    ids="=".join,
)
def test_options_that_cannot_be(arguments, finished_run, capsys):
    before = contents(finished_run[0])
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--output-dir", str(finished_run[0])])
    printed = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert len(printed) == 2 and printed[0].startswith("usage: ") and arguments[0] in printed[1]
    assert contents(finished_run[0]) == before


def test_batch_larger_than_the_data(small_mnist, finished_run):
    before = contents(finished_run[0])
    options = ("--data-dir", small_mnist, "--output-dir", finished_run[0])
    done = command(*options, "--batch-size", SMALL + 1)
    assert_one_clear_line(done, "--batch-size 2001", "2000 digits")
    assert contents(finished_run[0]) == before


@pytest.mark.parametrize("kind", ["file", "below a file", "cannot be created"])
def test_output_folder_that_cannot_be(kind, small_mnist, tmp_path):
    (tmp_path / "file").write_text("mine")
    kinds = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "out"}
    folder = kinds.get(kind, "/proc/out")
    done = command("--data-dir", small_mnist, "--output-dir", folder)
    assert_one_clear_line(done, "--output-dir", folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_full_disk_leaves_the_checkpoint_of_the_epoch_before(options, tmp_path, finished_run):
    assert command(*options, "--epochs", 1).returncode == 0
    before = contents(tmp_path)
    # 7 MB are enough for pictures and the generator, but for no checkpoint.
    done = command(*options, "--resume", limit=7_000_000)
    assert_one_clear_line(done, "File too large", "checkpoint.pt", "--output-dir")
    path = (tmp_path / "out" / "checkpoint.pt").relative_to(tmp_path)
    assert (tmp_path / path).read_bytes() == before[path]
    assert command(*options, "--resume").returncode == 0
    assert contents(tmp_path / "out") == contents(finished_run[0])


def test_no_data_and_no_network(tmp_path, finished_run):
    before = contents(finished_run[0])
    done = command("--data-dir", tmp_path, "--output-dir", finished_run[0], before=NO_NETWORK)
    assert_one_clear_line(
        done, "train-images-idx3-ubyte.gz", "data/README.md", tmp_path / "MNIST" / "raw"
    )
    assert contents(finished_run[0]) == before


def test_data_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = command(
        "--data-dir", tmp_path / "file", "--output-dir", tmp_path / "out", before=NO_NETWORK
    )
    assert_one_clear_line(done, "Cannot read MNIST", tmp_path / "file")
    done = command("--data-dir", "/proc", "--output-dir", tmp_path / "out", before=NO_NETWORK)
    assert_one_clear_line(done, "Cannot read MNIST", "/proc/MNIST")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut short", "wrong MD5"])
def test_packed_file_that_is_damaged(damage, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (ROOT / "data" / "MNIST" / "raw").glob("*.gz"):
        shutil.copy(file, raw)
    labels = raw / "train-labels-idx1-ubyte.gz"
    content = bytearray(labels.read_bytes())
    if damage == "cut short":
        del content[1000:]
    else:
        content[1000] ^= 1
    labels.write_bytes(content)
    done = command("--data-dir", tmp_path, "--output-dir", tmp_path / "out", before=NO_NETWORK)
    assert_one_clear_line(done, "train-labels-idx1-ubyte.gz", "data/README.md")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 15, 16, 17, 1500])
def test_unpacked_file_cut_short(name, size, tmp_path, capsys):
    raw = write_small_mnist(tmp_path / "data") / "MNIST" / "raw"
    (raw / name).write_bytes((raw / name).read_bytes()[:size])
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["--data-dir", str(tmp_path / "data"), "--output-dir", str(tmp_path / "out")])
    (line,) = str(stop.value).splitlines()
    assert f"Cannot read MNIST in {raw}" in line and "data/README.md" in line
    assert "delete the files there that do not end in .gz" in line and "--" not in line
    assert contents(tmp_path) == before and not (tmp_path / "out").exists()


def test_deleting_what_the_message_says_mends_it(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(write_small_mnist(tmp_path / "small") / "MNIST" / "raw", raw)
    for packed in (ROOT / "data" / "MNIST" / "raw").glob("*.gz"):
        shutil.copy(packed, raw)
    (raw / "train-images-idx3-ubyte").write_bytes(b"cut short")
    options = ("--data-dir", tmp_path, "--output-dir", tmp_path / "out", "--epochs", 1)
    assert_one_clear_line(command(*options, before=NO_NETWORK), "delete the files there")
    for file in raw.iterdir():
        if file.suffix != ".gz":
            file.unlink()
    stop_early = AT_UPDATE.format(number=2, action="raise KeyboardInterrupt")
    done = command(*options, before=NO_NETWORK + stop_early)
    assert "60,000 digits" in done.stdout and done.returncode == 130


@pytest.mark.parametrize("lr", ["1e30", "1e38"])
def test_training_that_diverges(lr, options, tmp_path):
    done = command(*options, "--lr", lr)
    assert_one_clear_line(done, "Training has failed", "nan", "--lr")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"real.png"}


@pytest.mark.parametrize("lr", ["0.05", "0.5"])
def test_training_that_is_dead(lr, options, tmp_path):
    """BCELoss ends at 100 and passes no gradient there."""
    done = command(*options, "--lr", lr)
    assert_one_clear_line(done, "epoch ", "D loss ", "G loss ", "lower --lr")
    assert "epoch_001.png" not in {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("step", "value", "word"),
    [
        (41, "nan", "Training has failed (D(x) nan)"),  # the discriminator's, in the 21st update
        (42, "nan", "Training has failed (D(x) nan)"),  # the generator's
        (41, "1e9", "epoch  2/3  D loss 95"),
    ],
)
def test_training_that_fails_later_leaves_the_last_good_checkpoint(
    step, value, word, options, tmp_path, finished_run
):
    spoil = f"self.param_groups[0]['params'][-1].data.fill_(float('{value}'))"
    done = command(*options, before=AT_UPDATE.format(number=step / 2, action=spoil))
    assert_one_clear_line(done, word, "lower --lr")
    checkpoint = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert len(checkpoint["history"]) == 1
    assert not (tmp_path / "out" / "epoch_002.png").exists()
    assert command(*options, "--resume").returncode == 0
    assert contents(tmp_path / "out") == contents(finished_run[0])


def test_resume_without_a_checkpoint(options, tmp_path):
    done = command(*options, "--resume")
    assert_one_clear_line(done, tmp_path / "out" / "checkpoint.pt", "not there", "--resume")
    for name in ("older_run_2026-01-01_00-00-00", "older_run_2026-01-02_00-00-00"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "checkpoint.pt").touch()
    assert_one_clear_line(command(*options, "--resume"), "not there", tmp_path / "out" / name)


@pytest.mark.parametrize(
    ("option", "value", "saved"), [("--batch-size", 50, 100), ("--lr", 1.0, 6e-4), ("--seed", 7, 0)]
)
def test_resume_with_settings_of_another_run(option, value, saved, small_mnist, finished_run):
    before = contents(finished_run[0])
    options = ("--data-dir", small_mnist, "--output-dir", finished_run[0], "--batch-size", 100)
    done = command(*options, "--resume", option, value)
    assert_one_clear_line(done, f"{option} {saved}, not {value}")
    assert contents(finished_run[0]) == before


def test_resume_with_another_number_of_digits(finished_run, tmp_path):
    before = contents(finished_run[0])
    fewer = write_small_mnist(tmp_path, SMALL - 100)
    options = ("--data-dir", fewer, "--output-dir", finished_run[0], "--batch-size", 100)
    assert_one_clear_line(command(*options, "--resume"), "digits 2000, not 1900")
    assert contents(finished_run[0]) == before


def damaged_checkpoints(whole):
    yield "empty", b""
    yield "text", b"hello"
    for share in (0.1, 0.5, 0.9, 0.999):
        yield f"cut to {share}", whole[: int(share * len(whole))]
    for place in range(0, len(whole), len(whole) // 40):
        yield f"byte {place}", whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]


def test_damaged_checkpoint(finished_run, tmp_path):
    path = tmp_path / "checkpoint.pt"
    whole = (finished_run[0] / "checkpoint.pt").read_bytes()
    settings = torch.load(finished_run[0] / "checkpoint.pt", weights_only=True)["settings"]
    gan = GAN(6e-4, "cpu")
    seen = 0
    for damage, content in damaged_checkpoints(whole):
        path.write_bytes(content)
        try:
            resume(gan, tmp_path, settings)
        except SystemExit as stop:
            assert f"{path} cannot be read (" in str(stop) and "\n" not in str(stop)
            assert gan.history == [], "half a checkpoint was loaded"
            seen += 1
        else:  # zip files have a few bytes that mean nothing
            assert damage.startswith("byte"), damage
            gan.history = []
    assert seen >= 44
    path.write_bytes(whole)
    resume(gan, tmp_path, settings)
    assert len(gan.history) == 3


@pytest.mark.parametrize("content", [[1, 2], {"settings": {}}, {"model": torch.zeros(3)}], ids=str)
def test_checkpoint_of_another_program(content, small_mnist, tmp_path):
    torch.save(content, tmp_path / "checkpoint.pt")
    before = contents(tmp_path)
    done = command("--data-dir", small_mnist, "--output-dir", tmp_path, "--resume")
    assert_one_clear_line(done, tmp_path / "checkpoint.pt", "--resume")
    assert contents(tmp_path) == before


def test_checkpoint_that_cannot_be_read_for_another_reason(options, tmp_path, finished_run):
    shutil.copytree(finished_run[0], tmp_path / "out")
    no_memory = "import torch\ndef fail(*a, **k): raise RuntimeError('DefaultCPUAllocator: no')\n"
    done = command(*options, "--resume", before=no_memory + "torch.load = fail")
    assert_one_clear_line(done, "checkpoint.pt cannot be read (DefaultCPUAllocator: no)")
    (tmp_path / "out" / "checkpoint.pt").unlink()
    (tmp_path / "out" / "checkpoint.pt").mkdir()
    done = command(*options, "--resume")
    assert_one_clear_line(done, "checkpoint.pt cannot be read", "Is a directory")
    assert "damaged" not in done.stderr


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


def test_checkpoint_of_a_stranger_runs_no_code(options, tmp_path):
    (tmp_path / "out").mkdir()
    torch.save({"settings": Malicious()}, tmp_path / "out" / "checkpoint.pt")
    done = command(*options, "--resume", before=f"import os; os.chdir({str(tmp_path)!r})")
    assert_one_clear_line(done, tmp_path / "out" / "checkpoint.pt", "cannot be read")
    assert not (tmp_path / "malicious").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
@pytest.mark.parametrize("stdout", ["closed pipe", "/dev/full"])
def test_output_that_cannot_be_printed(stdout, options, tmp_path):
    if stdout == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(stdout, os.O_WRONLY)
    arguments = command_line(*options, "--epochs", 1)
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert_one_clear_line(done, "Stopped", "printed")
    assert "--output-dir" not in done.stderr


@pytest.mark.parametrize(
    ("before", "device"),
    [
        ("torch.Tensor.div_ = fail", "torch.OutOfMemoryError('CUDA out of memory. Tried')"),
        ("torch.Tensor.div_ = fail", "MemoryError()"),
        ("import torchvision; torchvision.datasets.MNIST.__init__ = fail", "MemoryError()"),
        ("torch.randperm = lambda *a, **k: torch.empty(10**15)", "None"),  # the CPU's own error
    ],
    ids=["GPU, loading", "CPU, loading", "CPU, reading", "CPU, training"],
)
def test_out_of_memory(before, device, options):
    fail = f"import torch\ndef fail(*a, **k): raise {device}\n"
    done = command(*options, before=fail + before)
    assert_one_clear_line(done, "Out of memory", "--batch-size")
    assert "MNIST" not in done.stderr and "--lr" not in done.stderr


def edited(tmp_path, *edits, times=(1,)):
    """A copy of the script with a reader's edits in it, each of a text that is there so often."""
    with open(SCRIPT, encoding="utf-8") as file:
        source = file.read()
    for old, new in edits:
        assert source.count(old) in times, old
        source = source.replace(old, new)
    script = tmp_path / "edited.py"
    script.write_text(source, encoding="utf-8")
    return script


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("nn.Linear(1024, 512), nn", "nn.Linear(1000, 512), nn", "RuntimeError: "),
        (" nn.Sigmoid(),", "", "RuntimeError: all elements of input should be between 0 and 1"),
        ("on_real.mean(), ", "on_reel.mean(), ", "NameError: name 'on_reel'"),
        ("mnist.data.unsqueeze", "mnits.data.unsqueeze", "NameError: name 'mnits'"),
        ("mnist.data.unsqueeze", "mnist.date.unsqueeze", "AttributeError: "),
        ("datasets.MNIST(", "datasets.MNITS(", "AttributeError: module 'torchvision.datasets'"),
        ("download=True", "downlaod=True", "TypeError: "),
        ("torch.ones(size, 1, device", "torch.ones(size, device", "ValueError: Using a target"),
        ("totals = 0\n", "totals = open('no.txt')\n", "FileNotFoundError: "),
        ("torch.zeros(size, 1,", "torch.zeros(size, 1) - 1, (", "SyntaxError: "),
        (" nn.Hardtanh(0, 1),", " nn.Hardtahn(0, 1),", "AttributeError: module 'torch.nn'"),
    ],
    ids=lambda value: value if "Error" in value else "",
)
def test_a_slip_in_the_readers_edit_keeps_its_traceback(old, new, error, options, tmp_path):
    script = edited(tmp_path, (old, new))
    done = command(*options, script=script)
    assert done.returncode == 1
    assert "Traceback" in done.stderr or error.startswith("SyntaxError")
    assert done.stderr.strip().splitlines()[-1].startswith(error), done.stderr
    assert str(script) in done.stderr and "--lr" not in done.stderr


@pytest.mark.parametrize(
    "edits",
    [
        [("1024), nn.LeakyReLU(0.2),  # like", "1026), nn.LeakyReLU(0.2),  # like"),
         ("nn.Linear(1024, 512), nn", "nn.Linear(1026, 512), nn")],
        [("nn.Linear(512, 256), nn", "nn.Linear(512, 10), nn"),
         ("nn.Linear(256, 1)", "nn.Linear(10, 1)")],
        [("betas = (0.0, 0.999)", "betas = (0.9, 0.999)")],
    ],
    ids=["width 1026", "width 10", "betas"],
)  # fmt: skip
def test_a_valid_edit_trains(edits, options, tmp_path):
    done = command(*options, script=edited(tmp_path, *edits))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("pattern", "new"), [("nn.LeakyReLU(0.2)", "nn.ReLU()"), (" nn.Dropout(),", "")]
)
def test_other_layers_train(pattern, new, options, tmp_path):
    script = edited(tmp_path, (pattern, new), times=(1, 3))
    done = command(*options, script=script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("update", [3, 33], ids=["in its epoch 1", "in its epoch 2"])
def test_of_two_runs_in_one_folder_the_later_goes_on(update, options, tmp_path, finished_run):
    """The earlier one waits in the middle of an epoch until the later one is through."""
    wait = "while not pathlib.Path(os.environ['GO']).exists(): time.sleep(0.05)"
    before = AT_UPDATE.format(number=update, action=wait)
    environment = os.environ | {"GO": str(tmp_path / "go")}
    arguments = command_line(*options, before=before)
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as earlier:
        assert "digits on cpu" in earlier.stdout.readline()
        if update > 20:
            assert earlier.stdout.readline().startswith("epoch  1/3")
        else:
            while not (tmp_path / "out" / "real.png").exists():
                assert earlier.poll() is None
        later = command(*options)
        assert later.returncode == 0, later.stderr
        (tmp_path / "go").touch()
        _, errors = earlier.communicate(timeout=100)
    assert earlier.returncode == 1
    assert errors == f"Another run writes in {tmp_path / 'out'}: give each its own --output-dir.\n"
    left = {
        path: content
        for path, content in contents(tmp_path / "out").items()
        if not path.parent.name
    }
    assert left == contents(finished_run[0])
    assert len(list((tmp_path / "out").glob("older_run_*"))) == (update > 20)


def test_a_damaged_picture_of_an_earlier_epoch_is_not_taken_for_a_printing_error(options, tmp_path):
    assert command(*options, "--epochs", 1).returncode == 0
    (tmp_path / "out" / "epoch_001.png").write_bytes(b"damaged")
    done = command(*options, "--resume")
    assert done.returncode == 1 and "UnidentifiedImageError" in done.stderr
