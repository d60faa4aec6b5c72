"""What a worker sends is untrusted: only well-formed frames come through, whole, in their order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaharness.sandbox.protocol import (
    MAX_ANSWER,
    MAX_DEPTH,
    MAX_FRAME,
    MAX_PROMPT,
    MAX_REPORT,
    MAX_VALUES,
    FrameReader,
    ProtocolError,
    encode,
    values,
    without_surrogates,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def read(data: bytes) -> list[dict[str, Any]]:
    return list(FrameReader().feed(data))


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@given(st.lists(st.fixed_dictionaries({"kind": st.just("done"), "output": JSON}), max_size=4), st.data())
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(frames: list[Any], data: st.DataObject) -> None:
    sent = b"".join(encode(one) for one in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    reader = FrameReader()
    found: list[dict[str, Any]] = []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += reader.feed(sent[start:end])
    assert found == frames


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_a_breach_and_nothing_else(data: bytes) -> None:
    try:
        found = read(data) + read(frame(data))
    except ProtocolError:
        return
    assert all(isinstance(one["kind"], str) for one in found)


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_what_comes_through_can_be_written_as_utf8(text: str) -> None:
    body = json.dumps({"kind": "done", "output": {text: [text]}}).encode("ascii")
    json.dumps(read(frame(body)), ensure_ascii=False).encode("utf-8")


@given(st.text())
def test_text_without_lone_surrogates_is_left_as_it_is(text: str) -> None:
    assert without_surrogates({text: [text]}) == {text: [text]}


def nested(levels: int) -> bytes:
    return b'{"kind": "done", "output": ' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"7",
        b"[]",
        b"{}",
        b'{"kind": 7}',
        b'{"kind": "done", "output": NaN}',
        b'{"kind": "done", "output": -Infinity}',
        b'{"kind": "done", "output": 1e999}',
        b'{"kind": "done", "output": -1e999}',
        '{"kind": "dône"}'.encode(),
        b'{"kind": "\xed\xa0\x80"}',
        '{"kind": "done"}'.encode("utf-16"),
        b'{"kind": "done", "output": ' + b"7" * 5000 + b"}",
        nested(MAX_DEPTH + 1),
        nested(10_000),
        b'{"kind": "done"' + b" " * MAX_REPORT + b"}",
    ],
)
def test_what_is_no_frame_breaks_the_protocol(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(frame(body))


def test_a_length_beyond_the_limit_breaks_the_protocol_before_the_bytes_are_there() -> None:
    with pytest.raises(ProtocolError, match="8,454,145 bytes"):
        read((MAX_FRAME + 1).to_bytes(4, "big"))


def test_the_longest_prompt_and_the_longest_answer_come_through() -> None:
    [call] = read(encode({"kind": "call", "scope": 1, "id": 1, "request": "x" * (MAX_PROMPT - 2)}))
    assert len(call["request"]) == MAX_PROMPT - 2
    [done] = read(encode({"kind": "done", "scope": 1, "output": "x" * (MAX_ANSWER - 2), "stdout_tail": "\0" * 4000}))
    assert len(done["output"]) == MAX_ANSWER - 2
    [deep] = read(frame(nested(MAX_DEPTH)))
    assert str(deep["output"]).count("[") == MAX_DEPTH


def called(request: bytes) -> bytes:
    return frame(b'{"kind": "call", "scope": 1, "id": 1, "request": ' + request + b"}")


@pytest.mark.parametrize(
    "request_",
    [
        b"[" + b"0," * (MAX_VALUES + 100) + b"0]",
        b"[" + b"{}," * 2_700_000 + b"{}]",
        b"[" + b"[[[[[[[[]]]]]]]]," * 40_000 + b"0]",
        b"{" + b'"":"",' * 700_000 + b'"":""}',
        b"[" + rb'"\\",0,' * MAX_VALUES + b"0]",
    ],
    ids=["numbers", "objects", "lists in lists", "fields", "strings that end in a backslash"],
)
def test_a_frame_of_too_many_values_breaks_the_protocol_before_it_is_read(request_: bytes) -> None:
    with pytest.raises(ProtocolError, match="values"):
        read(called(request_))


def test_what_stands_in_a_text_is_one_value_whatever_it_looks_like() -> None:
    text = '[{"a, \\": 1}],' * 300_000
    [call] = read(encode({"kind": "call", "scope": 1, "id": 1, "request": [text, text[:7]]}))
    assert call["request"] == [text, text[:7]]


def test_as_many_values_as_are_allowed_come_through() -> None:
    [call] = read(encode({"kind": "call", "scope": 1, "id": 1, "request": [{}] * (MAX_VALUES // 2)}))
    assert len(call["request"]) == MAX_VALUES // 2


@given(JSON)
def test_values_are_counted_as_a_reader_of_json_would_meet_them(value: Any) -> None:
    def met(one: Any) -> int:
        inner = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        return 1 + sum(met(part) for part in inner)

    counted = values(json.dumps(value).encode("ascii"), 1000)
    assert met(value) - 1 <= counted <= 2 * met(value)


@pytest.mark.parametrize("body", [b'"' * 400_001, b'["' + rb"\"" * 400_001, b'{"a": "' + b"\\" * 400_001])
def test_strings_that_do_not_end_are_stepped_over_once(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(frame(body + b"," * MAX_VALUES))
