"""Commands, links, names and figures of both READMEs against what is there."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

import gan_mnist

ENGLISH, CHINESE, BENCHMARKS, SOURCE = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "README.zh-CN.md", "benchmarks/README.md", "gan_mnist.py")
)
TESTS = "pip install -r requirements.txt pytest\npytest"
both = pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["English", "Chinese"])


def code(readme, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)


@both
def test_commands_are_the_two_that_are_promised_and_ci_runs_that_for_the_tests(readme):
    two = "pip install -r requirements.txt\npython gan_mnist.py\n"
    assert code(readme, "sh") == [two, f"{TESTS}\n"]
    assert f"\n{TESTS}\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("script", ["gan_mnist.py", *map(str, ROOT.glob("benchmarks/[qrs]*.py"))])
def test_every_command_is_one_that_its_script_knows(script):
    name = script.removeprefix(f"{ROOT}/")
    found = re.findall(rf"{re.escape(name)}([^`\n<]*)", ENGLISH + CHINESE + BENCHMARKS)
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


@both
def test_python_snippet_runs_and_draws(readme, tmp_path):
    for name in ("gan_mnist.py", "outputs"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-c", *code(readme, "python")], cwd=tmp_path, check=True)
    drawn = {path.name: Image.open(path).convert("L") for path in tmp_path.glob("*.png")}
    assert set(drawn) == {"digits.png", "one_digit.png", "walk.png"}
    assert all(picture.getextrema() == (0, 255) for picture in drawn.values())


@both
def test_article_maps_name_places_that_exist(readme):
    rows = re.search(r"^\| (?:article|文章) .*?\n\n", readme, re.MULTILINE | re.DOTALL)[0]
    places = re.findall(r"`([^`]+)`", rows.partition("\n")[2])
    steps = [place for place in places if place.startswith("# (")]
    assert steps == [f"# ({step})" for step in ("1", "2", "3", "4", "5a", "5b", "6")]
    for place in places:
        assert place.replace("()", "(") in SOURCE, place


@both
def test_edits_to_try_are_of_lines_that_exist(readme):
    edits = re.findall(r"`([^`]+)` →", readme)
    assert len(edits) > 3 and all(old in SOURCE for old in edits), edits


@both
def test_links_and_pictures_exist_and_every_file_of_the_reference_run_is_shown(readme):
    links = re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", readme)
    assert all((ROOT / "".join(link)).exists() for link in links)
    for path in (ROOT / "outputs" / "reference").iterdir():
        assert f"outputs/reference/{path.name}" in readme, path.name


@both
def test_options_and_files_are_all_explained(readme, finished_run):
    for option in re.findall(r'add\("(--[\w-]+)"', SOURCE):
        assert f"| `{option} " in readme, option
    options = vars(gan_mnist.parse_options([]))
    options["lr"] = options["rate"]
    for option, default in re.findall(r"\| `--([\w-]+) ([\d.]+)` \|", readme):
        assert options[option.replace("-", "_")] == float(default), option
    for path in finished_run[0].iterdir():
        assert f"`{path.name}`" in readme or "_00" in path.name, path.name


def test_the_chinese_readme_has_the_figures_of_the_english_one():
    assert sorted(re.findall(r"\d+\.\d+", CHINESE)) == sorted(re.findall(r"\d+\.\d+", ENGLISH))
