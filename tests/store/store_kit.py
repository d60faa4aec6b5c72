"""What the tests of the store share: small records, a real process that records, checks on a run directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaharness.configuration import RunConfig, RunRecord
from metaharness.messages import ModelSpec
from metaharness.records import Attribution, Call, CaseTrace, Estimate, GradeRecord, JournalEntry, Proposal, Score
from metaharness.store import RunStore

PROCESS = Path(__file__).with_name("store_process.py")


def run_record(run_id: str, created: str = "2026-04-23T17:21:21.000+00:00") -> RunRecord:
    config = RunConfig(domain="toy", models={"target": ModelSpec(provider="embedded", name="icl")})
    return RunRecord(
        run_id=run_id,
        created=created,
        config=config,
        domain_name="toy",
        domain_hash="d" * 64,
        split_hashes={"search": "s" * 64},
        evaluator_hash="e" * 64,
        objectives=[],
    )


def new_run(root: Path, name: str = "run") -> RunStore:
    return RunStore.create(root, run_record, name=name)


def proposal(text: str = "class Harness: ...\n", **fields: object) -> Proposal:
    return Proposal(files={"harness.py": text}, reasoning="because", **fields)  # type: ignore[arg-type]


def call(text: str = "question") -> Call:
    request = {"messages": [{"role": "user", "content": text}]}
    return Call(request=request, response={"text": "answer"}, model="embedded:icl", input_tokens=3, output_tokens=1)


def trace(case_id: str = "case", trial: int = 0, **fields: object) -> CaseTrace:
    grades = [GradeRecord(evaluator_hash="e" * 64, value=1.0)]
    values = {"status": "ok", "output": "yes", "grades": grades, "calls": [call()], **fields}
    return CaseTrace(case_id=case_id, trial=trial, **values)  # type: ignore[arg-type]


def score(iteration: int = 0, mean: float = 0.5) -> Score:
    return Score(
        iteration=iteration,
        split="search",
        sandbox="process",
        model="embedded:icl",
        planned=2,
        ended=2,
        missing=0,
        statuses={"ok": 2},
        objectives={"accuracy": Estimate(mean=mean, low=0.1, high=0.9, method="wilson", cases=2)},
    )


def key(number: int) -> str:
    return f"{number:064x}"


def entry(number: int, text: str = "question") -> JournalEntry:
    attribution = Attribution(iteration=0, case_id=f"case-{number}")
    return JournalEntry(key=key(number), time="2026-04-23T17:21:21.000+00:00", attribution=attribution, call=call(text))


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def recording_process(task: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A real process from `store_process.py`; ended, whatever happens, when the block is left."""
    command = [sys.executable, str(PROCESS), task, *(str(argument) for argument in arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
