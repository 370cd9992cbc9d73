"""The README's commands and code, for the tests and for CI.

`python tests/readme.py test` prints its test command.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def command_with(word):
    """The only block of shell commands in which this word stands."""
    (block,) = [block for block in code_blocks("sh") if re.search(rf"\b{word}\b", block)]
    return block


if __name__ == "__main__":
    print(command_with({"test": "pytest"}[sys.argv[1]]), end="")
