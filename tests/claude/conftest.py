from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from claude_kit import GET, Claude, client
from meta_kit import EXAMPLES, ROOT

from metaharness.sandbox.environments import find_uv


@pytest.fixture(scope="session")
def claude(tmp_path_factory: pytest.TempPathFactory) -> Claude:
    """The real client, in a home that lasts as long as these tests: the plugin installs itself there once."""
    if not client().is_file():
        pytest.skip(f"Claude Code is not here: {GET.relative_to(ROOT)} fetches it")
    if find_uv() is None:
        pytest.skip("uv is not installed")
    claude = Claude(tmp_path_factory.mktemp("claude"))
    if (missing := claude.missing()) is not None:
        pytest.skip(f"what the plugin installs is not in the cache of uv, and nothing is downloaded here: {missing}")
    return claude


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that the client has open, with a domain in it."""
    project = tmp_path / "project"
    shutil.copytree(EXAMPLES / "starter", project / "garden", ignore=shutil.ignore_patterns("runs", "__pycache__"))
    return project
