"""Checks by import that the system libraries of OpenCV are there, and prints the one line that installs them."""

from __future__ import annotations

import importlib
import sys

REMEDY = "apt-get install -y --no-install-recommends libgl1 libx11-6"


def problem() -> str | None:
    """What is missing, for people; None if nothing is."""
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        return f"OpenCV cannot be loaded: {error}. Install what it needs, as root: {REMEDY}"
    return None


if __name__ == "__main__":
    found = problem()
    if found:
        print(found, file=sys.stderr)
        sys.exit(3)
