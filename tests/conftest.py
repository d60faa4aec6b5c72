from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# a slow machine is no fault of what is tested
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def a_shared_cache_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or fills the cache of whoever runs it, nor that of another test."""
    with tempfile.TemporaryDirectory(prefix="metaharness-cache-") as folder:
        monkeypatch.setenv("METAHARNESS_CACHE", str(Path(folder) / "answers.sqlite"))
        yield


@pytest.fixture(autouse=True)
def a_folder_of_sealed_cases_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test puts anything into the home of whoever runs it."""
    with tempfile.TemporaryDirectory(prefix="metaharness-data-") as folder:
        monkeypatch.setenv("XDG_DATA_HOME", folder)
        yield
