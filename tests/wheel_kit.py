"""A package to install without an index: a wheel of one module, written by hand."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from metaharness.sandbox.environments import find_uv

needs_uv = pytest.mark.skipif(find_uv() is None, reason="uv is not installed")
CODE = """
def shout(text):
    return text.upper() + "!"
"""


def wheel(folder: Path, name: str = "tiny", version: str = "1.0", code: str = CODE) -> Path:
    """A wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{place},sha256={digest},{len(text.encode())}\n")
            archive.writestr(place, text)
        archive.writestr(f"{about}/RECORD", "".join(rows) + f"{about}/RECORD,,\n")
    return path


def requirements(folder: Path, text: str = "./wheels/tiny-1.0-py3-none-any.whl\n") -> Path:
    """A file of requirements beside a folder with the wheel."""
    wheel(folder / "wheels")
    file = folder / "harness-requirements.txt"
    file.write_text(text)
    return file
