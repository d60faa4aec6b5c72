"""A search over what is recorded finds it, page by page in time, and never what is sealed."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_kit import call, new_run, proposal, trace

from metaharness.errors import UsageError
from metaharness.finding import EXCERPT, WHERE, Hit, Hits, grep_trace, search_history
from metaharness.records import LEARN, GradeRecord, Proposal
from metaharness.store import Filter, RunStore, TraceIndex

CATASTROPHIC = r"(x+x+)+y"


@pytest.fixture
def store(tmp_path: Any) -> Iterator[RunStore]:
    """Two iterations; `needle` is in every kind of record of each, and in the sealed traces."""
    with new_run(tmp_path) as store:
        for number in range(2):
            files = {"harness.py": f"# first\n# needle {number}\n", "prompts/system.txt": "a needle here\nand needle"}
            store.add_iteration(Proposal(files=files, reasoning=f"why\nneedle {number}"), round=number, slot=0)
            store.append_trace(number, trace("a", input="nothing"))
            store.append_trace(number, trace("b", trial=1, calls=[call(f"the needle\nin case b of {number}")]))
            store.append_trace(number, trace(LEARN, input="needle"))
            store.write_report(number, "# Report\n\nThe needle was found.\n")
        store.sealed.write_opening({"winner": 0})
        store.sealed.append_trace(0, trace("test", input="needle"))
        yield store


def index_of(store: RunStore, number: int = 0) -> TraceIndex:
    index = RunStore.open(store.path, record=False).trace_index(number)
    index.update()
    return index


def places(hits: Sequence[Hit]) -> list[tuple[object, ...]]:
    return [(hit.iteration, hit.where, hit.file or hit.case_id, hit.line) for hit in hits]


def all_pages(search: Callable[..., Hits], **options: Any) -> tuple[list[Hit], int]:
    """The hits of all pages, and how many pages there were."""
    hits, cursor, pages = list[Hit](), None, 0
    while pages == 0 or cursor is not None:
        page = search(cursor=cursor, **options)
        hits += page.hits
        cursor, pages = page.cursor, pages + 1
        assert pages < 1000, "it does not end"
    return hits, pages


# --- the history ------------------------------------------------------------------------------------------------


def expected_of(number: int) -> list[tuple[object, ...]]:
    return [
        (number, "sources", "harness.py", 2),
        (number, "sources", "prompts/system.txt", 1),
        (number, "sources", "prompts/system.txt", 2),
        (number, "reasoning", None, 2),
        (number, "reports", None, 3),
        (number, "traces", "b", 2),
        (number, "traces", LEARN, 1),
    ]


def test_everything_recorded_is_searched_in_the_order_of_iterations_and_nothing_sealed(store: RunStore) -> None:
    found = search_history(store, "needle")
    assert places(found.hits) == expected_of(0) + expected_of(1)
    assert (found.cursor, found.unreadable) == (None, ())
    assert found.hits[0].excerpt == "# needle 0"
    assert "the needle\nin case b of 0" in found.hits[5].excerpt
    assert found.hits[5].trial == 1


@pytest.mark.parametrize("kind", WHERE)
def test_a_search_can_be_of_some_kinds_and_some_iterations(store: RunStore, kind: str) -> None:
    assert places(search_history(store, "needle", where=[kind], iterations=[1]).hits) == [
        one for one in expected_of(1) if one[1] == kind
    ]


def test_chosen_iterations_are_searched_once_each_in_their_order(store: RunStore) -> None:
    found = search_history(store, "needle", where=["reports"], iterations=[1, 0, 1])
    assert [hit.iteration for hit in found.hits] == [0, 1]


@pytest.mark.parametrize(("limit", "seconds"), [(1, 10.0), (2, 10.0), (5, 10.0), (100, 0.0), (1, 0.0)])
def test_pages_together_are_all_of_it_however_they_are_cut(store: RunStore, limit: int, seconds: float) -> None:
    def search(cursor: str | None) -> Hits:
        page = search_history(store, "needle", cursor=cursor, limit=limit, seconds=seconds)
        assert len(page.hits) <= limit
        return page

    hits, pages = all_pages(search)
    assert places(hits) == expected_of(0) + expected_of(1)
    assert pages > 1 or limit == 100


def test_what_is_recorded_between_two_pages_is_found(store: RunStore) -> None:
    first = search_history(store, "needle", limit=13)
    store.append_trace(1, trace("later", input="needle"))
    store.add_iteration(proposal("# needle\n"), round=2, slot=0)
    rest = search_history(store, "needle", cursor=first.cursor)
    assert places(rest.hits)[-1] == (2, "sources", "harness.py", 1)
    assert len(first.hits) + len(rest.hits) == 15


def test_a_run_without_a_trace_or_report_has_no_hits_there(tmp_path: Any) -> None:
    with new_run(tmp_path) as store:
        assert search_history(store, "x") == Hits((), None)
        store.add_iteration(proposal(), round=0, slot=0)
        assert search_history(store, "x", where=["traces", "reports"]) == Hits((), None)


def test_what_cannot_be_read_is_told_and_the_rest_is_searched(store: RunStore) -> None:
    (store.path / "iterations/000/harness/harness.py").write_text("# needle, changed by hand\n")
    (store.path / "iterations/001/report.md").write_bytes(b"needle \xff")
    found = search_history(store, "needle")
    assert places(found.hits) == expected_of(0)[3:] + [one for one in expected_of(1) if one[1] != "reports"]
    assert ["their hash differs" in found.unreadable[0], "report.md" in found.unreadable[1]] == [True, True]


def test_a_damaged_line_of_a_trace_is_a_hit_of_no_case(store: RunStore) -> None:
    with (store.path / "iterations/000/eval_trace.jsonl").open("ab") as file:
        file.write(b'{"damaged needle \xff"\n{"torn needle')
    hit = search_history(store, "damaged needle").hits[0]
    assert (hit.line, hit.case_id, hit.trial) == (3, None, None)
    assert search_history(store, "torn needle").hits == ()


# --- one trace --------------------------------------------------------------------------------------------------


def test_a_trace_is_searched_by_what_counts_in_it(store: RunStore) -> None:
    store.append_trace(0, trace("a", input="needle at last"))
    index = index_of(store)
    assert places(grep_trace(index, "needle").hits) == [(0, "traces", "a", 3), (0, "traces", "b", 2)]
    assert grep_trace(index, '"nothing"').hits == ()


def test_a_search_is_restricted_to_the_rows_of_a_filter(store: RunStore) -> None:
    grades = [GradeRecord(evaluator_hash="e" * 64, value=0.0)]
    store.append_trace(0, trace("c", status="timeout", grades=[], input="needle"))
    store.append_trace(0, trace("d", input="needle", grades=grades))
    store.append_trace(1, trace("d", input="needle", grades=grades))
    index, other = index_of(store), index_of(store, 1)

    def found(wanted: Filter | None = None, differs_from: TraceIndex | None = None) -> list[str | None]:
        return [hit.case_id for hit in grep_trace(index, "needle", wanted, differs_from=differs_from).hits]

    assert found() == ["b", "c", "d"]
    assert found(Filter(failures=True)) == ["c"]
    assert found(Filter(failures=True, best=1.0)) == ["c", "d"]
    assert found(Filter(case_id="b")) == ["b"]
    assert found(differs_from=other) == ["c"]


@pytest.mark.parametrize("options", [{"limit": 1}, {"limit": 3}, {"seconds": 0.0}])
def test_the_pages_of_a_trace_follow_each_other_also_while_it_grows(store: RunStore, options: dict[str, Any]) -> None:
    for case in range(10):
        store.append_trace(0, trace(f"case-{case}", input="needle" if case % 2 else "hay"))
    index = index_of(store)

    def search(cursor: str | None) -> Hits:
        page = grep_trace(index, "needle", cursor=cursor, **options)
        if len(index) < 14:
            store.append_trace(0, trace(f"late-{len(index)}", input="needle"))
            store.append_trace(0, trace("a", input="needle"))  # its place is the first, which has been searched
            index.update()
        return page

    hits, pages = all_pages(search)
    assert [hit.case_id for hit in hits] == ["b", *(f"case-{case}" for case in (1, 3, 5, 7, 9)), "late-12", "late-13"]
    assert pages > 2


# --- patterns and cursors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "a{5,2}", r"\p{Nothing}", "(?P<a", "\\", r"\L<words>", "(?ui)a(?a)", "(" * 1500, "*"]
)
def test_what_is_no_pattern_is_refused_with_the_reason(store: RunStore, pattern: str) -> None:
    for search in (lambda: search_history(store, pattern), lambda: grep_trace(index_of(store), pattern)):
        with pytest.raises(UsageError, match="is not a regular expression: ") as caught:
            search()
        assert "backslash" in str(caught.value.hint)


@pytest.mark.parametrize("pattern", ["", "x" * 2001])
def test_a_pattern_is_neither_empty_nor_endless(store: RunStore, pattern: str) -> None:
    with pytest.raises(UsageError, match="a pattern of"):
        search_history(store, pattern)


def test_a_catastrophic_pattern_is_an_error_that_names_the_line_and_does_not_hang(store: RunStore) -> None:
    store.append_trace(0, trace("long", input="x" * 5000))
    index = index_of(store)
    with pytest.raises(UsageError, match=r"takes too long on line 3 of the traces of iteration 000") as caught:
        grep_trace(index, CATASTROPHIC, Filter(case_id="long"), seconds=0.1)
    assert "repeated group" in str(caught.value.hint)


def test_what_was_found_before_a_catastrophic_line_is_given_first(store: RunStore) -> None:
    for case_id, text in (("c", "xxy"), ("long", "x" * 5000)):
        store.append_trace(0, trace(case_id, input=text))
    index = index_of(store)
    found = list[Hit]()

    def search(cursor: str | None) -> Hits:
        page = grep_trace(index, CATASTROPHIC, seconds=0.1, cursor=cursor)
        found.extend(page.hits)
        return page

    with pytest.raises(UsageError, match="takes too long on line 4"):
        all_pages(search)
    assert [hit.case_id for hit in found] == ["c"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "-1.00000000", "1.2.3", "٣.aaaaaaaa", "9" * 400, "0.0.0.0.1.zzzzzzzz"]
)
def test_what_is_no_cursor_is_refused(store: RunStore, cursor: str) -> None:
    for search in (
        lambda: search_history(store, "needle", cursor=cursor),
        lambda: grep_trace(index_of(store), "needle", cursor=cursor),
    ):
        with pytest.raises(UsageError, match="is not a cursor") as caught:
            search()
        assert "begin anew" in str(caught.value.hint)


def test_a_cursor_of_another_search_is_refused(store: RunStore) -> None:
    cursor = search_history(store, "needle", limit=1).cursor
    for other in (
        lambda: search_history(store, "needles", cursor=cursor),
        lambda: search_history(store, "needle", where=["traces"], cursor=cursor),
        lambda: search_history(store, "needle", iterations=[0], cursor=cursor),
    ):
        with pytest.raises(UsageError, match="is of another search"):
            other()
    index = index_of(store)
    cursor = grep_trace(index, "case_id", limit=1).cursor
    for wanted, differs_from in ((Filter(failures=True), None), (None, index_of(store, 1))):
        with pytest.raises(UsageError, match="is of another search"):
            grep_trace(index, "case_id", wanted, differs_from=differs_from, cursor=cursor)


def test_a_cursor_into_a_trace_that_was_rewritten_is_refused(store: RunStore) -> None:
    page = search_history(store, "case_id", where=["traces"], limit=1)
    path = store.path / "iterations/000/eval_trace.jsonl"
    path.write_bytes(b"{}" + path.read_bytes())
    with pytest.raises(UsageError, match="the cursor does not fit: no line begins at byte"):
        search_history(store, "case_id", where=["traces"], cursor=page.cursor)


def test_what_cannot_be_searched_is_refused_with_what_can(store: RunStore) -> None:
    with pytest.raises(UsageError, match="'sealed' cannot be searched") as caught:
        search_history(store, "needle", where=["sealed"])
    assert caught.value.hint == "valid: sources, reasoning, reports, traces"
    with pytest.raises(UsageError, match="no iteration 7"):
        search_history(store, "needle", iterations=[0, 7])
    with pytest.raises(UsageError, match="a page of 0 hits"):
        search_history(store, "needle", limit=0)


# --- excerpts ---------------------------------------------------------------------------------------------------


def excerpt_of(index: TraceIndex, pattern: str) -> str:
    (hit,) = grep_trace(index, pattern, Filter(case_id="shown")).hits
    return hit.excerpt


def test_an_excerpt_shows_what_json_has_escaped(store: RunStore) -> None:
    text = 'He said "yes" \\ no\n\tnext \x1b[1m ünï \N{GRINNING FACE} needle'
    store.append_trace(0, trace("shown", input=text))
    assert text in excerpt_of(index_of(store), "needle")


def test_escapes_that_another_program_has_written_are_shown_too(store: RunStore) -> None:
    with (store.path / "iterations/000/eval_trace.jsonl").open("ab") as file:
        file.write(rb'{"case_id":"shown","input":"\u00e4 \ud83d\ude00 \ud83d \/ last words"}' + b"\n")
    (hit,) = search_history(store, "last words").hits
    assert "ä \N{GRINNING FACE} \N{REPLACEMENT CHARACTER} / last words" in hit.excerpt


def test_an_excerpt_is_short_and_has_the_match_in_it(store: RunStore) -> None:
    store.append_trace(0, trace("shown", input="a" * 9000 + " needle " + "b" * 9000))
    index = index_of(store)
    shown = excerpt_of(index, "needle")
    assert (len(shown), shown.startswith("aaa"), " needle " in shown, shown.endswith("bbb")) == (
        EXCERPT,
        True,
        True,
        True,
    )
    long = excerpt_of(index, "needle b+")
    assert long == "needle " + "b" * (EXCERPT - 7)
    assert len(search_history(store, "needle", where=["traces"], iterations=[0]).hits[-1].excerpt) <= EXCERPT


@settings(max_examples=40)
@given(
    before=st.text(st.sampled_from('\\"\nnu0é\x01' + string.ascii_letters), max_size=400),
    after=st.text(st.sampled_from('\\"\nnu0é\x01'), max_size=400),
)
def test_an_excerpt_never_shows_a_part_of_an_escape(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str
) -> None:
    with new_run(tmp_path_factory.mktemp("run")) as store:
        store.add_iteration(proposal(), round=0, slot=0)
        store.append_trace(0, trace("shown", input=f"{before}#needle#{after}", output=None, grades=[], calls=[]))
        shown = excerpt_of(index_of(store), "#needle#")
    left, right = shown.split("#needle#")
    whole = f'{{"case_id":"shown","trial":0,"status":"ok","input":"{before}'
    assert whole.endswith(left)
    assert f'{after}","output":null,"expected":null,"group":null'.startswith(right[: len(after)])
    assert len(shown) <= EXCERPT
