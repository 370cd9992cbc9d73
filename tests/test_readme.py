import ast
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image
from readme import README, code_blocks, command_with

BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
SOURCE = (ROOT / "gan_mnist.py").read_text(encoding="utf-8")


def section(title):
    """The text below a heading, to the next one."""
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)[1]


def table_rows(text):
    return [line.strip("|").split("|") for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)]


def test_commands_are_the_two_that_are_promised():
    assert command_with("pytest") == "pip install -r requirements.txt pytest && pytest\n"
    assert "pip install -r requirements.txt\npython gan_mnist.py\n" in code_blocks("sh")[0]


def commands():
    """Every `python ...` of both READMEs, in code blocks and within lines."""
    texts = re.findall(r"`(python [^`]+)`|^(python .+)$", README + BENCHMARKS, re.MULTILINE)
    return sorted({(inline or block).strip() for inline, block in texts})


@pytest.mark.parametrize("line", commands())
def test_every_command_is_one_that_its_script_knows(line):
    _, script, *arguments = shlex.split(line)
    if script == "-m":
        return
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    for argument in arguments:
        if argument.startswith("--"):
            assert re.search(rf"{argument}\b", done.stdout), argument


def test_requirements_are_three_packages_with_lower_bounds():
    lines = (ROOT / "requirements.txt").read_text().split()
    packages = [re.fullmatch(r"(\w+)>=[\d.]+", line)[1] for line in lines]
    assert packages == ["torch", "torchvision", "matplotlib"]


def test_python_snippet_runs_and_draws(tmp_path):
    (snippet,) = code_blocks("python")
    assert len([line for line in snippet.splitlines() if line]) == 5
    for name in ("gan_mnist.py", "outputs"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, check=True)
    (drawn,) = tmp_path.glob("*.png")
    assert Image.open(drawn).convert("L").getextrema() == (0, 255)


@pytest.mark.parametrize("title", ["The article, step by step", "中文说明"])
def test_article_maps_name_places_that_exist(title):
    nodes = ast.walk(ast.parse(SOURCE))
    names = {n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    rows = [row for row in table_rows(section(title)) if len(row) == 2 and "pip" not in row[0]]
    found = [place for row in rows for place in re.findall(r"`([^`]+)`", row[1])]
    assert [p for p in found if p.startswith("# (")] == [
        f"# ({step})" for step in ("1", "2", "3", "4", "5a", "5b", "6")
    ]
    for place in set(found) - {"gan_mnist.py", "--resume"}:
        if place.startswith("# ("):
            assert SOURCE.count(place + " ") == 1, place
        elif place.startswith("--"):
            assert f'"{place}"' in SOURCE, place
        elif place.endswith("()") or place[0].isupper():
            assert place.removesuffix("()") in names, place
        else:
            assert place in SOURCE, place


def test_edits_to_try_are_of_lines_that_exist():
    edits = section("Things to try")
    for old in re.findall(r"`([^`]+)` →", edits):
        assert old in SOURCE, old


LINKS = re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README)


@pytest.mark.parametrize("link", sorted({"".join(link) for link in LINKS}))
def test_links_and_pictures_exist(link):
    assert (ROOT / link).exists()


def test_every_file_of_the_reference_run_is_shown():
    for path in (ROOT / "outputs" / "reference").iterdir():
        assert f"outputs/reference/{path.name}" in README, path.name


def test_options_and_their_defaults_are_all_explained():
    for option in re.findall(r'add\("(--[\w-]+)"', SOURCE):
        assert f"| `{option}" in section("Options"), option
    for option, default in re.findall(r"`(--[\w-]+) ([\d.]+)`", section("Options")):
        assert f"default: {default})" in re.search(rf'add\("{option}".*', SOURCE)[0], option


def test_files_that_a_run_saves_are_all_explained(finished_run):
    for path in finished_run[0].iterdir():
        assert f"`{path.name}`" in section("The files it saves") or "_00" in path.name, path.name


def test_nothing_is_said_of_the_article_that_it_does_not_say():
    article = re.compile(r"article's (settings|code|batch|learning rate)")
    for path in (ROOT, ROOT / "tests", ROOT / "benchmarks"):
        for file in [*path.glob("*.py"), *path.glob("*.md")]:
            if file.name != "test_readme.py":
                assert not article.search(file.read_text(encoding="utf-8")), file
