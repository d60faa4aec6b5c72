"""What must not be stored is not: not in any file of the run but the candidate itself."""

from __future__ import annotations

from pathlib import Path

from store_kit import entry, files_below, new_run, proposal, run_record, trace

from metaharness.records import CallError, GradeRecord, Rejection
from metaharness.store import RunStore

SECRET = "Ada Lovelace"


def redact(text: str) -> str:
    return text.replace(SECRET, "[name]")


def record_everything(store: RunStore) -> None:
    said = f"ask {SECRET}"
    reads = [store.append_read(path=said, size=1, tool=said, session=said)]
    words = {"hypothesis": said, "axis": said, "components": (said,), "predicted_effect": said, "name": said}
    handed_in = proposal(**words)
    store.add_iteration(
        type(handed_in)(files=handed_in.files, reasoning=said, reads=tuple(reads), **words), round=0, slot=0
    )
    failed = entry(1).call.model_copy(
        update={
            "request": {SECRET: [{"content": said}]},
            "response": {"text": said},
            "error": CallError(kind="refused", message=said),
        }
    )
    notes = [GradeRecord(evaluator_hash="e", value=1.0, metrics={"f1": 0.5}, notes=said)]
    store.append_trace(
        0,
        trace(
            input={"a": [said]}, output=said, expected=said, error=said, stdout_tail=said, grades=notes, calls=[failed]
        ),
    )
    store.journal.append(entry(1).model_copy(update={"call": failed}))
    store.event("note", text=said, deep={"list": [said]})
    store.reject(0, Rejection(stage="smoke", message=said, traceback=said))
    store.write_report(0, said)
    store.sealed.write_opening({"winner": 0})
    store.sealed.append_trace(0, trace(output=said))


def test_no_file_of_the_run_holds_what_is_redacted(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, run_record, name="created", redact=redact) as store:
        record_everything(store)
    new_run(tmp_path, "opened").close()
    with RunStore.open(tmp_path / "opened", record=True, redact=redact) as store:
        record_everything(store)
    written = files_below(tmp_path)
    assert len(written) > 20
    assert [name for name, content in written.items() if SECRET.encode() in content] == []


def test_what_the_store_returns_is_what_it_wrote(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, run_record, name="run", redact=redact) as store:
        record_everything(store)
        reader = RunStore.open(store.path, record=False)
        assert store.iterations() == reader.iterations()
        assert store.iterations()[0].hypothesis == "ask [name]"
        assert store.rejection(0) == reader.rejection(0)
        answer = store.journal.lookup(entry(1).key)
        assert answer is not None
        assert answer.request == {"[name]": [{"content": "ask [name]"}]}
        (stored,) = store.traces(0)
        assert stored.input == {"a": ["ask [name]"]}


def test_what_tells_records_apart_is_never_redacted(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, run_record, name="run", redact=lambda _: "*") as store:
        record_everything(store)
        store.append_trace(0, trace("grouped", group="conversation-1"))
        stored, grouped = store.traces(0)
        assert (stored.case_id, stored.status, stored.calls[0].model) == ("case", "ok", "embedded:icl")
        assert grouped.group == "conversation-1"
        assert stored.grades[0].metrics == {"f1": 0.5}
        assert store.journal.lookup(entry(1).key) is not None
        assert [event.kind for event in store.events("note")] == ["note"]
        assert store.files(0) == dict(proposal().files)


def test_keys_that_redaction_makes_equal_are_numbered(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, run_record, name="run", redact=lambda _: "*") as store:
        store.add_iteration(proposal(), round=0, slot=0)
        store.append_trace(0, trace(output={"a": 1, "b": 2, "c": 3}))
        (stored,) = store.traces(0)
        assert stored.output == {"*": 1, "*-2": 2, "*-3": 3}
