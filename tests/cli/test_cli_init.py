"""`init`: a domain folder that works at once, under a name of its own, and nothing overwritten or half-made."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from run_kit import assert_complains, executed, say

from metaharness import scaffold
from metaharness.loading import load_domain, shipped_folder
from metaharness.scaffold import FILES

PACKAGE = Path(__file__).resolve().parents[2] / "metaharness"


def listed(folder: Path) -> set[str]:
    """Every file below a folder, and every folder that holds nothing."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() or (path.is_dir() and not any(path.iterdir()))
    }


# --- what is made -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_it_says_to_type_next_works_from_the_first_to_the_last(tmp_path: Path) -> None:
    made = executed("init", "work/my_domain", "--json", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    lines = [shlex.split(line) for line in json.loads(made.stdout)["next"]]
    assert [line[:2] for line in lines] == [["metaharness", name] for name in ("check", "evaluate", "run")]

    check, evaluate, run = (executed(*line[1:], cwd=tmp_path) for line in lines)

    assert (check.returncode, check.stderr) == (0, "")
    assert check.stdout.splitlines() == [
        "domain my_domain: train 24, search 16, test 16",
        "baselines on the ladder: 00_zero_shot.py, 01_all_examples.py",
        "valid",
    ]
    assert evaluate.returncode == 0, evaluate.stderr
    assert "cases: 16 ok" in evaluate.stdout
    assert run.returncode == 0, run.stderr
    assert "nearest_examples" in run.stdout


@pytest.mark.slow
def test_the_tests_of_the_new_folder_pass(tmp_path: Path) -> None:
    assert say("init", tmp_path / "my_domain").code == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path / "my_domain",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_it_prints_the_path_and_a_line_for_each_file(tmp_path: Path) -> None:
    folder = tmp_path / "my_domain"
    said = say("init", folder)
    assert (said.code, said.err) == (0, "")
    first, *lines = said.out.splitlines()
    assert first == f"made the domain my_domain in {folder}"
    assert [line.split()[0] for line in lines[: len(FILES)]] == list(FILES)
    assert lines[len(FILES)] == "next:"
    assert lines[len(FILES) + 1] == f"  metaharness check {folder}  # check it"
    assert listed(folder) == set(FILES)


def test_as_json_it_has_the_path_the_name_the_files_and_what_to_type_next(tmp_path: Path) -> None:
    page = say("init", tmp_path / "my domains" / "tickets", "--json").page
    assert set(page) == {"path", "domain", "files", "next"}
    assert (page["path"], page["domain"]) == (str(tmp_path / "my domains" / "tickets"), "tickets")
    assert page["files"] == dict(FILES)
    assert shlex.split(page["next"][0]) == ["metaharness", "check", page["path"]]


def test_the_new_domain_has_its_own_name_wherever_it_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "Lost-and_found2"
    assert say("init", folder).code == 0

    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "metaharness-lost-and-found2"
    assert load_domain(str(folder)).name == "Lost-and_found2"
    assert type(load_domain(str(folder))).__name__ == "LostAndFound2Domain"
    for page in ("README.md", "DOMAIN.md"):
        assert (folder / page).read_text(encoding="utf-8").startswith("# Lost and found2\n")
    assert [file for file in FILES if "starter" in (folder / file).read_text(encoding="utf-8").lower()] == []


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("domain", "DomainDomain"),
        ("case", "CaseDomain"),
        ("my_domain", "MyDomain"),
        ("class", "ClassDomain"),
        ("x", "XDomain"),
        ("starter", "StarterDomain"),
    ],
)
def test_a_name_that_the_code_uses_for_something_else_is_no_trap(tmp_path: Path, name: str, class_name: str) -> None:
    assert say("init", tmp_path / name).code == 0
    domain = load_domain(str(tmp_path / name))
    assert (domain.name, type(domain).__name__) == (name, class_name)


def test_the_cases_are_copied_to_the_byte(tmp_path: Path) -> None:
    assert say("init", tmp_path / "my_domain").code == 0
    starter = shipped_folder("starter")
    assert starter is not None
    for split in ("train", "search", "test"):
        file = Path("data", f"{split}.jsonl")
        assert (tmp_path / "my_domain" / file).read_bytes() == (starter / file).read_bytes()


# --- uv, which has to find metaharness on this machine alone ----------------------------------------------------


def uv(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    left_out = ("VIRTUAL_ENV", "PYTHONPATH", "METAHARNESS_ROOT", "COVERAGE_PROCESS_START")
    return subprocess.run(
        ["uv", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in left_out},
    )


def commands(page: str) -> list[str]:
    """Every line of the shell blocks of a page."""
    blocks = page.split("```sh\n")[1:]
    return [line.strip() for block in blocks for line in block.partition("```")[0].splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="there is no uv")
def test_the_commands_of_the_readme_work_in_the_new_folder_as_they_stand(tmp_path: Path) -> None:
    folder = tmp_path / "my_domain"
    assert say("init", folder).code == 0
    ready = uv("sync", "--no-config", "--quiet", folder=folder)
    if any(said in ready.stderr for said in ("Failed to fetch", "error sending request", "dns error")):
        pytest.skip("the package index is not reachable")
    assert ready.returncode == 0, ready.stderr
    lines = commands((folder / "README.md").read_text(encoding="utf-8"))
    assert [line.split()[3] if "metaharness" in line else line for line in lines] == [
        *("check", "evaluate", "run", "uv run pytest"),
        *("run", "submit"),
    ]
    for line in lines:
        first, *words = shlex.split(line.replace("PATH", "proposals/01_nearest_examples"))
        assert first == "uv"
        done = uv("run", "--no-config", *words[1:], folder=folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (folder / ".gitignore").read_text().split() == [".venv/", "__pycache__/", "runs/"]
    assert all((folder / made).is_dir() for made in (".venv", "runs"))


def test_from_a_checkout_the_new_folder_names_it(tmp_path: Path) -> None:
    assert say("init", tmp_path / "starter_two").code == 0
    tool = tomllib.loads((tmp_path / "starter_two" / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert tool["uv"]["sources"] == {"metaharness": {"path": str(PACKAGE.parent), "editable": True}}
    assert "uv run metaharness check ." in (tmp_path / "starter_two" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "project", [None, '[project]\nname = "site"\n', "not TOML", '[project]\nname = "metaharness"\n']
)
def test_installed_without_a_checkout_it_names_none_and_says_what_works_there(
    tmp_path: Path, project: str | None
) -> None:
    """A copy of the package and of the example, as an installation has them; the last is a checkout."""
    home = tmp_path / 'a "starter" c'
    shutil.copytree(PACKAGE, home / "metaharness", ignore=shutil.ignore_patterns("__pycache__"))
    starter = shipped_folder("starter")
    assert starter is not None
    left = shutil.ignore_patterns("__pycache__", "runs", ".venv")
    shutil.copytree(starter, home / "metaharness" / "reference_examples" / "starter", ignore=left)
    if project is not None:
        (home / "pyproject.toml").write_text(project)
    done = executed("init", "my_domain", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(home)})
    assert done.returncode == 0, done.stderr
    made = tmp_path / "my_domain"
    tool = tomllib.loads((made / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]
    if project is not None and '"metaharness"' in project:
        assert tool["sources"] == {"metaharness": {"path": str(home), "editable": True}}
        return
    assert tool["sources"] == {}
    assert "metaharness is not on the package index" in (made / "pyproject.toml").read_text(encoding="utf-8")
    page = (made / "README.md").read_text(encoding="utf-8")
    assert commands(page)[:4] == [
        "metaharness check .",
        "metaharness evaluate baselines/00_zero_shot.py --domain .",
        "metaharness run --domain .",
        "python -m pytest",
    ]
    assert "uv " not in page


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "9lives", "my domain", "été", "_mine", "mine_", "mine.py", "a/..", "~", "a\nb"]
)
def test_a_name_that_is_no_plain_word_is_refused_and_says_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = say("init", name)
    assert_complains(said, 2, "does not end with a name for a domain", "a name begins with a letter A-Z")
    assert listed(tmp_path) == set()


def test_a_folder_with_files_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "my_domain"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert_complains(say("init", folder), 2, "is a folder with files in it; nothing is overwritten", "another name")
    assert listed(tmp_path) == {"my_domain/notes.txt"}


def test_a_domain_is_not_made_twice(tmp_path: Path) -> None:
    assert say("init", tmp_path / "my_domain").code == 0
    (tmp_path / "my_domain" / "domain.py").write_text("mine")
    assert_complains(say("init", tmp_path / "my_domain"), 2, "nothing is overwritten", "an empty folder")
    assert (tmp_path / "my_domain" / "domain.py").read_text() == "mine"


def test_a_file_of_that_name_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "my_domain").write_text("mine")
    assert_complains(say("init", tmp_path / "my_domain"), 2, "is a file; nothing is overwritten", "another name")
    assert (tmp_path / "my_domain").read_text() == "mine"


def test_an_empty_folder_is_taken_and_keeps_its_permissions(tmp_path: Path) -> None:
    folder = tmp_path / "my_domain"
    folder.mkdir(mode=0o700)
    assert say("init", folder).code == 0
    assert listed(folder) == set(FILES)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_folder_somebody_stands_in_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "my_domain"
    folder.mkdir()
    done = executed("init", "../my_domain", cwd=folder)
    assert done.returncode == 2
    assert "is the folder you are in" in done.stderr
    assert "hint: go to the folder above it" in done.stderr
    assert listed(tmp_path) == {"my_domain"}


# --- what fails -------------------------------------------------------------------------------------------------


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert_complains(say("init", tmp_path / "file" / "my_domain"), 1, "cannot make", "that you may write to")
    assert listed(tmp_path) == {"file"}


@pytest.mark.parametrize("length", [250, 300])
def test_a_failure_leaves_nothing_half_made(tmp_path: Path, length: int) -> None:
    """250 characters are a name for a folder, but not for the one beside it; 300 are too many for any."""
    said = say("init", tmp_path / "work" / "further" / ("x" * length))
    assert_complains(said, 1, "cannot make", "that you may write to")
    assert listed(tmp_path) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        said = say("init", tmp_path / "work" / "my_domain")
    finally:
        tmp_path.chmod(0o700)
    assert_complains(said, 1, "Permission denied", "that you may write to")
    assert listed(tmp_path) == set()


def test_a_home_that_is_not_there_is_an_error_and_no_folder(tmp_path: Path) -> None:
    done = executed("init", "~nobody-of-this-name/my_domain", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot make ~nobody-of-this-name/my_domain" in done.stderr
    assert listed(tmp_path) == set()


@pytest.mark.parametrize("folder_is_there", [True, False])
def test_an_installation_without_the_starter_says_so(tmp_path: Path, folder_is_there: bool) -> None:
    """A copy of the package, with the folder of the example and none of its files, or without it."""
    shutil.copytree(PACKAGE, tmp_path / "installed" / "metaharness", ignore=shutil.ignore_patterns("__pycache__"))
    if folder_is_there:
        example = tmp_path / "installed" / "reference_examples" / "starter"
        example.mkdir(parents=True)
        (example / "domain.py").touch()
    elsewhere = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = executed("init", "my_domain", cwd=tmp_path, env=elsewhere)
    assert done.returncode == 1
    assert ("cannot read the example 'starter'" if folder_is_there else "lacks the example 'starter'") in done.stderr
    assert "hint: install metaharness again" in done.stderr
    assert not (tmp_path / "my_domain").exists()


def test_where_the_starter_cannot_be_found_or_read_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, message in ((None, "lacks the example 'starter'"), (tmp_path, "cannot read the example 'starter'")):
        monkeypatch.setattr(scaffold, "shipped_folder", lambda _name, folder=folder: folder)
        assert_complains(say("init", tmp_path / "my_domain"), 1, message, "install metaharness again")
    assert listed(tmp_path) == set()


def test_installed_as_a_package_the_new_folder_names_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaffold, "__file__", str(tmp_path / "site-packages" / "metaharness" / "scaffold.py"))
    made = tmp_path / "my_domain"
    assert say("init", made).code == 0
    assert tomllib.loads((made / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["sources"] == {}
    assert "python -m pytest" in commands((made / "README.md").read_text(encoding="utf-8"))


def test_what_somebody_else_puts_into_a_new_folder_stays_when_the_rest_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(_unfinished: Path, target: Path) -> None:
        (target.parent / "notes.txt").write_text("theirs")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", too_late)
    said = say("init", tmp_path / "work" / "my_domain")
    assert_complains(said, 1, "No space left on device", "that you may write to")
    assert listed(tmp_path) == {"work/notes.txt"}
