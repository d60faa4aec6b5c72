"""The texts of an export: `use.py`, `README.md`, `requirements.txt`."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from metaharness import __version__
from metaharness.gateway.providers.remote import sdk_bounds
from metaharness.messages import ModelSpec
from metaharness.records import LEARN, Limits

EXTRAS = ("anthropic", "openai")
"""Providers whose package has the same name."""
_NOT_ON_THE_INDEX = (
    f"# metaharness {__version__} comes from its repository, not from the package index: from a clone of it, "
    "`uv pip install .`"
)
SHOWN_CHARS = 200
"""An input that is as long or longer is not shown in a command."""


def requirements(provider: str, stated: Sequence[str]) -> bytes:
    """`requirements.txt`: the SDK of the provider, then what is stated. This package itself is a comment.

    Whoever owns its name on the package index, it is not us: no line may make an installer ask for it there.

    Args:
        provider: Of the model that the harness asks.
        stated: The texts of `harness-requirements.txt` files; a line that repeats is taken once.
    """
    sdk = [f"{provider}{sdk_bounds(provider)}"] if provider in EXTRAS else []
    further = [line.rstrip() for text in stated for line in text.splitlines() if line.strip()]
    return "".join(f"{line}\n" for line in dict.fromkeys([_NOT_ON_THE_INDEX, *sdk, *further])).encode()


# --- use.py -----------------------------------------------------------------------------------------------------

_PROGRAM = '''\
"""Ask the exported harness: python use.py "some text". README.md says what this folder is."""

from pathlib import Path

import metaharness
from metaharness.exported import ExportedHarness, one_argument

with one_argument() as argument, metaharness.connect(<CONNECT>) as model:
    harness = ExportedHarness(Path(__file__).resolve().parent, model)  # built<TAUGHT>
    print(harness.answer(argument<KIND>))
'''


def program(model: ModelSpec, *, seed: int, call_seconds: float, examples: bool, texts: bool) -> bytes:
    """`use.py`: it connects to the model, builds the harness, teaches it, asks it, and prints the answer.

    Args:
        model: What the harness asks.
        seed: The run's.
        call_seconds: The deadline of one call.
        examples: Whether there is an `examples.jsonl`; without one nothing is taught.
        texts: Whether every input is a text. If not, the argument is read as JSON, and as a text where it is none.
    """
    arguments = [_quoted(model.id), f"seed={_learn_seed(seed)}"]
    if model.base_url is not None:
        arguments.insert(1, f"base_url={_quoted(model.base_url)}")
    if call_seconds != Limits().call_seconds:
        arguments.append(f"deadline={call_seconds}")
    taught = ", and taught examples.jsonl" if examples else "; harness.learn([...]) teaches it"
    text = _PROGRAM.replace("<TAUGHT>", taught).replace("<KIND>", "" if texts else ", texts=False")
    return text.replace("<CONNECT>", ", ".join(arguments)).encode()


def _quoted(text: str) -> str:
    """The text as Python writes it, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _learn_seed(seed: int) -> int:
    """The seed that `learn` has in the first trial of a run, so that a harness that samples learns the same."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{LEARN}\n0".encode()).digest()[:6], "big")


# --- README.md --------------------------------------------------------------------------------------------------


def page(
    numbers: Mapping[str, Any], files: Sequence[str], warnings: Sequence[str], *, shown: Any, texts: bool
) -> bytes:
    """`README.md`: what the folder is, what its numbers say, how it is run, what is not in it.

    Args:
        numbers: The content of `numbers.json`.
        files: All files of the folder.
        warnings: One sentence each, without its full stop.
        shown: The first input of the examples; None without one.
        texts: Whether every input is a text, which is given as it is.
    """
    name = " ".join("".join(character if character.isprintable() else " " for character in numbers["name"]).split())
    lines = [
        f"# {numbers['run']}, iteration {numbers['iteration']:03d}" + (f": {name}" if name else ""),
        "",
        f"A harness for the domain `{numbers['domain']}` and the model `{numbers['model']}`, exported by metaharness "
        f"{numbers['version']}.",
        "",
        *[f"**Warning:** {warning}.\n" for warning in warnings],
        *_table(numbers),
        "It needs Python 3.11 or later, and metaharness, which comes from its repository and not from the package "
        "index: from a clone of its repository, `uv pip install .`. Then, in this folder:",
        "",
        "```sh",
        "uv pip install -r requirements.txt",
        f"python use.py {_argument(shown, texts=texts)}",
        "```",
        "",
        "The input is a text, given as it is; the answer is printed as a text, or as JSON where it is none."
        if texts
        else "Not every input is a text: the input is given as JSON, and read as a text where it is none.",
        "",
        f"Files: {', '.join(f'`{file}`' for file in files)}.",
        "",
        "Not in it: no budget, no limit of time, no journal, no cache, no sandbox. `use.py` calls the model directly, "
        "and the harness runs with your rights: read it before you run it. `model.random` is seeded as it was for "
        "`learn` in the run, not anew for each question.",
    ]
    return ("\n".join(lines) + "\n").encode()


def _argument(shown: Any, *, texts: bool) -> str:
    """An input as it is typed in a shell: the one given where it can be shown, else one that is made up."""
    text = shown if texts else json.dumps(shown, ensure_ascii=False)
    fits = isinstance(text, str) and 0 < len(text) < SHOWN_CHARS and text.isprintable() and "```" not in text
    return shlex.quote(text) if fits and shown is not None else '"some text"'


def _table(numbers: Mapping[str, Any]) -> list[str]:
    if not numbers["objectives"]:
        return []
    verdict = numbers["verdict"]
    return [
        "| objective | mean | 95% interval | cases |",
        "|---|---|---|---|",
        *(
            f"| {name} | {_number(one['mean'])} | {_interval(one)} | {one['cases']} |"
            for name, one in numbers["objectives"].items()
        ),
        "",
        f"Measured on the split `{numbers['split']}` in the sandbox `{numbers['sandbox']}`"
        + (f"; verdict: {verdict['verdict']}" if verdict is not None else "")
        + f". A candidate chosen for its score there looks better than it is. {_sealed(numbers['test'])}.",
        "",
    ]


def _sealed(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return "It has not been scored on the sealed test split"
    primary = test["objective"]
    found = test["objectives"].get(primary)  # none where no case came to a value
    value = f"is {_number(found['mean'])} ({_interval(found)})" if found is not None else "has no value"
    return (
        f"On the {test['cases']} sealed test cases (look {test['look']}) its {primary} {value}; "
        f"verdict of that test: {test['verdict']}"
    )


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return "-"
    return f"{_number(estimate['low'])} to {_number(estimate['high'])}"


def _number(value: float) -> str:
    """Four digits, or a whole number: 12,345 characters are not 1.234e+04."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
