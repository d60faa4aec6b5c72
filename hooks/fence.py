"""A fence around the sealed test and the runs, for a coding agent's own file tools and obvious shell commands.

Claude Code starts it before such a call (PreToolUse), with the call as JSON on stdin. Exit code 0 lets the call pass; 2
stops it, and the agent reads stderr. Standard library, Python 3.8: it runs under whatever `python3` is.

Stopped: reading, searching or changing what lies in `sealed/` of a run, in $XDG_DATA_HOME/metaharness/sealed, or is the
test split of a domain; changing anything below a folder of runs. Everything else passes, reading the runs included.

A call that it cannot read is stopped: what the call says comes from the model, and a form that this program does not
know, or one that keeps it busy until its time is over, must be no way through. `onFailure` in hooks.json says the same
where it does not start or end (Claude Code 2.1.295 and later; earlier ones go on). A broken fence is thus noticed at
once, at the price that no file tool works until it is mended or `claude plugin disable metaharness`.

What it does not guard: it is no sandbox. A shell passes it, with any program that opens a path which is not written
out, and so do other MCP servers and files that a person mentions with @.
"""

from __future__ import annotations

import fnmatch
import glob
import itertools
import json
import os
import re
import shlex
import sys
from typing import Any, Iterator

PASS, STOP = 0, 2
DATA = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zip")
"""How files of cases end; `test.py` is none."""
OPAQUE = {"node_modules", "__pycache__", "site-packages"}
MOST_ENTRIES = 20_000
"""Of a folder that is searched, looked at; what lies beyond is not seen."""
MOST_MATCHES = 500
MOST_RUNS = 50

OPERATORS = re.compile(r"[;&|()]+")
PIECE = re.compile(r"[^\s\"'`()<>|;&=,:]+")
LEADING = {"sudo", "env", "command", "exec", "nohup", "time", "xargs", "then", "do", "else", "!"}
CHANGING = {"rm", "rmdir", "unlink", "shred", "mv", "touch", "mkdir", "tee", "truncate", "chmod", "chown", "ln", "dd"}
COPYING = {"cp", "install", "rsync", "scp", "tar", "zip"}
NAMES = {"-g", "--glob", "--iglob", "--include", "-name", "-iname"}
KINDS = {"-t", "--type"}
VALUED = {
    "-A",
    "-B",
    "-C",
    "-m",
    "-e",
    "-f",
    "-d",
    "-D",
    "-j",
    "--max-depth",
    "-maxdepth",
    "-type",
    "-newer",
    "--exclude",
}
SEARCHING = {"grep", "egrep", "fgrep", "rg", "ag", "ack", "ugrep"}


class StoppedError(Exception):
    """Why a call is stopped, as the agent reads it."""


# --- what is fenced ---------------------------------------------------------------------------------------------


def sealed_home() -> str:
    """Where cases lie that were sealed for this user."""
    data = os.environ.get("XDG_DATA_HOME", "")
    base = data if os.path.isabs(data) else os.path.expanduser("~/.local/share")
    return os.path.join(base, "metaharness", "sealed")


def above(path: str) -> Iterator[str]:
    """A path and every folder above it."""
    while True:
        yield path
        parent = os.path.dirname(path)
        if parent == path:
            return
        path = parent


def is_run(folder: str) -> bool:
    """Whether a folder is a run."""
    return os.path.isfile(os.path.join(folder, "config.json")) and os.path.isdir(os.path.join(folder, "iterations"))


def runs_in(folder: str) -> Iterator[str]:
    """The runs in a folder, the first few."""
    try:
        names = sorted(os.listdir(folder), reverse=True)[:MOST_RUNS]
    except OSError:
        return
    yield from (path for path in (os.path.join(folder, name) for name in names) if is_run(path))


def is_runs_folder(folder: str) -> bool:
    """Whether a folder holds runs. `runs` alone says nothing: other programs write such folders too."""
    root = os.environ.get("METAHARNESS_ROOT", "")
    named = os.path.basename(folder) == "runs" or (root and folder == os.path.realpath(root))
    return bool(named) and next(runs_in(folder), None) is not None


def is_sealed(path: str) -> bool:
    """Whether a path is, or lies in, what nobody reads before a person opens the test."""
    home = sealed_home()
    for part in above(path):
        name = os.path.basename(part)
        parent = os.path.dirname(part)
        if part in (home, os.path.realpath(home)):
            return True
        if name == "sealed" and (is_run(parent) or os.path.basename(os.path.dirname(parent)) == "runs"):
            return True
        if name.split(".", 1)[0].lower() == "test" and is_test_split(part, name, parent):
            return True
    return False


def is_test_split(path: str, name: str, folder: str) -> bool:
    """Whether what is named `test` belongs to a domain; test data of other programs are not ours to fence."""
    beside = [folder, os.path.dirname(folder)]
    if not name.lower().endswith(DATA) and not (name.lower() == "test" and os.path.basename(folder) == "data"):
        return False
    if any(os.path.isfile(os.path.join(one, "domain.py")) for one in beside):
        return True
    if any(os.path.isfile(os.path.join(folder, "search" + end)) for end in DATA):
        return True
    return folder in data_of_runs()


def data_of_runs() -> set[str]:
    """The folders that the runs of the project have taken their data from."""
    project = os.environ.get("CLAUDE_PROJECT_DIR") or os.getcwd()
    found: set[str] = set()
    for run in runs_in(os.environ.get("METAHARNESS_ROOT") or os.path.join(project, "runs")):
        try:
            with open(os.path.join(run, "config.json"), encoding="utf-8") as file:
                config = json.load(file)["config"]
            named = [config.get("domain"), *config.get("domain_options", {}).values()]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue  # a run that cannot be read names none
        found.update(os.path.realpath(os.path.join(project, one)) for one in named if isinstance(one, str))
    return found


def is_recorded(path: str) -> bool:
    """Whether a path lies in a folder of runs."""
    return any(is_run(part) or is_runs_folder(part) for part in above(path))


# --- paths as the agent writes them -----------------------------------------------------------------------------


def meant(text: str, base: str) -> Iterator[str]:
    """The paths that a text may mean, seen from a folder: as written and with links followed, patterns filled in."""
    for one in braces(os.path.expandvars(os.path.expanduser(text))):
        path = os.path.normpath(os.path.join(base, one))
        filled = itertools.islice(glob.iglob(path), MOST_MATCHES) if glob.has_magic(path) else ()
        for found in itertools.chain([path], filled):
            yield found
            real = os.path.realpath(found)
            if real != found:
                yield real


def braces(text: str) -> list[str]:
    """`{a,b}.jsonl` as a shell reads it."""
    found = re.search(r"\{([^{}]*,[^{}]*)\}", text)
    if found is None or len(text) > 1000:
        return [text]
    head, tail = text[: found.start()], text[found.end() :]
    return [whole for part in found[1].split(",")[:20] for whole in braces(head + part + tail)][:100]


def stop_reading(text: str, base: str) -> None:
    """Stop where a text means something sealed."""
    if any(is_sealed(path) for path in meant(text, base)):
        raise StoppedError(
            f"{text} is of the sealed test, which only a person opens, with `metaharness finish`. Work from `train` "
            "and from the traces of `search`. If a file has to be made or moved there, ask the person."
        )


def stop_writing(text: str, base: str) -> None:
    """Stop where a text means something sealed or recorded."""
    stop_reading(text, base)
    if any(is_recorded(path) for path in meant(text, base)):
        raise StoppedError(
            f"{text} lies among the runs, which metaharness alone writes (reading is fine). Hand in candidates with "
            "write_harness or `metaharness submit`, reports with write_report; keep notes elsewhere."
        )


def stop_searching(folder: str, base: str, patterns: list[str], *, ignored: bool) -> None:
    """Stop where a search through a folder would read something sealed.

    `patterns` are those that names of files have to fit; none: every file. `ignored`: what a .gitignore of `*` covers
    is searched too.
    """
    stop_reading(folder, base)
    for root in meant(folder, base):
        for place in sealed_below(root, ignored=ignored):
            if fits(os.path.basename(place), patterns) or os.path.isdir(place):
                raise StoppedError(
                    f"this search would read {os.path.relpath(place, base)}, which is of the sealed test. Search a "
                    "narrower folder, or give a pattern of names that leaves it out, such as *.py"
                )


def sealed_below(root: str, *, ignored: bool) -> Iterator[str]:
    """What is sealed below a folder: folders, and files outside of them."""
    left = MOST_ENTRIES
    for folder, folders, files in os.walk(root):
        left -= len(folders) + len(files)
        if left < 0:
            return
        folders[:] = [name for name in folders if name not in OPAQUE and not name.startswith(".")]
        if not ignored and ".gitignore" in files and ignores_all(os.path.join(folder, ".gitignore")):
            folders[:] = []
            continue
        for name in [name for name in folders if name == "sealed"] + [name for name in files if is_test_name(name)]:
            path = os.path.realpath(os.path.join(folder, name))
            if is_sealed(path):
                yield path


def is_test_name(name: str) -> bool:
    """Whether a file may be a test split, by its name alone."""
    return name.split(".", 1)[0].lower() == "test"


def ignores_all(path: str) -> bool:
    """Whether a .gitignore covers all that lies beside it, as that of a folder of runs does."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "*" in file.read(10_000).split()
    except OSError:
        return False


def fits(name: str, patterns: list[str]) -> bool:
    """Whether a file of this name is among those searched."""
    wanted = [one.rsplit("/", 1)[-1] for one in patterns if not one.startswith("!")]
    unwanted = [one[1:].rsplit("/", 1)[-1] for one in patterns if one.startswith("!")]
    if any(fnmatch.fnmatch(name, one) for one in unwanted):
        return False
    return not wanted or any(fnmatch.fnmatch(name, part) for one in wanted for part in braces(one))


# --- a shell command --------------------------------------------------------------------------------------------


def check_command(command: str, cwd: str) -> None:
    """Stop a command that names what is fenced; how it is meant is guessed from its words."""
    try:
        lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        words = list(lexer)
    except ValueError:  # a quote that does not end, such as in a here-document
        words = command.split()
    bases = [cwd]
    for previous, word in zip(words, words[1:]):
        if previous == "cd":
            bases += [os.path.join(base, os.path.expanduser(word)) for base in bases]
    bases = bases[:16]
    for base in bases:
        for piece in {*words, *PIECE.findall(command)}:
            stop_reading(piece, base)
        for segment in segments(words):
            check_segment(segment, base)


def segments(words: list[str]) -> Iterator[list[str]]:
    """The simple commands of a line."""
    for operator, group in itertools.groupby(words, key=lambda word: OPERATORS.fullmatch(word) is not None):
        if not operator:
            yield list(group)


def check_segment(words: list[str], base: str) -> None:
    """Stop one simple command that writes among the runs, or searches through what is sealed."""
    for previous, word in zip(words, words[1:]):
        if ">" in previous and not set(previous) - set("<>&|012"):
            stop_writing(word, base)
    rest = list(itertools.dropwhile(lambda word: word in LEADING or re.match(r"\w+=", word) is not None, words))
    if not rest:
        return
    name = os.path.basename(rest[0])
    given = [word for word in rest[1:] if not word.startswith("-")]
    in_place = name in ("sed", "perl") and any(re.match(r"-\w*i|--in-place", word) for word in rest)
    if name in CHANGING or in_place:
        for word in given:
            stop_writing(word.split("=", 1)[-1], base)
    if name in COPYING:
        for word in given:
            stop_searching(word, base, [], ignored=True)
        for word in given[-1:]:
            stop_writing(word, base)
    if name in SEARCHING or (name == "find" and any(word.startswith(("-exec", "-ok")) for word in rest)):
        check_search(name, rest[1:], base)


def check_search(name: str, words: list[str], base: str) -> None:
    """Stop a recursive search that would read what is sealed."""
    patterns, given, asked, recursive = [], [], name == "find", "grep" not in name
    left = iter(words)
    for word in left:
        option, _, value = word.partition("=")
        recursive = recursive or re.match(r"-\w*[rR]|--(dereference-)?recursive", option) is not None
        if option in NAMES:
            patterns.append(value or next(left, ""))
        elif option in KINDS:
            patterns.append(f"*.{value or next(left, '')}*")
        elif option in VALUED:
            asked = asked or option in ("-e", "-f")
            next(left, "")
        elif option == "--files":
            return  # names alone
        elif not word.startswith("-"):
            given.append(word)
    if not recursive:
        return
    folders = given if asked else given[1:]
    for folder in folders or [base]:
        stop_searching(folder, base, patterns, ignored=name in ("find", "grep", "egrep", "fgrep", "ugrep"))


# --- a call -----------------------------------------------------------------------------------------------------


def check(call: dict[str, Any]) -> None:
    """Stop a call that touches what is fenced.

    Raises:
        StoppedError: It does.
        TypeError, KeyError, ValueError: The call has a form that is not known.
    """
    name, given = text_of(call, "tool_name"), call["tool_input"]
    if not isinstance(given, dict):
        raise TypeError("tool_input is no object")
    cwd = text_of(call, "cwd", os.getcwd())
    if name == "Bash":
        check_command(text_of(given, "command"), cwd)
    elif name in ("Read", "LS"):
        stop_reading(text_of(given, "file_path" if name == "Read" else "path"), cwd)
    elif name in ("Edit", "MultiEdit", "Write", "NotebookEdit"):
        stop_writing(text_of(given, "notebook_path" if name == "NotebookEdit" else "file_path"), cwd)
    elif name == "Grep":
        patterns = re.split(r"[\s,]+(?![^{]*\})", text_of(given, "glob", "").strip())
        kind = text_of(given, "type", "")
        searched = [one for one in patterns if one] + ([f"*.{kind}*"] if kind else [])
        stop_searching(text_of(given, "path", "."), cwd, searched, ignored=False)
    elif name == "Glob":
        folder = os.path.join(cwd, text_of(given, "path", "."))
        stop_reading(folder, cwd)
        if not text_of(given, "pattern").startswith("**"):  # names alone, of everything: no content is shown
            stop_reading(given["pattern"], folder)


def text_of(given: dict[str, Any], key: str, default: str | None = None) -> str:
    """A text of a call. Raises KeyError where it is missing and has no default, TypeError where it is none."""
    value = given[key] if default is None else given.get(key, default)
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    return value


def main() -> int:
    """Judge the call on stdin."""
    try:
        check(json.loads(sys.stdin.buffer.read()))
    except StoppedError as stopped:
        sys.stderr.write(f"metaharness: {stopped}\n")
        return STOP
    except Exception as failure:  # noqa: BLE001 - whatever a call is made of, one that was not judged does not pass
        sys.stderr.write(
            f"metaharness: its fence cannot read this call ({type(failure).__name__}: {failure}), so it does not pass. "
            "If this happens with ordinary calls, the client has changed: `claude plugin disable metaharness`.\n"
        )
        return STOP
    return PASS


if __name__ == "__main__":
    sys.exit(main())
