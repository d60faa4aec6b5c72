"""A whole search with the scripted proposer: what it records, and what it says of each candidate."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    CASES,
    RIGHT,
    assert_nothing_twice,
    assert_scores_match_traces,
    final_traces,
    harness,
    lines,
    proposals_of,
    searched,
    write_toy,
)

from metaharness.history import History
from metaharness.proposers.scripted import ScriptedProposer

STYLES = {0: "plain", 1: "long", 2: "other", 4: "good", 6: "x", 7: "ok"}
REJECTED = {3: "syntax", 5: "smoke"}


@pytest.fixture(scope="module", params=[1, 3], ids=["one per round", "three per round"])
async def history(
    anyio_backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> History:
    folder = tmp_path_factory.mktemp("search")
    toy = write_toy(folder / "domain")
    return await searched(toy.config(candidates_per_round=request.param), folder / "runs", name="run")


def events(history: History, *kinds: str) -> list[dict[str, Any]]:
    found = lines(history.store.path / "events.jsonl")
    return [event for event in found if event["kind"] in kinds] if kinds else found


def test_every_candidate_gets_the_score_its_answers_deserve(history: History) -> None:
    for number, style in STYLES.items():
        score = history.iteration(number).score
        assert score is not None
        assert score.complete
        assert score.objectives["accuracy"].mean == pytest.approx(len(RIGHT[style]) / CASES)
        assert score.objectives["context_chars"].mean == len(f"[{style}] item 07")
    for number, stage in REJECTED.items():
        rejection = history.iteration(number).rejection
        assert rejection is not None
        assert rejection.stage == stage


def test_rounds_hold_as_many_candidates_as_asked_for_and_baselines_come_first(history: History) -> None:
    width = history.record.config.candidates_per_round
    places = [(it.proposal.round, it.proposal.slot) for it in history]
    assert places == [(0, 0), (0, 1), *((1 + place // width, place % width) for place in range(6))]


def test_verdicts_are_against_the_incumbent_of_the_round_and_nothing_else(history: History) -> None:
    before = {closed.number: closed.incumbent_before for closed in history.closed_rounds}
    for iteration in history:
        verdict = iteration.verdict
        assert verdict is not None
        assert verdict.round == iteration.proposal.round
        assert verdict.incumbent == before[verdict.round]
    said = [it.verdict.verdict for it in history if it.verdict]
    # the fifth gets six cases right that its incumbent does not, and none wrong: p is 0.031, above the round's level
    assert said == ["baseline", "baseline", "indecisive", "rejected", "indecisive", "rejected", "worse", "indecisive"]


def test_a_new_best_shows_its_gain_over_the_incumbent_before_it(history: History) -> None:
    changes = [closed for closed in history.closed_rounds[1:] if closed.incumbent_after != closed.incumbent_before]
    assert changes
    for closed in changes:
        assert closed.incumbent_after is not None
        assert closed.incumbent_before is not None
        after, before = history.iteration(closed.incumbent_after), history.iteration(closed.incumbent_before)
        assert after.score is not None
        assert before.score is not None
        assert after.verdict is not None
        gain = after.score.objectives["accuracy"].mean - before.score.objectives["accuracy"].mean
        assert after.verdict.delta == pytest.approx(gain)
        assert after.verdict.units == CASES
    good = history.iteration(4).verdict
    assert good is not None
    assert good.delta is not None
    assert good.delta > 0.4


def test_verdicts_are_spoken_in_iteration_order_at_the_end_of_the_round(history: History) -> None:
    order = [event for event in events(history) if event["kind"] in ("scored", "rejected", "round_closed")]
    seen: set[int] = set()
    for event in order:
        if event["kind"] != "round_closed":
            seen.add(event["iteration"])
            continue
        members = [it.number for it in history if it.proposal.round == event["round"]]
        assert set(members) <= seen
        assert [verdict["iteration"] for verdict in event["verdicts"]] == members


def test_the_best_has_the_highest_mean_and_among_equals_the_least_context(history: History) -> None:
    board = history.scoreboard()
    assert board.incumbent == 7
    assert list(board.frontier) == [6, 7]  # the bad one sends the least of all; the good one is dominated
    text = board.text()
    assert "007   *+" in text
    assert "rejected at syntax" in text


def test_the_evolution_summary_has_one_line_per_candidate_rejected_ones_too(history: History) -> None:
    summary = lines(history.store.path / "evolution_summary.jsonl")
    assert [line["iteration"] for line in summary] == list(range(8))
    for line, iteration in zip(summary, history, strict=True):
        assert iteration.verdict is not None
        assert (line["verdict"], line["delta"]) == (iteration.verdict.verdict, iteration.verdict.delta)
        assert line["against"] == iteration.verdict.incumbent
        assert (line["rejected"] or {}).get("stage") == REJECTED.get(line["iteration"])
        spent = line["spent"]
        assert (spent is None) == (line["iteration"] in REJECTED)
        if spent is not None:
            assert spent["calls"] >= CASES
            assert spent["seconds"] > 0
    good = summary[4]
    assert good["hypothesis"] == "the good style gets every item right"
    assert (good["axis"], good["components"], good["predicted_effect"]) == ("prompt", ["style"], "+0.5")
    assert good["parents"] == [0]
    assert summary[7]["parents"] == [summary[7]["against"]]  # none were named: the incumbent of its round


def test_events_are_numbered_and_say_what_happened_to_each_candidate(history: History) -> None:
    found = events(history)
    assert [event["number"] for event in found] == list(range(len(found)))
    assert all(event["time"] and event["actor"] for event in found)
    assert (found[0]["kind"], found[-1]["kind"]) == ("created", "ended")
    assert found[-1]["reason"] == "all 6 candidates were proposed"
    assert [event["iteration"] for event in events(history, "submitted")] == list(range(8))
    assert sorted(event["iteration"] for event in events(history, "accepted")) == sorted(STYLES)
    assert {event["iteration"]: event["stage"] for event in events(history, "rejected")} == REJECTED
    ended = [event for event in events(history, "case_ended") if event["iteration"] == 4 and event["status"] == "ok"]
    assert {event["case_id"] for event in ended} >= {f"search-{number:02d}" for number in range(CASES)}


def test_config_holds_what_was_chosen_and_what_it_was_resolved_to(history: History) -> None:
    config = json.loads((history.store.path / "config.json").read_text())
    assert config["schema_version"] == 1
    assert config["run_id"] == "run"
    assert config["domain_name"] == "colours"
    assert config["config"]["models"]["target"]["provider"] == "scripted"
    assert [objective["name"] for objective in config["objectives"]] == ["accuracy", "context_chars"]
    assert set(config["split_hashes"]) == {"train", "search"}  # the sealed split is not read
    assert all(len(config[name]) == 64 for name in ("domain_hash", "evaluator_hash"))
    assert set(config["provenance"]) >= {"metaharness", "python", "platform"}


def test_a_trace_line_holds_input_output_grade_and_the_calls_as_sent(history: History) -> None:
    trace = final_traces(history.store.path)[4, "search-07", 0]
    assert (trace["status"], trace["input"], trace["output"], trace["expected"]) == ("ok", "item 07", "green", "green")
    (grade,) = trace["grades"]
    assert (grade["value"], grade["evaluator_hash"]) == (1.0, history.record.evaluator_hash)
    (call,) = trace["calls"]
    assert (call["door"], call["ordinal"], call["cached"]) == ("model", 0, False)
    assert call["request"] == {"messages": [{"role": "user", "content": "[good] item 07"}]}
    assert call["response"]["text"] == "green"
    assert call["input_tokens"] == 4  # 14 characters
    assert call["usd"] == 0.0
    raw = next(iter(history.store.traces(4, "search-07")))
    assert raw.duration_ms > 0
    assert raw.calls[0].latency_ms >= 0


def test_the_score_names_hash_and_size_of_its_trace_and_each_pair_has_one_line(history: History) -> None:
    assert_scores_match_traces(history.store.path)
    assert_nothing_twice(history.store.path)
    assert {key[:2] for key in final_traces(history.store.path) if key[0] in STYLES} == {
        (number, f"search-{case:02d}") for number in STYLES for case in range(CASES)
    }


def test_what_was_submitted_is_kept_with_its_reasoning(history: History) -> None:
    store = history.store
    assert store.files(4) == {"harness.py": harness("good"), "notes.txt": "a file beside the entry"}
    assert store.reasoning(4) == "the good style is known to work"
    assert (store.path / "iterations" / "002" / "harness.py").is_file()
    assert (store.path / "iterations" / "004" / "harness" / "harness.py").is_file()
    digest = hashlib.sha256()
    for name, text in sorted(store.files(4).items()):
        digest.update(f"{len(name)}:{name}{len(text)}:{text}".encode())
    assert history.iteration(4).proposal.candidate_hash == digest.hexdigest()


def test_the_ledger_counts_every_call_of_the_journal_and_every_planned_pair(history: History) -> None:
    cost = json.loads((history.store.path / "cost.json").read_text())
    journal = lines(history.store.path / "calls.jsonl")
    assert cost["spent"]["calls"] == len(journal) == CASES * len(STYLES)
    assert cost["spent"]["candidates"] == 6
    assert cost["spent"]["case_evaluations"] == CASES * len(STYLES) + 2  # the smoke cases of the one that raises
    (row,) = cost["by_role_and_model"]
    assert (row["role"], row["calls"]) == ("target", len(journal))
    assert cost["spent"]["input_tokens"] == sum(entry["call"]["input_tokens"] for entry in journal)
    summary = json.loads((history.store.path / "summary.json").read_text())
    assert summary["status"] == "all 6 candidates were proposed"
    assert summary["best"]["iteration"] == 7
    assert summary["frontier"] == [6, 7]
    assert all(entry["attribution"]["iteration"] in STYLES for entry in journal)


async def test_a_candidate_whose_file_names_cannot_be_recorded_is_rejected_with_its_source_kept(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=3)
    (honest,) = proposals_of(harness("good"))
    hostile = type(honest)(files={"harness.py": harness("good"), "../escape.py": "x = 1"}, name="hostile")
    empty = type(honest)(files={"other.py": "x = 1"}, name="empty")
    history = await searched(toy.config(iterations=3), tmp_path / "runs", ScriptedProposer([hostile, empty, honest]))
    stages = [it.rejection.stage if it.rejection else None for it in history.iterations[2:]]
    assert stages == ["interface", "interface", None]
    rejection = history.iteration(2).rejection
    assert rejection is not None
    assert "'../escape.py'" in rejection.message
    assert "# class Harness:" in history.store.files(2)["harness.py"]
    assert not (tmp_path / "runs" / "escape.py").exists()
    assert list(history.store.files(2)) == ["harness.py"]
