"""Commands, links and names of both READMEs against what is there."""

import re
import runpy
import shlex
import sys

import pytest
from conftest import ROOT
from PIL import Image

ENGLISH, CHINESE, BENCHMARKS, SOURCE = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "README.zh-CN.md", "benchmarks/README.md", "gan_mnist.py")
)
both = pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["English", "Chinese"])


def code(readme, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)


@both
def test_ci_runs_the_test_command_of_the_readme(readme):
    *_, tests = code(readme, "sh")
    assert "pytest" in tests and tests in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("script", ["gan_mnist.py", *map(str, ROOT.glob("benchmarks/[qrs]*.py"))])
def test_every_command_is_one_that_its_script_knows(script, monkeypatch, capsys):
    name = script.removeprefix(f"{ROOT}/")
    found = re.findall(rf"{re.escape(name)}([^`\n<]*)", ENGLISH + CHINESE + BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / name), run_name="__main__")
    printed = capsys.readouterr().out
    assert found and printed
    for option in {word for line in found for word in shlex.split(line) if word[:2] == "--"}:
        assert f"{option} " in printed, option


def test_requirements_are_three_packages_with_lower_bounds():
    lines = (ROOT / "requirements.txt").read_text().split()
    packages = [re.fullmatch(r"(\w+)>=[\d.]+", line)[1] for line in lines]
    assert packages == ["torch", "torchvision", "matplotlib"]


@both
def test_python_snippet_runs_and_draws(readme, tmp_path, monkeypatch):
    (tmp_path / "outputs").symlink_to(ROOT / "outputs")
    monkeypatch.chdir(tmp_path)
    exec(code(readme, "python")[0], {})
    drawn = {path.name: Image.open(path).convert("L") for path in tmp_path.glob("*.png")}
    assert set(drawn) == {"digits.png", "one_digit.png", "walk.png"}
    assert all(picture.getextrema() == (0, 255) for picture in drawn.values())


@both
def test_places_and_lines_to_edit_exist_in_the_script(readme):
    rows = re.search(r"^\| (?:article|文章) .*?\n\n", readme, re.MULTILINE | re.DOTALL)[0]
    places = re.findall(r"`([^`]+)`", rows.partition("\n")[2])
    edits = re.findall(r"`([^`]+)` →", readme)
    assert len(places) > 10 and len(edits) > 3
    assert all(place.replace("()", "(") in SOURCE for place in places + edits), places + edits


@both
def test_links_exist_and_every_option_and_file_is_explained(readme, finished_run):
    links = re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", readme)
    assert all((ROOT / "".join(link)).exists() for link in links)
    for path in (ROOT / "outputs" / "reference").iterdir():
        assert f"outputs/reference/{path.name}" in readme, path.name
    for option in re.findall(r'"(--[\w-]+)"', SOURCE):
        assert f"| `{option} " in readme, option
    for path in finished_run[0].iterdir():
        assert f"`{path.name}`" in readme or "_00" in path.name, path.name
