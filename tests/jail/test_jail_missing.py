"""Where no jail can be made it is said why and what to do; and what sandbox-exec is told, which cannot be run here."""

from __future__ import annotations

from pathlib import Path

import pytest
from jail_kit import PYTHON, needs_bubblewrap, printed

from metaharness.errors import SandboxError
from metaharness.jail import Jail, seatbelted
from metaharness.jail.bubblewrapped import make_sure


def test_a_bubblewrap_that_may_not_make_namespaces_is_told_with_what_it_said(tmp_path: Path) -> None:
    refused = tmp_path / "bwrap"
    refused.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    refused.chmod(0o755)
    with pytest.raises(SandboxError, match="cannot make a jail here: setting up uid map: Permission denied") as caught:
        make_sure(str(refused))
    assert "--unjailed-proposer" in str(caught.value.hint)


@needs_bubblewrap
async def test_a_jail_that_cannot_be_set_up_is_told_with_what_bubblewrap_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    jail = Jail(PYTHON, tmp_path, home_files={"one": tmp_path / "file", "one/two": tmp_path / "file"})
    with pytest.raises(SandboxError, match="the jail did not begin: bwrap: "):
        await printed(jail)


@pytest.mark.skipif(Path(seatbelted.PROGRAM).exists(), reason="this is macOS")
def test_where_there_is_neither_the_way_without_is_named() -> None:
    with pytest.raises(SandboxError, match="on Linux by bubblewrap, on macOS by sandbox-exec") as caught:
        seatbelted.find_program()
    assert "--unjailed-proposer" in str(caught.value.hint)


def test_the_profile_for_macos_names_what_is_allowed_and_hides_last(tmp_path: Path) -> None:
    workspace, session = tmp_path / "workspace", tmp_path / "session"
    (workspace / "candidate").mkdir(parents=True)
    session.mkdir()
    login, secret = tmp_path / "login.json", workspace / "secret"
    login.write_text("{}")
    jail = Jail(
        PYTHON,
        workspace,
        writable=("candidate",),
        home_files={".agent/login.json": login},
        hidden=(secret,),
        destinations=("http://127.0.0.1:8123", "https://api.example.com"),
    )
    layout = seatbelted.layout(jail, session)
    lines = seatbelted.profile(jail, layout).splitlines()
    assert lines[1] == "(deny default)"
    (writes,) = [line for line in lines if line.startswith("(allow file-write*")]
    assert f'(subpath "{workspace}/candidate")' in writes
    assert f'(subpath "{workspace}")' not in writes
    assert '(allow network-outbound (remote ip "localhost:8123"))' in lines
    assert f'(allow network-outbound (remote ip "localhost:{layout.proxy}"))' in lines
    assert "443" not in "".join(lines)
    assert lines[-1] == f'(deny file-read* file-write* (subpath "{secret}"))'
    assert (session / "home" / ".agent" / "login.json").read_text() == "{}"
