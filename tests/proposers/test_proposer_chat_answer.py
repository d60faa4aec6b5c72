"""What a model without tools answers, read as candidates: nothing is invented, and a bad one costs no other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_kit import harness

from metaharness.proposers.chat_answer import Answer, read_answer
from metaharness.store import check_candidate_files

GOOD, OK = harness("good"), harness("ok")
FENCED_INSIDE = 'PROMPT = """Answer so:\n```\nred\n```\n"""\n' + GOOD
HEADER = """\
## Candidate: good_style
**Hypothesis:** The good style gets every item right.
- Axis: prompt
components: style, `wording`
predicted effect: +0.6, all that fail
parents: 001, 7
Reasoning: the plain style fails
on items 4 to 11:

- each of them was not said
"""


def block(source: str, info: str = "python harness.py", fence: str = "````") -> str:
    return f"{fence}{info}\n{source.rstrip()}\n{fence}\n"


def candidate(name: str, source: str, **more: str) -> str:
    files = "\n".join(block(text, f"python {path}") for path, text in {"harness.py": source, **more}.items())
    return f"## Candidate: {name}\nhypothesis: {name} is better.\n\n{files}\n"


def as_json(**fields: object) -> str:
    return json.dumps({"name": "good", "hypothesis": "It is better.", **fields})


FORMS = {
    "as asked": HEADER + block(GOOD),
    "three backticks": HEADER + block(GOOD, fence="```"),
    "tildes": HEADER + block(GOOD, fence="~~~"),
    "prose around it": f"I looked at the traces.\n\n{HEADER}\nHere it is:\n{block(GOOD)}\nThat is all.",
    "path as attribute": HEADER + block(GOOD, 'python title="harness.py"'),
    "path after a colon": HEADER + block(GOOD, "python:harness.py"),
    "path alone": HEADER + block(GOOD, "harness.py"),
    "path in a heading": HEADER + "### File: `harness.py`\n" + block(GOOD, "python"),
    "path in bold": HEADER + "**harness.py**\n\n" + block(GOOD, "py"),
    "no path": HEADER + block(GOOD, "python"),
    "no language": HEADER + block(GOOD, ""),
    "no end, and whole": HEADER + "````python harness.py\n" + GOOD,
    "windows lines": (HEADER + block(GOOD)).replace("\n", "\r\n"),
    "thoughts first": f"<think>\n{candidate('no', OK)}</think>\n{HEADER}{block(GOOD)}",
    "another block before": f'{HEADER}\n```json\n{{"items": 3}}\n```\n{block(GOOD)}',
}


def only(answer: Answer) -> str:
    assert answer.faults == []
    assert len(answer.proposals) == 1
    return answer.proposals[0].files["harness.py"]


@pytest.mark.parametrize("form", FORMS)
def test_a_candidate_is_read_in_many_forms(form: str) -> None:
    answer = read_answer(FORMS[form], known=(0, 1))
    assert only(answer).rstrip() == GOOD.rstrip()
    found = answer.proposals[0]
    assert found.name == "good_style"
    assert found.hypothesis == "The good style gets every item right."
    assert (found.axis, found.components) == ("prompt", ("style", "wording"))
    assert found.predicted_effect == "+0.6, all that fail"
    assert found.parents == (1,)
    assert found.reasoning.startswith("the plain style fails\non items 4 to 11:\n\n- each")


JSONS = {
    "an object": as_json(files={"harness.py": GOOD}),
    "a source": as_json(source=GOOD),
    "in a block": f"Here:\n```json\n{as_json(code=GOOD)}\n```\n",
    "a list of files": as_json(files=[{"path": "harness.py", "content": GOOD}]),
    "a list of candidates": json.dumps({"candidates": [json.loads(as_json(code=GOOD))]}),
    "with real line breaks": as_json(code="SOURCE").replace("SOURCE", GOOD.replace("\\", "\\\\").replace('"', '\\"')),
}


@pytest.mark.parametrize("form", JSONS)
def test_a_candidate_is_read_from_json(form: str) -> None:
    answer = read_answer(JSONS[form])
    assert only(answer) == GOOD
    assert (answer.proposals[0].name, answer.proposals[0].hypothesis) == ("good", "It is better.")


def test_several_candidates_keep_their_order_and_their_files() -> None:
    text = candidate("one", GOOD, **{"words.py": "WORDS = ()\n"}) + candidate("two", OK)
    found = read_answer(text).proposals
    assert [(one.name, sorted(one.files)) for one in found] == [
        ("one", ["harness.py", "words.py"]),
        ("two", ["harness.py"]),
    ]
    without_headers = read_answer(block(GOOD) + block(OK)).proposals
    assert [one.files["harness.py"] for one in without_headers] == [GOOD, OK]


def test_a_file_that_holds_fences_itself_is_read_whole() -> None:
    for fence in ("```", "````"):
        text = HEADER + block(FENCED_INSIDE, fence=fence) + candidate("next", OK)
        assert [one.files["harness.py"] for one in read_answer(text).proposals] == [FENCED_INSIDE, OK]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("## Candidate: bad\nhypothesis: none\n\nNo code here.\n", "bad: the candidate has no harness.py"),
        ("## Candidate: bad\n" + block(GOOD, "python ../harness.py"), "bad: the candidate has no harness.py"),
        (
            "## Candidate: bad\n" + block(GOOD) + block("x = 1", "python /etc/x.py"),
            "bad: file name '/etc/x.py' is absolute",
        ),
    ],
)
def test_one_bad_candidate_does_not_lose_the_others(bad: str, told: str) -> None:
    answer = read_answer(candidate("first", GOOD) + bad + candidate("last", OK))
    assert [one.name for one in answer.proposals] == ["first", "last"]
    assert [fault.split(";")[0] for fault in answer.faults] == [told]


def test_an_answer_that_was_cut_off_gives_what_was_whole() -> None:
    answer = read_answer(candidate("first", GOOD) + "## Candidate: last\n````python harness.py\n" + OK, cut=True)
    assert [one.name for one in answer.proposals] == ["first"]
    assert answer.faults == ["last: harness.py is not whole: the answer ended in it"]


@pytest.mark.parametrize(
    "text",
    ["", "I cannot do that.", "{not json", "[]", '{"candidates": 3}', "<think>never ends", "```\nsome output\n```"],
)
def test_an_answer_without_a_candidate_gives_nothing(text: str) -> None:
    assert read_answer(text) == Answer()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *HEADER.splitlines(),
                *GOOD.splitlines(),
                "```",
                "````",
                "```python harness.py",
                "~~~",
                "{",
                "[",
                "<think>",
            ]
        )
        | st.text(alphabet="#*`-=_. \t/a:", max_size=300),
        max_size=30,
    )
)
def test_whatever_is_answered_is_read_and_what_is_handed_in_can_be_a_candidate(said: list[str]) -> None:
    text = "\n".join(said)
    for cut in (True, False):
        for found in read_answer(text, cut=cut).proposals:
            check_candidate_files(found.files)
    assert read_answer("reasoning: x\n" + "-" * 20_000 + "\n" + "#" * 20_000 + "\n" + "=" * 20_000) == Answer()
