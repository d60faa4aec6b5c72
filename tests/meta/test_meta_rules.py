"""Rules over the source that keep promises made elsewhere: who may name, catch, print and postpone what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from meta_kit import PACKAGE, enclosing, modules, texts

# --- the sealed split -------------------------------------------------------------------------------------------

CHECKED_SPLIT = {
    "metaharness/cli/evaluate.py": "chosen_split refuses all but search and train before it makes a Split",
}
"""Where a Split is made of a text that is not written out."""


def names_of_test_split(tree: ast.AST) -> Iterator[ast.AST]:
    """`Split.TEST`, `Split("test")`, `Split["TEST"]`."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="Split"), attr="TEST")
                | ast.Call(func=ast.Name(id="Split"), args=[ast.Constant(value="test")])
                | ast.Subscript(value=ast.Name(id="Split"), slice=ast.Constant(value="TEST"))
            ):
                yield node


def ways_to_any_split(tree: ast.AST) -> Iterator[ast.AST]:
    """`Split(text)` and walking over `Split`: they reach the sealed one without naming it."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Split"), args=[argument]) if not isinstance(argument, ast.Constant):
                yield node
            case ast.For(iter=ast.Name(id="Split")) | ast.comprehension(iter=ast.Name(id="Split")):
                yield node
            case ast.Call(func=ast.Name(id="list" | "tuple" | "set" | "sorted"), args=[ast.Name(id="Split")]):
                yield node


def test_only_holdout_names_the_test_split() -> None:
    """One small module to read when asking who can see the sealed cases."""
    found = {module.place for module in modules(PACKAGE) for _ in names_of_test_split(module.tree)}
    assert found == {"metaharness/holdout.py"}


def test_no_other_way_leads_to_the_test_split() -> None:
    found = {module.place for module in modules(PACKAGE) for _ in ways_to_any_split(module.tree)}
    assert found == set(CHECKED_SPLIT)


@pytest.mark.parametrize("source", ["Split.TEST", "Split('test')", "Split['TEST']"])
def test_each_spelling_of_the_test_split_is_seen(source: str) -> None:
    assert list(names_of_test_split(ast.parse(source)))


@pytest.mark.parametrize("source", ["Split(text)", "for s in Split: ...", "[s for s in Split]", "list(Split)"])
def test_each_way_around_its_name_is_seen(source: str) -> None:
    assert list(ways_to_any_split(ast.parse(source)))


# --- broad handlers ---------------------------------------------------------------------------------------------

BROAD = {
    ("metaharness/attacks/stage.py", "_answer"): "a hostile harness that makes the engine fail is a line of the report",
    ("metaharness/cli/app.py", "main"): "an error of the argument parser, whose class differs by version; others pass",
    ("metaharness/domain.py", "_listed"): "a domain's own code: its failure is a DomainError with the cause",
    ("metaharness/evaluation/grading.py", "Grader.grade"): "a domain's own code: its failure is the case's status",
    ("metaharness/exported.py", "ExportedHarness.answer"): "a harness's own code: its failure is a CandidateError",
    ("metaharness/loading.py", "_import_file"): "a domain's own code: its failure is a DomainError with the cause",
    ("metaharness/loading.py", "_from_module"): "a domain's own code: its failure is a DomainError with the cause",
    ("metaharness/loading.py", "_made"): "a domain's own code: its failure is a DomainError with the cause",
    ("metaharness/proposers/agent_sdk.py", "_let_go"): "a client that cannot be asked to stop is ended all the same",
    ("metaharness/search.py", "_write"): "whatever a proposer does is a fact about its round",
    ("metaharness/tools/seat.py", "seated.working"): "the same, of an agent that works with the tools",
    (
        "metaharness/tools/recordings.py",
        "Recordings._do",
    ): "a mistake of ours in one evaluation is told to who waits",
    ("metaharness/testing.py", "_evaluator"): "a domain's own code: its failure is a line of the report",
    ("metaharness/sandbox/worker.py", "Worker.on_init"): "the candidate's code: its failure is the frame `failed`",
    ("metaharness/sandbox/worker.py", "Worker.work"): "the candidate's code: its failure is the frame `done`",
    ("metaharness/sandbox/telling.py", "Teller.describe"): "a candidate's exception may fail to say what it is",
    ("metaharness/sandbox/telling.py", "Teller.traceback"): "a candidate's exception may fail to be formatted",
    ("metaharness/sandbox/telling.py", "shown"): "a candidate's value may fail to say what it is",
}
"""Where everything may be caught, and what becomes of it. One boundary per kind of foreign code."""


def broad_handlers(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Handlers (and `suppress`) that catch everything and do not pass it on with a bare `raise` at their end."""
    for name, node in enclosing(tree):
        if isinstance(node, ast.ExceptHandler) and _catches_all(node.type):
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                yield name, node
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            yield from ((name, node) for argument in node.args if _catches_all(argument))


def _catches_all(caught: ast.expr | None) -> bool:
    return caught is None or bool(re.search(r"\b(Base)?Exception\b", ast.unparse(caught)))


def test_everything_is_caught_only_where_a_reason_is_written() -> None:
    """Elsewhere our own mistakes would be recorded as a candidate's."""
    found = {(module.place, name) for module in modules(PACKAGE) for name, _ in broad_handlers(module.tree)}
    assert sorted(found) == sorted(BROAD)


@pytest.mark.parametrize(
    ("source", "broad"),
    [
        ("try: ...\nexcept Exception: ...", True),
        ("try: ...\nexcept (ValueError, BaseException): ...", True),
        ("try: ...\nexcept: ...", True),
        ("try: ...\nexcept Exception as error: raise ValueError from error", True),
        ("with contextlib.suppress(Exception): ...", True),
        ("try: ...\nexcept BaseException:\n    undo()\n    raise", False),
        ("try: ...\nexcept ValueError: ...", False),
        ("try: ...\nexcept BaseExceptionGroup: ...", False),
    ],
)
def test_a_broad_handler_is_one_that_does_not_pass_on_what_it_caught(source: str, broad: bool) -> None:
    assert bool(list(broad_handlers(ast.parse(source)))) is broad


# --- what is printed, and what is put off -----------------------------------------------------------------------


def test_only_the_command_line_prints() -> None:
    """Data goes to stdout; a library that prints breaks every `--json`."""
    found = [
        f"{module.place}:{node.lineno}"
        for module in modules(PACKAGE)
        if module.unit != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


POSTPONED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def test_nothing_is_put_off_in_a_comment() -> None:
    """A note in the code is read by nobody who plans; it is done, or it is an issue."""
    found = [
        f"{path}:{number}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if POSTPONED.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X"])
def test_a_postponed_matter_is_seen(word: str) -> None:
    assert POSTPONED.search(f"# {word}: later")
