"""The one command that makes the strongest sandbox work, on machines of all kinds: real folders are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metaharness.doctor.findings import Finding
from metaharness.doctor.workers import contained, environments
from metaharness.machine.advising import PROFILE, READY, Machine, best_command, look
from metaharness.sandbox.choosing import Tried, way_out

RESTRICTED = "proc/sys/kernel/apparmor_restrict_unprivileged_userns"
DOCKER = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined"


def machine(top: Path, *programs: str, files: Mapping[str, str] = {}, bwrap: str | None = None, **told: Any) -> Machine:
    """A machine with these programs and files; `bwrap` is what that says of its version."""
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (top / "bin").mkdir(parents=True, exist_ok=True)
    scripts = dict.fromkeys(programs, "exit 1") | ({} if bwrap is None else {"bwrap": f"echo {bwrap}"})
    for name, line in scripts.items():
        (top / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (top / "bin" / name).chmod(0o755)
    given: dict[str, Any] = {"platform": "linux", "root": False, "namespaces": True, "variables": {}, **told}
    return look(top, path=str(top / "bin"), **given)


@pytest.mark.parametrize(
    ("installer", "command"),
    [
        ("apt-get", "sudo apt-get install -y bubblewrap"),
        ("dnf", "sudo dnf install -y bubblewrap"),
        ("pacman", "sudo pacman -S --noconfirm bubblewrap"),
        ("zypper", "sudo zypper --non-interactive install bubblewrap"),
        ("apk", "sudo apk add bubblewrap"),
        ("nix-env", "nix-env -iA nixpkgs.bubblewrap"),
    ],
)
def test_where_bubblewrap_is_missing_it_is_installed_with_what_installs_here(
    tmp_path: Path, installer: str, command: str
) -> None:
    assert best_command(machine(tmp_path, installer)) == command


def test_root_needs_no_sudo_and_an_image_has_no_list_of_packages_yet(tmp_path: Path) -> None:
    assert best_command(machine(tmp_path, "dnf", root=True)) == "dnf install -y bubblewrap"
    apt = machine(tmp_path / "other", "apt-get", root=True, files={".dockerenv": ""})
    assert best_command(apt) == "apt-get update && apt-get install -y bubblewrap"


def test_where_nothing_is_known_that_installs_it_still_says_what_to_install(tmp_path: Path) -> None:
    assert best_command(machine(tmp_path)) == "install bubblewrap 0.7 or later with whatever installs packages here"


def test_where_apparmor_forbids_namespaces_its_profile_for_bubblewrap_is_loaded(tmp_path: Path) -> None:
    files = {RESTRICTED: "1\n"}
    bare = machine(tmp_path / "bare", "apt-get", files=files, bwrap="bubblewrap 0.9.0")
    ready = machine(tmp_path / "ready", "apt-get", files={**files, READY: "profile bwrap"}, bwrap="bubblewrap 0.9.0")
    there = machine(tmp_path / "there", "apt-get", files={**files, PROFILE: "profile bwrap"}, bwrap="bubblewrap 0.9.0")
    load = f"sudo apparmor_parser --replace /{PROFILE}"
    copy = f"sudo install -m 644 /{READY} /{PROFILE}"
    assert best_command(bare) == f"sudo apt-get install -y apparmor-profiles && {copy} && {load}"
    assert best_command(ready) == f"{copy} && {load}"
    assert best_command(there) == load


@pytest.mark.parametrize(
    ("switch", "command"),
    [
        ("user/max_user_namespaces", "sudo sysctl -w user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    ],
)
def test_a_switch_that_forbids_namespaces_is_named(tmp_path: Path, switch: str, command: str) -> None:
    off = machine(tmp_path / "off", files={f"proc/sys/{switch}": "0\n"}, bwrap="bubblewrap 0.8.0")
    assert best_command(off) == command
    on = machine(tmp_path / "on", files={f"proc/sys/{switch}": "15000\n"}, bwrap="bubblewrap 0.8.0")
    assert best_command(on) is None


@pytest.mark.parametrize(
    "told", [{"files": {".dockerenv": ""}}, {"variables": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}}]
)
def test_inside_a_container_what_it_is_started_with_decides(tmp_path: Path, told: dict[str, Any]) -> None:
    missing = best_command(machine(tmp_path / "1", "apt-get", namespaces=False, root=True, **told)) or ""
    assert missing.startswith(DOCKER)
    assert missing.endswith("IMAGE, with bubblewrap in it (apt-get update && apt-get install -y bubblewrap)")
    forbidden = best_command(machine(tmp_path / "2", "apt-get", namespaces=False, bwrap="bubblewrap 0.8.0", **told))
    assert forbidden is not None
    assert forbidden.startswith(DOCKER)
    assert forbidden.endswith(" IMAGE")


@pytest.mark.parametrize("said", ["bubblewrap 0.6.1", "nothing"])
def test_a_bubblewrap_that_is_too_old_is_told_from_one_that_does_not_say(tmp_path: Path, said: str) -> None:
    command = best_command(machine(tmp_path, "apt-get", bwrap=said))
    if said == "nothing":
        assert command is None
    else:
        assert command is not None
        assert "0.7 or later" in command
        assert "this is 0.6" in command


def test_windows_is_sent_to_wsl_and_macos_has_its_sandbox_already(tmp_path: Path) -> None:
    assert "WSL 2" in (best_command(machine(tmp_path, platform="win32")) or "")
    assert best_command(machine(tmp_path, platform="darwin")) is None


def test_this_machine_can_be_looked_at() -> None:
    assert look().platform in ("linux", "darwin")


# --- what `doctor` says ------------------------------------------------------------------------------------------


def test_it_says_what_auto_takes_and_why_the_stronger_one_was_passed_over(tmp_path: Path) -> None:
    found = [Tried("bubblewrap", "bubblewrap is not installed"), Tried("landlock", None)]
    assert list(contained(found, machine(tmp_path, "dnf"))) == [
        Finding(
            "sandbox",
            "bubblewrap",
            "warning",
            "cannot be used: bubblewrap is not installed",
            "sudo dnf install -y bubblewrap",
        ),
        Finding(
            "sandbox",
            "landlock",
            "ok",
            "contains candidate code; `--sandbox auto` takes it, since bubblewrap cannot be used",
        ),
    ]


def test_where_no_file_says_why_it_says_that_and_what_still_contains(tmp_path: Path) -> None:
    found = [Tried("bubblewrap", "the worker died"), Tried("landlock", None)]
    first, _ = contained(found, machine(tmp_path, bwrap="bubblewrap 0.8.0"))
    assert (first.state, first.found) == ("warning", "cannot be used: the worker died")
    assert "no file here says what forbids it" in (first.advice or "")


def test_on_macos_what_linux_has_is_no_warning(tmp_path: Path) -> None:
    found = [Tried("bubblewrap", "not there"), Tried("landlock", "no Landlock"), Tried("sandbox-exec", None)]
    states = [one.state for one in contained(found, machine(tmp_path, platform="darwin"))]
    assert states == ["ok", "ok", "ok"]


def test_where_nothing_holds_the_best_command_comes_before_the_other_ways(tmp_path: Path) -> None:
    found = [Tried("bubblewrap", "not there"), Tried("landlock", "no Landlock"), Tried("sandbox-exec", "not macOS")]
    poor = machine(tmp_path, "pacman")
    *_, last = contained(found, poor)
    assert (last.name, last.state, last.advice) == ("auto", "problem", way_out(poor))
    assert way_out(poor).startswith("sudo pacman -S --noconfirm bubblewrap; or --sandbox-command ")
    assert "say --sandbox process" in way_out(poor)


def test_it_says_where_environments_are_kept_and_what_installs_them(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o700)
    (tmp_path / "kept" / "one.json").write_text("{}")
    there = environments(Path("/usr/bin/uv"), tmp_path / "kept")
    assert (there.state, there.advice) == ("ok", None)
    assert there.found == f"1 in {tmp_path / 'kept'}; /usr/bin/uv installs what harness-requirements.txt says"
    missing = environments(None, tmp_path / "not yet")
    assert missing.state == "ok"
    assert missing.found.startswith(f"0 in {tmp_path / 'not yet'}; uv is not here")
    assert missing.found.endswith("needs it: pip install uv")
    assert not (tmp_path / "not yet").exists()


def test_a_folder_of_environments_that_is_not_safe_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept").chmod(0o777)
    found = environments(None, tmp_path / "kept")
    assert (found.state, found.found) == ("warning", f"{tmp_path / 'kept'} is not used: others can write to it")
    assert "METAHARNESS_ENVIRONMENTS" in (found.advice or "")
