"""Make a new domain: a copy of the shipped example `starter`, under a name of its own.

Nothing is overwritten. The copy is written into a folder beside the target and renamed at the end, so the target is
whole or not there. A process that is killed in between leaves that folder, `.NAME.` and a random ending, behind.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaharness.errors import MetaharnessError, StoreError, UsageError
from metaharness.loading import shipped_folder

STARTER = "starter"
"""The example that is copied."""

FILES: Mapping[str, str] = {
    "README.md": "for people: what is fixed, what is edited, the commands, what to replace first",
    "DOMAIN.md": "for a proposer: what a harness is, how it is scored, the rules",
    "domain.py": "where the cases come from, and the objectives",
    "evaluator.py": "grades an answer; says where partial credit goes",
    "driver.py": "how a harness is built, taught and asked, inside the sandbox",
    "baselines/00_zero_shot.py": "iteration 000: the names of the labels and the text",
    "baselines/01_all_examples.py": "every training example before the text",
    "proposals/01_nearest_examples/harness.py": "what the scripted proposer hands in",
    "proposals/01_nearest_examples/proposal.json": "its hypothesis",
    "proposals/01_nearest_examples/reasoning.md": "why it should help",
    "data/train.jsonl": "cases that a harness learns from",
    "data/search.jsonl": "cases that score the search",
    "data/test.jsonl": "cases that no search sees",
    "tests/test_domain.py": "the domain is valid, its evaluator tells right from wrong",
    "pyproject.toml": "the folder as a project",
    ".gitignore": "what belongs to this machine alone",
}
"""What is copied, and what each file is for. What else lies in the example (caches, runs) stays there."""

_SOURCE = 'metaharness = { path = "../..", editable = true }'
"""In the example's `pyproject.toml`: where uv finds metaharness, which is on no package index."""
_ABOUT_UV = " `uv run` takes metaharness from the folder that `pyproject.toml` names."
"""In the example's `README.md`."""
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_SEPARATORS = re.compile(r"[_-]+")


@dataclass(frozen=True)
class NewDomain:
    """A domain folder that was just made."""

    path: Path
    """As it was given, without `~`."""
    name: str


def make_domain(path: Path) -> NewDomain:
    """Make a domain folder that passes `check`.

    Args:
        path: The folder to make, or an empty one; missing folders above it are made too. Its last part is the
            domain's name.

    Raises:
        UsageError: The name is not a plain word, or something is there already.
        StoreError: The folder cannot be written; what was begun is removed.
        MetaharnessError: The example is missing in this installation.
    """
    name = path.name
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{str(path)!r} does not end with a name for a domain",
            hint="a name begins with a letter A-Z, goes on with letters, digits, _ and -, and ends with a letter or "
            "digit, such as my_domain or work/my_domain",
        )
    contents = _at_home({file: _renamed(text, name) for file, text in _starter().items()}, _checkout())
    try:
        path = path.expanduser()
        target = path.resolve()
        _check_free(path, target)
        with _folders_above(target):
            _write(contents, target)
    except (OSError, RuntimeError) as error:  # RuntimeError: no such home, or links that lead in a circle
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StoreError(
            f"cannot make {path}: {reason}", hint="give a path in a folder that you may write to, such as my_domain"
        ) from error
    return NewDomain(path=path, name=name)


def _starter() -> dict[str, str]:
    """The files of the example."""
    folder = shipped_folder(STARTER)
    if folder is None:
        raise MetaharnessError(
            f"this installation lacks the example {STARTER!r}", hint="install metaharness again; its wheel ships it"
        )
    try:
        return {file: (folder / file).read_text(encoding="utf-8") for file in FILES}
    except OSError as error:
        raise MetaharnessError(
            f"cannot read the example {STARTER!r}: {error}", hint="install metaharness again; its wheel ships it"
        ) from error


def _renamed(text: str, name: str) -> str:
    """The text of a file with the example's names replaced by those of the new domain."""
    words = _SEPARATORS.split(name)
    camel = "".join(word[:1].upper() + word[1:] for word in words)
    replacements = {
        # such as MyDomain, TicketsDomain: with this ending it cannot be the name of something that is imported
        "StarterDomain": camel if camel.endswith("Domain") and camel != "Domain" else f"{camel}Domain",
        "metaharness-starter": "-".join(["metaharness", *words]).lower(),
        "Starter": " ".join(words)[:1].upper() + " ".join(words)[1:],
        "starter": name,
    }
    return re.sub(r"\b(?:" + "|".join(replacements) + r")\b", lambda match: replacements[match.group()], text)


def _checkout() -> Path | None:
    """The source checkout that this engine runs from; None where it is installed as a package."""
    folder = Path(__file__).resolve().parents[1]
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):  # there is none, or somebody's own that cannot be read
        return None
    return folder if project.get("name") == "metaharness" and str(folder).isprintable() else None


def _at_home(contents: dict[str, str], checkout: Path | None) -> dict[str, str]:
    """The files as they work outside the example's own place: there `uv run` has to find metaharness.

    Args:
        contents: The files, renamed.
        checkout: Where metaharness comes from; None where no folder can be named, as it is installed.
    """
    project, page = contents["pyproject.toml"], contents["README.md"]
    if checkout is not None:
        project = project.replace(_SOURCE, _SOURCE.replace('"../.."', json.dumps(str(checkout), ensure_ascii=False)))
    else:
        project = project.replace(_SOURCE, "# " + _SOURCE.replace('"../.."', '"FOLDER OF A CLONE OF ITS REPOSITORY"'))
        page = page.replace("uv run pytest", "python -m pytest").replace("uv run metaharness", "metaharness")
        page = page.replace(_ABOUT_UV, "")
    return {**contents, "pyproject.toml": project, "README.md": page}


def _check_free(path: Path, target: Path) -> None:
    """Refuse what would overwrite something, or take away the folder somebody stands in."""
    if not target.exists():
        return
    if not target.is_dir() or any(target.iterdir()):
        what = "is a folder with files in it" if target.is_dir() else "is a file"
        raise UsageError(
            f"{path} {what}; nothing is overwritten", hint="give another name, or the path of an empty folder"
        )
    if target == Path.cwd():
        raise UsageError(
            f"{path} is the folder you are in, and would be replaced", hint="go to the folder above it, and try again"
        )


@contextmanager
def _folders_above(target: Path) -> Iterator[None]:
    """Make the missing folders above the target; take them away again when the block fails."""
    made: list[Path] = []
    try:
        for folder in [folder for folder in reversed(target.parents) if not folder.exists()]:
            folder.mkdir(exist_ok=True)
            made.append(folder)
        yield
    except BaseException:
        for folder in reversed(made):
            _remove_if_empty(folder)
        raise


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # somebody else has put something there
        return


def _write(contents: Mapping[str, str], target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir()
        for file, text in contents.items():
            place = unfinished / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8", newline="\n")
        if target.exists():
            shutil.copymode(target, unfinished)
        os.rename(unfinished, target)  # noqa: PTH104 - it replaces an empty folder, and fails where there is anything else
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
