"""Commands, links and names of both READMEs against what is there."""

import re
import runpy
import sys

import pytest
from conftest import ROOT
from PIL import Image

NAMES = "README.md", "README.zh-CN.md", "benchmarks/README.md", "gan_mnist.py", ".ci/run"
ENGLISH, CHINESE, BENCHMARKS, SOURCE, CI = [(ROOT / name).read_text("utf-8") for name in NAMES]
SCRIPTS = "gan_mnist.py", "benchmarks/quality.py", "benchmarks/race.py", "benchmarks/speed.py"


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
    edits = re.findall(r"`([^`]+)` →", readme)
    assert len(places) > 10 and len(edits) > 3
    assert all(place.replace("()", "(") in SOURCE for place in places + edits), places + edits
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
