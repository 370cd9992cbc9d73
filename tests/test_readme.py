"""Commands, links and names of both READMEs against what is there."""

import re
import runpy
import shutil
import sys

import pytest
from conftest import ROOT, edited, run_main
from PIL import Image

NAMES = "README.md", "README.zh-CN.md", "benchmarks/README.md", "gan_mnist.py", ".ci/run"
ENGLISH, CHINESE, BENCHMARKS, SOURCE, CI = [(ROOT / name).read_text("utf-8") for name in NAMES]
SCRIPTS = "gan_mnist.py", "benchmarks/quality.py", "benchmarks/notebooks.py", "benchmarks/speed.py"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_is_one_that_its_script_knows(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / name), run_name="__main__")
    printed = capsys.readouterr().out
    commands = re.findall(rf"{re.escape(name)}([^`\n<]*)", ENGLISH + CHINESE + BENCHMARKS)
    assert commands and printed
    for option in re.findall(r"--[\w-]+", " ".join(commands)):
        assert f"{option} " in printed, option
    if name == "gan_mnist.py":
        for option in re.findall(r"^ +(--[\w-]+)", printed, re.MULTILINE):
            assert f"| `{option} " in ENGLISH and f"| `{option} " in CHINESE, option


def test_requirements_are_three_packages_with_lower_bounds():
    lines = (ROOT / "requirements.txt").read_text().split()
    packages = [re.fullmatch(r"(\w+)>=[\d.]+", line)[1] for line in lines]
    assert packages == ["torch", "torchvision", "matplotlib"]


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_what_is_named_exists_and_what_exists_is_named(readme, finished, tmp_path, monkeypatch):
    *_, tests = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert "pytest" in tests and tests in CI
    rows = re.search(r"^\| (?:article|文章) .*?\n\n", readme, re.MULTILINE | re.DOTALL)[0]
    places = re.findall(r"`([^`]+)`", rows.partition("\n")[2])
    assert len(places) > 10
    assert all(place.replace("()", "(") in SOURCE for place in places), places
    links = re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", readme)
    assert all((ROOT / "".join(link)).exists() for link in links)
    for path in (ROOT / "outputs" / "reference").iterdir():
        assert f"outputs/reference/{path.name}" in readme, path.name
    for path in finished.iterdir():
        assert f"`{path.name}`" in readme or "_00" in path.name, path.name
    (tmp_path / "outputs").symlink_to(ROOT / "outputs")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[1], {})
    for name in "digits.png", "one_digit.png", "walk.png":
        assert Image.open(name).convert("L").getextrema() == (0, 255)


def edits(readme):
    """Those of the table, each an old and a new text, and that for own pictures."""
    rows = re.findall(r"^\| `(.+?)` → `(.+?)` \|", readme, re.MULTILINE)
    own = re.search(r"^(def load_mnist.*?)^```$", readme, re.MULTILINE | re.DOTALL)[1]
    return rows, re.sub(r"  #.*", "", own)


def test_every_edit_runs(options, finished, tmp_path, monkeypatch, capsys):
    """With digits also as FashionMNIST; the own pictures are the grids of a run."""
    shutil.copytree(options[1], tmp_path / "data")
    shutil.copytree(tmp_path / "data/MNIST", tmp_path / "data/FashionMNIST")
    words = "--device", "cpu", "--epochs", 1, "--output-dir"
    rows, own = edits(ENGLISH)
    assert edits(CHINESE) == (rows, own) and len(rows) > 4
    for number, row in enumerate(rows):
        run_main(*words, tmp_path / f"try_{number}", main=edited(tmp_path, *row))
    assert capsys.readouterr().out.count("500 images") == len(rows)
    shutil.copytree(finished, tmp_path / "pictures/all", ignore=lambda *_: ["training.gif"])
    old = re.search(r"^def load_mnist.*?\n\n", SOURCE, re.MULTILINE | re.DOTALL)[0]
    names = "import datasets, utils", "import datasets, transforms, utils"
    assert names[1] in ENGLISH and names[1] in CHINESE
    monkeypatch.chdir(tmp_path)
    main = edited(tmp_path, old, own + "\n", *names, BATCH_SIZE=6000)
    run_main(*words, "own", main=main)
    assert "60,000 images" in capsys.readouterr().out
