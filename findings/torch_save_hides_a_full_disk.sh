#!/usr/bin/env bash
# Given a path, torch.save does not say that the disk is full; given an open file, it does.
#
# torch 2.14.1 (2.15.0 alike) and Pillow 13.0.0, Linux, on the CPU. /dev/full is the kernel's own
# full disk: it can be opened, and each write fails with ENOSPC. A training that saves pictures and
# a checkpoint after each epoch meets both libraries there. Pillow raises OSError, and so does
# torch.save in its old format. In its format since 1.6, an archive, torch.save(weights, path) ends
# in a RuntimeError about a position in that archive: whoever catches OSError misses it, and the
# line that people read and report (for example pytorch/pytorch issues 76108 and 121833) does not
# name the cause, nor does what lies behind it. With a file that Python opened, and closes, the
# same call ends in the OSError. So for a clear line, open the file, or save into memory first.
#
# Guess before the run: OSError, "No space left on device", from all four.
# Seen:
#   Pillow, path                  OSError       [Errno 28] No space left on device
#   torch.save, old format, path  OSError       [Errno 28] No space left on device
#   torch.save, open file         OSError       [Errno 28] No space left on device
#   torch.save, path              RuntimeError  [enforce fail at ...] . unexpected pos 704 vs 598
# Fails if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet torch==2.14.1 pillow==13.0.0
"$folder/bin/python" - <<'PYTHON'
import errno

import torch
from PIL import Image

FULL = "/dev/full"
weights, picture = {"weight": torch.zeros(500_000)}, Image.effect_noise((500, 500), 50)


def in_an_open_file():
    with open(FULL, "wb") as file:
        torch.save(weights, file)


def failure(name, save):
    try:
        save()
    except (OSError, RuntimeError) as error:
        print(f"{name:30}{type(error).__name__:14}{str(error)[:60]}")
        return error
    raise AssertionError("no error")


old = dict(_use_new_zipfile_serialization=False)
for name, save in {
    "Pillow, path": lambda: picture.save(FULL, "PNG"),
    "torch.save, old format, path": lambda: torch.save(weights, FULL, **old),
    "torch.save, open file": in_an_open_file,
}.items():
    error = failure(name, save)
    assert isinstance(error, OSError) and error.errno == errno.ENOSPC
error = failure("torch.save, path", lambda: torch.save(weights, FULL))
assert isinstance(error, RuntimeError) and "unexpected pos" in str(error)
while error:  # nowhere behind it either
    assert "space" not in str(error) and not isinstance(error, OSError)
    error = error.__context__
print("As described, torch", torch.__version__)
PYTHON
