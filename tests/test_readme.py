"""Commands, links, names and files of the READMEs against what is there."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

import gan_mnist

README, BENCHMARKS, SOURCE = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "benchmarks/README.md", "gan_mnist.py")
)


def section(title):
    """The text below a heading, to the next one."""
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)[1]


def test_commands_are_the_two_that_are_promised_and_ci_runs_that_for_the_tests():
    assert "```sh\npip install -r requirements.txt\npython gan_mnist.py\n```" in README
    tests = "pip install -r requirements.txt pytest && pytest"
    assert f"```sh\n{tests}\n```" in README
    assert f"\n{tests}\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("script", ["gan_mnist.py", *map(str, ROOT.glob("benchmarks/[qrs]*.py"))])
def test_every_command_is_one_that_its_script_knows(script):
    name = script.removeprefix(f"{ROOT}/")
    found = re.findall(rf"python {re.escape(name)}[^`\n]*", README + BENCHMARKS)
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert found and done.returncode == 0, done.stderr
    for option in {word for line in found for word in shlex.split(line) if word[:2] == "--"}:
        assert f"{option} " in done.stdout, option


def test_requirements_are_three_packages_with_lower_bounds():
    lines = (ROOT / "requirements.txt").read_text().split()
    packages = [re.fullmatch(r"(\w+)>=[\d.]+", line)[1] for line in lines]
    assert packages == ["torch", "torchvision", "matplotlib"]


def test_python_snippet_runs_and_draws(tmp_path):
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for name in ("gan_mnist.py", "outputs"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, check=True)
    (drawn,) = tmp_path.glob("*.png")
    assert Image.open(drawn).convert("L").getextrema() == (0, 255)


@pytest.mark.parametrize("title", ["The article, step by step", "中文说明"])
def test_article_maps_name_places_that_exist(title):
    rows = re.findall(r"^\|(?! `)[^|]*\|([^|]*)\|$", section(title), re.MULTILINE)
    places = [place for row in rows for place in re.findall(r"`([^`]+)`", row)]
    steps = [place for place in places if place.startswith("# (")]
    assert steps == [f"# ({step})" for step in ("1", "2", "3", "4", "5a", "5b", "6")]
    for place in set(places) - {"gan_mnist.py"}:
        assert place.replace("()", "(") in SOURCE, place


def test_edits_to_try_are_of_lines_that_exist():
    edits = re.findall(r"`([^`]+)` →", section("Things to try"))
    assert len(edits) > 3 and all(old in SOURCE for old in edits)


def test_links_and_pictures_exist_and_every_file_of_the_reference_run_is_shown():
    links = re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README)
    links = {"".join(link) for link in links}
    assert all((ROOT / link).exists() for link in links)
    for path in (ROOT / "outputs" / "reference").iterdir():
        assert f"outputs/reference/{path.name}" in README, path.name


def test_options_and_their_defaults_are_all_explained():
    for option in re.findall(r'add\("(--[\w-]+)"', SOURCE):
        assert f"| `{option} " in section("Options"), option
    options = vars(gan_mnist.parse_options([])) | {"lr": gan_mnist.LEARNING_RATE}
    for option, default in re.findall(r"`--([\w-]+) ([\d.]+)`", section("Options")):
        assert options[option.replace("-", "_")] == float(default), option


def test_files_that_a_run_saves_are_all_explained(finished_run):
    for path in finished_run[0].iterdir():
        assert f"`{path.name}`" in section("The files it saves") or "_00" in path.name, path.name
