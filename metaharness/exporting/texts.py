"""The texts of an export: `use.py`, `README.md`, `requirements.txt`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from metaharness import __version__
from metaharness.messages import ModelSpec
from metaharness.records import LEARN, Limits

EXTRAS = ("anthropic", "openai")
"""Providers whose package comes with the extra of the same name."""


def requirements(provider: str, stated: Sequence[str]) -> bytes:
    """`requirements.txt`: this version of the package with the extra of the provider, then what is stated.

    Args:
        provider: Of the model that the harness asks.
        stated: The texts of `harness-requirements.txt` files; a line that repeats is taken once.
    """
    extra = f"[{provider}]" if provider in EXTRAS else ""
    further = [line.rstrip() for text in stated for line in text.splitlines() if line.strip()]
    return "".join(f"{line}\n" for line in dict.fromkeys([f"metaharness{extra}=={__version__}", *further])).encode()


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


def page(numbers: Mapping[str, Any], files: Sequence[str], warnings: Sequence[str]) -> bytes:
    """`README.md`: what the folder is, what its numbers say, how it is run, what is not in it.

    Args:
        numbers: The content of `numbers.json`.
        files: All files of the folder.
        warnings: One sentence each, without its full stop.
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
        "With Python 3.11 or later, and metaharness itself installed from its repository, as it is not on the package "
        "index:",
        "",
        "```sh",
        "pip install -r requirements.txt",
        'python use.py "some text"',
        "```",
        "",
        f"Files: {', '.join(f'`{file}`' for file in files)}.",
        "",
        "Not in it: no budget, no limit of time, no journal, no cache, no sandbox. `use.py` calls the model directly, "
        "and the harness runs with your rights: read it before you run it. `model.random` is seeded as it was for "
        "`learn` in the run, not anew for each question.",
    ]
    return ("\n".join(lines) + "\n").encode()


def _table(numbers: Mapping[str, Any]) -> list[str]:
    if not numbers["objectives"]:
        return []
    verdict = numbers["verdict"]
    return [
        "| objective | mean | 95% interval | cases |",
        "|---|---|---|---|",
        *(
            f"| {name} | {one['mean']:.4g} | {_interval(one)} | {one['cases']} |"
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
    return (
        f"On the {test['cases']} sealed test cases (look {test['look']}) its {primary} is "
        f"{test['objectives'][primary]['mean']:.4g} ({_interval(test['objectives'][primary])}); verdict of that test: "
        f"{test['verdict']}"
    )


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return "-"
    return f"{estimate['low']:.4g} to {estimate['high']:.4g}"
