"""What a proposer is told of a module that is not there and of a connection that was attempted, and what to do instead.

Both are read where they happen; the words of the exception play no part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation_kit import Letters, harness, lab

from metaharness.evaluation.advice import Facts, advice
from metaharness.evaluation.ladder import Smoke
from metaharness.records import CaseTrace, Rejection
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.landlock import LandlockSandbox, landlock_abi
from metaharness.sandbox.protocol import Sandbox

CONTAINED = [
    pytest.param(
        BubblewrapSandbox,
        id="bubblewrap",
        marks=pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
    ),
    pytest.param(
        LandlockSandbox,
        id="landlock",
        marks=pytest.mark.skipif(landlock_abi() < 1, reason="this kernel has no Landlock"),
    ),
]
NOT_INSTALLED = "import module_that_is_nowhere.part\n"
MODEL = "it asks the model with model.complete(...)"


def rejected(smoke: Smoke) -> Rejection:
    assert smoke.rejection is not None
    return smoke.rejection


def domain_at(folder: Path, requirements: str | None = None) -> Letters:
    domain = Letters("ab")
    domain.root = folder
    if requirements is not None:
        (folder / "harness-requirements.txt").write_text(requirements)
    return domain


# --- a module that is not there ---------------------------------------------------------------------------------


async def test_a_missing_module_is_named_with_the_file_where_the_author_of_the_domain_declares_it(
    tmp_path: Path,
) -> None:
    rejection = rejected(await lab(tmp_path, NOT_INSTALLED + harness(), domain_at(tmp_path)).smoke())
    assert rejection.stage == "import"
    assert rejection.message == (
        "ModuleNotFoundError: No module named 'module_that_is_nowhere'. No module module_that_is_nowhere is there: a "
        "harness may import the standard library alone. A candidate cannot add to that; the author of the domain can, "
        f"in {tmp_path / 'harness-requirements.txt'}."
    )


async def test_what_the_domain_declares_is_told_with_it(tmp_path: Path) -> None:
    domain = domain_at(tmp_path, "numpy>=2  # arrays\n--index-url https://user:secret@index/simple\nrapidfuzz\n")
    message = rejected(await lab(tmp_path, NOT_INSTALLED + harness(), domain).smoke()).message
    assert f"and what {tmp_path / 'harness-requirements.txt'} declares (numpy>=2, rapidfuzz)" in message
    assert "secret" not in message


def test_where_the_domain_brings_its_python_that_is_the_place_for_further_modules(tmp_path: Path) -> None:
    domain = domain_at(tmp_path)
    domain.python = "/env/bin/python"
    assert advice(Facts(missing="numpy.linalg"), domain) == (
        "No module numpy is there: a harness may import the standard library and what /env/bin/python has. "
        "A candidate cannot add to that; the author of the domain can, in the environment of Domain.python."
    )


def test_requirements_that_can_no_longer_be_read_declare_nothing(tmp_path: Path) -> None:
    told = advice(Facts(missing="numpy"), domain_at(tmp_path, "-r elsewhere.txt\n"))
    assert f"what {tmp_path / 'harness-requirements.txt'} declares (nothing)" in told


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import nowhere\nexcept ImportError as error:\n    raise RuntimeError('sorry') from error\n",
        "try:\n    import nowhere\nexcept ImportError:\n    raise RuntimeError('sorry') from None\n",
        "try:\n    import nowhere\nexcept ImportError as error:\n    raise ExceptionGroup('all', [error])\n",
    ],
    ids=["cause", "hidden", "group"],
)
async def test_it_is_found_beneath_another_exception(tmp_path: Path, source: str) -> None:
    message = rejected(await lab(tmp_path, source + harness(), domain_at(tmp_path)).smoke()).message
    assert "No module nowhere is there: a harness may import the standard library alone." in message


async def test_a_message_that_only_speaks_of_a_module_is_left_as_it_is(tmp_path: Path) -> None:
    source = "raise RuntimeError(\"No module named 'numpy'\")\n"
    rejection = rejected(await lab(tmp_path, source, domain_at(tmp_path)).smoke())
    assert rejection.message == "RuntimeError: No module named 'numpy'"


async def test_the_engine_is_not_there_to_be_imported(tmp_path: Path) -> None:
    message = rejected(await lab(tmp_path, "import metaharness.run\n", domain_at(tmp_path)).smoke()).message
    assert message.endswith("Of metaharness a harness can import metaharness.harness alone.")


@pytest.mark.parametrize("hook", ["predict", "learn"])
async def test_a_module_that_is_missing_later_is_told_at_that_stage_and_in_the_trace(tmp_path: Path, hook: str) -> None:
    source = harness("import nowhere") if hook == "predict" else harness(learn="import nowhere")
    smoke = await lab(tmp_path, source, domain_at(tmp_path)).smoke()
    told = "No module nowhere is there"
    assert rejected(smoke).stage == ("smoke" if hook == "predict" else "learn")
    assert rejected(smoke).message.startswith("ModuleNotFoundError: No module named 'nowhere'. " + told)
    assert told in (smoke.traces[-1].error or "").splitlines()[-1]


# --- a connection -----------------------------------------------------------------------------------------------

CONNECTING = {
    "urllib": ("import urllib.request\nurllib.request.urlopen('https://api.example.com/v1')", "api.example.com:443"),
    "a socket": ("import socket\nsocket.create_connection(('127.0.0.1', 8000))", "127.0.0.1:8000"),
    "asyncio": ("import asyncio\nasyncio.run(asyncio.open_connection('api.example.com', 443))", "api.example.com:443"),
    "an address": ("import asyncio\nasyncio.run(asyncio.open_connection('192.0.2.1', 443))", "the internet"),
    "a packet": ("import socket\nsocket.socket(type=socket.SOCK_DGRAM)", "the internet"),
    "a name": ("import socket\nsocket.gethostbyname('api.example.com')", "api.example.com"),
    "another thread": (
        "from concurrent.futures import ThreadPoolExecutor as Pool\nimport socket\n"
        "Pool(1).submit(socket.create_connection, ('api.example.com', 443)).result()",
        "api.example.com:443",
    ),
    "hidden": (
        "import socket\ntry:\n    socket.create_connection(('api.example.com', 443))\nexcept OSError:\n    pass\n"
        "raise KeyError('answer')",
        "api.example.com:443",
    ),
}


@pytest.mark.parametrize("make", CONTAINED)
@pytest.mark.parametrize("name", CONNECTING)
async def test_an_attempted_connection_is_named_with_the_way_to_call_a_model(
    tmp_path: Path, make: Callable[[], Sandbox], name: str
) -> None:
    body, where = CONNECTING[name]
    smoke = await lab(tmp_path, harness(f"{body}\n"), domain_at(tmp_path), sandbox=make()).smoke()
    assert rejected(smoke).stage == "smoke"
    for text in (rejected(smoke).message, smoke.traces[-1].error or ""):
        assert f"It tried to connect to {where}. A harness that is contained has no network: {MODEL}" in text


@pytest.mark.parametrize("make", CONTAINED)
async def test_a_connection_at_import_is_named_there(tmp_path: Path, make: Callable[[], Sandbox]) -> None:
    source = "import socket\nsocket.create_connection(('api.example.com', 443))\n" + harness()
    rejection = rejected(await lab(tmp_path, source, domain_at(tmp_path), sandbox=make()).smoke())
    assert rejection.stage == "import"
    assert "It tried to connect to api.example.com:443." in rejection.message


@pytest.mark.parametrize("make", CONTAINED)
async def test_an_attempt_that_the_harness_hides_is_seen_in_what_it_printed(
    tmp_path: Path, make: Callable[[], Sandbox]
) -> None:
    connect = "socket.create_connection(('api.example.com', 443))"
    body = f"import socket\ntry:\n    {connect}\nexcept OSError:\n    return text"
    smoke = await lab(tmp_path, harness(body), domain_at(tmp_path), sandbox=make()).smoke()
    assert smoke.rejection is None
    case: CaseTrace = smoke.traces[-1]
    assert case.stdout_tail == "(an attempt to connect to api.example.com:443)\n"


@pytest.mark.parametrize(
    "body",
    [
        "import asyncio\nasyncio.run(asyncio.sleep(0))\nraise OSError(1, 'no')",
        "import socket\nsocket.socketpair()\n[][0]",
    ],
)
async def test_a_failure_without_a_connection_is_not_said_to_have_one(tmp_path: Path, body: str) -> None:
    smoke = await lab(tmp_path, harness(body), domain_at(tmp_path)).smoke()
    assert "connect" not in rejected(smoke).message


# --- what a candidate may forge ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"missing": 7, "connection": ["x"]},
        {"missing": "no name\nIgnore this", "connection": ""},
        {"missing": "a" * 201},
    ],
)
def test_what_cannot_be_a_name_is_left_out(report: dict[str, object]) -> None:
    assert Facts.reported(report) == Facts()
    assert advice(Facts.reported(report), Letters()) == ""


def test_an_address_stays_one_short_line() -> None:
    told = advice(Facts.reported(json.loads('{"connection": "a\\nb\\u001b[2J' + "x" * 500 + '"}')), Letters())
    assert told.startswith("It tried to connect to a?b?[2Jxxx")
    assert len(told.splitlines()) == 1
    assert told.count("x") < 220
