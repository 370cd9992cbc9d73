import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image
from readme import README, code_blocks, command_with


def test_commands_are_the_two_that_are_promised():
    assert command_with("pytest") == "pip install -r requirements.txt pytest && pytest\n"
    assert "pip install -r requirements.txt\npython gan_mnist.py\n" in code_blocks("sh")[0]


def test_requirements_are_three_packages_with_lower_bounds():
    lines = (ROOT / "requirements.txt").read_text().split()
    assert [re.fullmatch(r"(\w+)>=[\d.]+", line)[1] for line in lines] == [
        "torch",
        "torchvision",
        "matplotlib",
    ]


def test_python_snippet_runs_and_draws(tmp_path):
    (snippet,) = code_blocks("python")
    assert len(snippet.splitlines()) <= 6
    for name in ("gan_mnist.py", "outputs"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, check=True)
    (drawn,) = tmp_path.glob("*.png")
    assert Image.open(drawn).convert("L").getextrema() == (0, 255)


def places():
    rows = re.findall(
        r"^\|.*\|$",
        README[README.index("## The article") : README.index("## What differs")],
        re.MULTILINE,
    )
    return [place for row in rows[2:] for place in re.findall(r"`([^`]+)`", row.split("|")[-2])]


def test_article_map_names_places_that_exist():
    source = (ROOT / "gan_mnist.py").read_text()
    names = {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    found = places()
    assert len(found) >= 12
    for place in found:
        if place.startswith("# ("):
            assert source.count(place + " ") == 1, place
        elif place.startswith("--"):
            assert f'"{place}"' in source, place
        elif place.endswith("()") or place[0].isupper():
            assert place.removesuffix("()") in names, place
        else:
            assert place in source, place


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README)))
)
def test_links_and_pictures_exist(link):
    assert (ROOT / "".join(link)).exists()


def test_options_are_all_explained():
    options = re.findall(r'add_argument\("(--[\w-]+)"', (ROOT / "gan_mnist.py").read_text())
    for option in options:
        assert f"| `{option}" in README, option
