"""What ships passes the leak gate, and so does a list of the labels: over the real data of the examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaharness.configuration import RunConfig
from metaharness.domain import candidates_in
from metaharness.fingerprints import words_of
from metaharness.loading import read_candidate
from metaharness.messages import ModelSpec
from metaharness.records import Role
from metaharness.run.ground import Ground, prepare
from metaharness.run.leaking import Leaks

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "reference_examples"
SHIPPED = [
    path
    for example in ("starter", "text_classification")
    for kind in ("baselines", "proposals")
    for path in candidates_in(EXAMPLES / example / kind)
]
SYMPTOMS = ROOT.parent / "shared" / "data" / "symptom_diagnosis"


def ground(example: str, **options: str) -> Ground:
    models: dict[Role, ModelSpec] = {"target": ModelSpec(provider="embedded", name="icl")}
    return prepare(RunConfig(domain=str(EXAMPLES / example), domain_options=options, models=models))


def symptoms() -> Ground:
    if not SYMPTOMS.is_dir():
        pytest.skip(f"there are no symptom data in {SYMPTOMS}")
    options = {"data": str(SYMPTOMS), "text_field": "question", "label_field": "answer"}
    return ground("text_classification", **options)


def said_of(on: Ground, source: str) -> tuple[str | None, tuple[str, ...]]:
    """The stage of the rejection, and the flags."""
    leaks = Leaks(on)
    found = leaks.check({"harness.py": source})
    return None if found is None else found.stage, leaks.flags({"harness.py": source})


def labels(on: Ground) -> str:
    """A harness that lists all labels."""
    return f"LABELS = {sorted({case.expected for case in on.cases.values()})!r}\n"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parents[1].name}/{path.parent.name}/{path.name}")
def test_shipped_candidates_pass_without_a_flag(path: Path) -> None:
    leaks, files = Leaks(ground(path.parents[1].name)), read_candidate(path).files
    assert leaks.check(files) is None
    assert leaks.flags(files) == ()


def test_the_list_of_the_labels_passes() -> None:
    on = ground("text_classification")
    assert labels(on).count("'") == 2 * 20
    assert said_of(on, labels(on)) == (None, ())


def test_every_ticket_of_search_is_recognised() -> None:
    on = ground("text_classification")
    leaks = Leaks(on)
    missed = [case.input for case in on.cases.values() if leaks.check({"harness.py": f"X = {case.input!r}"}) is None]
    assert [text for text in missed if len(words_of(text)) >= 5] == []


def test_tickets_of_train_may_be_held_all_of_them() -> None:
    on = ground("text_classification")
    assert said_of(on, f"EXAMPLES = {[case.input for case in on.train]!r}") == (None, ())


def test_symptoms_labels_and_train_pass_and_cases_do_not() -> None:
    on = symptoms()
    assert labels(on).count("'") == 2 * 22
    assert said_of(on, labels(on)) == (None, ())
    assert said_of(on, f"EXAMPLES = {[(case.input, case.expected) for case in on.train]!r}") == (None, ())
    two = [case.input for case in on.cases.values()][:2]
    assert said_of(on, f"EXAMPLES = {two!r}")[0] == "leak"


def test_shipped_candidates_pass_over_symptoms_too() -> None:
    leaks = Leaks(symptoms())
    assert [path.name for path in SHIPPED if leaks.check(read_candidate(path).files) is not None] == []
