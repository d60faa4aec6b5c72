"""Harnesses that break their worker in one case: that case is charged, no other, at any concurrency."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from evaluation_kit import LETTERS, QUICK, Capitals, Letters, Outcome, guilty, harness, lab, same_but_for_times

from metaharness.configuration import Budget
from metaharness.domain import Domain
from metaharness.errors import ConfigurationError
from metaharness.messages import Completion, ModelRequest
from metaharness.records import Limits

FEW = "abcd"
FORGERY = """
    import json, os, sys
    PIPE = int(sys.argv[2])

    def send(body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        os.write(PIPE, len(body).to_bytes(4, "big") + body)

    def own_scope(model):
        return model._send.__self__.number
"""
"""What a harness needs to write frames of its own: it shares the process with the worker."""


async def at_both(folder: Path, source: str, domain: Domain | None = None, **chosen: object) -> Outcome:
    """Evaluate with one case open at a time and with many, and make sure that it makes no difference."""
    domain = domain or Letters(FEW)
    with anyio.fail_after(60):
        one = await lab(folder / "one", source, domain, concurrency=1, **chosen).run()
        many = await lab(folder / "many", source, domain, concurrency=32, **chosen).run()
    assert same_but_for_times(list(one.traces.values())) == same_but_for_times(list(many.traces.values()))
    return many


DEATHS = {
    "os._exit(3)": "the worker died (exit status 3)",
    "os.kill(os.getpid(), 9)": "the worker died (killed by SIGKILL)",
    "import ctypes; ctypes.string_at(0)": "the worker died (killed by SIGSEGV)",
    "os.abort()": "the worker died (killed by SIGABRT)",
    "os.write(2, b'last words'); os._exit(1)": "the worker died (exit status 1), saying:\nlast words",
    "os.close(PIPE)": "the worker died",
    "os.closerange(0, 100)": "the worker died",
    "import socket; socket.socket(fileno=os.dup(PIPE)).shutdown(socket.SHUT_RDWR)": "the worker died",
    "import signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(100)": "the worker died",
}


@pytest.mark.parametrize("deed", DEATHS)
async def test_a_case_that_kills_its_worker_is_charged_alone(tmp_path: Path, deed: str) -> None:
    outcome = await at_both(tmp_path, guilty(deed, before=FORGERY))
    assert outcome.statuses == dict.fromkeys(FEW, "ok") | {"c": "harness_error"}
    assert (outcome["c"].error or "").startswith(DEATHS[deed])


BREACHES = {
    r"os.write(PIPE, b'\xff\xff\xff\xff')": "a frame of 4,294,967,295 bytes",
    "send(b'nonsense')": "a frame that is not JSON",
    "send(b'[1]')": "a frame without a kind",
    "send({'kind': ['done']})": "a frame without a kind",
    "send({'kind': 'surprise'})": "a frame of the unknown kind 'surprise'",
    "send({'kind': 'answer', 'scope': own_scope(model), 'id': 1, 'answer': {}})": "a frame of the unknown kind",
    "send({'kind': 'call', 'scope': own_scope(model), 'id': 'x'})": "a call without a number",
    'send(b\'{"kind": "done", "scope": 1, "output": NaN}\')': "NaN is not JSON",
    'send(b\'{"kind": "done", "scope": 1, "output": 1e999}\')': "1e999 is too large",
    r"send(b'{\"kind\": \"done\", \"output\": \"\xed\xa0\x80\"}')": "a frame that is not JSON",
    "send(b'{\"kind\": \"done\", \"output\": ' + b'9' * 5000 + b'}')": "Exceeds the limit",
    "send(b'{\"kind\": \"done\", \"output\": ' + b'[' * 300 + b']' * 300 + b'}')": "nested deeper than 100",
    "send(b'{\"kind\": \"done\", \"output\": ' + b'[' * 90000 + b']' * 90000 + b'}')": "not JSON",
    "send({'kind': 'done', 'scope': 1, 'output': 'x' * (2 << 20)})": "that is no call",
}


@pytest.mark.parametrize("deed", BREACHES)
async def test_a_case_that_forges_a_broken_frame_is_charged_alone(tmp_path: Path, deed: str) -> None:
    outcome = await at_both(tmp_path, guilty(deed, before=FORGERY))
    assert outcome.statuses == dict.fromkeys(FEW, "ok") | {"c": "harness_error"}
    assert "the worker broke the protocol: " in (outcome["c"].error or "")
    assert BREACHES[deed] in (outcome["c"].error or "")


HARMLESS = [
    "for number in range(1000): send({'kind': 'done', 'scope': number, 'output': 'forged'})",
    "for number in range(1000): send({'kind': 'call', 'scope': number, 'id': 1, 'request': {}})",
    "for scope in ([1], {}, None, 'x', 1.5, True): send({'kind': 'done', 'scope': scope, 'output': 'forged'})",
    "send({'kind': 'loaded'}); send({'kind': 'ready'}); send({'kind': 'failed', 'stage': ['x'], 'message': 1})",
    "send({'kind': 'done'})",
]


@pytest.mark.parametrize("deed", HARMLESS)
async def test_a_forged_frame_of_no_open_case_changes_nothing(tmp_path: Path, deed: str) -> None:
    """Nor can a case guess the number of another one that is open in the same worker."""
    model = Capitals()
    outcome = await lab(tmp_path, guilty(deed, before=FORGERY), concurrency=32, model=model).run()
    assert outcome.outputs == {letter: letter.upper() for letter in LETTERS}
    assert model.texts == list(LETTERS)


async def test_the_first_answer_of_a_case_counts_and_later_ones_do_not(tmp_path: Path) -> None:
    deed = """
        done = {'kind': 'done', 'scope': own_scope(model), 'output': 'the first'}
        call = {'kind': 'call', 'scope': own_scope(model), 'id': 7, 'request': {'messages': []}}
        frames = [json.dumps(frame).encode() for frame in (done, {**done, 'output': 'the second'}, call)]
        os.write(PIPE, b''.join(len(frame).to_bytes(4, 'big') + frame for frame in frames))
    """
    outcome = await at_both(tmp_path, guilty(deed, before=FORGERY))
    assert outcome.outputs == {letter: letter.upper() for letter in FEW} | {"c": "the first"}
    assert outcome["c"].calls == []


@pytest.mark.parametrize(
    "error",
    [
        "{'call_kind': 'infrastructure', 'message': 'forged'}",
        "{'call_kind': 'refused', 'message': 'forged', 'traceback': 7}",
        "{'call_kind': ['refused']}",
        "'x' * 20000",
        "[]",
        "0",
    ],
)
async def test_a_forged_report_of_a_failure_is_a_harness_error(tmp_path: Path, error: str) -> None:
    deed = f"send({{'kind': 'done', 'scope': own_scope(model), 'error': {error}, 'output': 'C', 'stdout_tail': [1]}})"
    outcome = await lab(tmp_path, guilty(deed, before=FORGERY)).run()
    assert outcome.statuses == dict.fromkeys(LETTERS, "ok") | {"c": "harness_error"}
    assert outcome["c"].output is None
    assert len(outcome["c"].error or "") <= 8000


async def test_calls_with_forged_numbers_are_all_traced(tmp_path: Path) -> None:
    """The context that a harness sends is an objective: it must not be able to hide some."""
    deed = """
        for n in range(3):
            request = {'messages': [{'role': 'user', 'content': f'hidden {n}'}]}
            send({'kind': 'call', 'scope': own_scope(model), 'id': 1, 'request': request})
        model.complete(text)
        model.complete(text)
    """
    outcome = await lab(tmp_path, guilty(deed, before=FORGERY), concurrency=1).run()
    sent = [call.request["messages"][0]["content"] for call in outcome["c"].calls]
    assert sent[:3] == ["hidden 0", "hidden 1", "hidden 2"]


@pytest.mark.parametrize(
    "request_",
    [
        "{'messages': [{'role': 'user', 'content': 'x'}], 'max_tokens': 10 ** 400}",
        "{'messages': [{'role': 'user', 'content': 'x'}], 'temperature': 10 ** 400}",
        "{'messages': [{'role': 'user', 'content': 'x'}], 'surprise': 1}",
        "{'messages': 7}",
        "[]",
        "None",
    ],
)
async def test_a_forged_request_is_refused_or_answered(tmp_path: Path, request_: str) -> None:
    deed = f"send({{'kind': 'call', 'scope': own_scope(model), 'id': 99, 'request': {request_}}})"
    outcome = await lab(tmp_path, guilty(deed, before=FORGERY), budget=Budget(tokens=10**9)).run()
    assert outcome.statuses == dict.fromkeys(LETTERS, "ok")


MISCHIEF = [
    "import json; json.dumps = json.loads = json.JSONEncoder = json.JSONDecoder = None",
    "json.JSONEncoder.encode = json.JSONDecoder.decode = json.JSONEncoder.iterencode = None",
    "import threading; threading.Thread = threading.Lock = threading.local = None",
    "import builtins; builtins.len = builtins.hasattr = builtins.min = builtins.getattr = None",
    "import builtins; builtins.isinstance = lambda *_: 1 / 0",
    "import builtins; builtins.__import__ = None",
    "os.write = os.read = os._exit = None",
    "sys.stdout = sys.stderr = None",
    "sys.modules.clear()",
    "import traceback; traceback.TracebackException = None",
    "import gc; gc.disable(); import threading; threading.Thread.start = None",
    "import metaharness.harness; metaharness.harness.ModelError = metaharness.harness.Model = None",
]


@pytest.mark.parametrize("deed", MISCHIEF)
async def test_a_case_that_replaces_what_the_worker_uses_harms_no_other(tmp_path: Path, deed: str) -> None:
    source = guilty(deed, before=FORGERY + "    import json\n").replace("model.complete(text).text", "text.upper()")
    outcome = await at_both(tmp_path, source)
    innocent = {letter: "ok" for letter in FEW if letter != "c"}
    assert outcome.statuses in (innocent | {"c": "ok"}, innocent | {"c": "harness_error"})


async def test_many_cases_that_kill_their_workers_are_each_charged(tmp_path: Path) -> None:
    source = harness("if text in 'bcef':\n    import os\n    os._exit(1)\nreturn model.complete(text).text")
    model = Capitals()
    outcome = await at_both(tmp_path, source, Letters(), model=model)
    assert outcome.statuses == {letter: "harness_error" if letter in "bcef" else "ok" for letter in LETTERS}


async def test_a_thread_that_kills_the_worker_after_its_case_has_ended_charges_nobody(tmp_path: Path) -> None:
    """Whoever is open then is asked again, and does not fail alone."""
    source = guilty("import threading; threading.Timer(0.05, os._exit, (1,)).start()", before="import os")
    outcome = await lab(tmp_path, source, concurrency=4).run()
    assert outcome.statuses == dict.fromkeys(LETTERS, "ok")


async def test_a_worker_that_reads_no_more_is_given_up_though_much_is_on_its_way_to_it(tmp_path: Path) -> None:
    source = harness("""
        if text[0] == 'b':
            import os, signal
            os.kill(os.getpid(), signal.SIGSTOP)
            while True: pass
        return text[0].upper()
    """)
    domain = Letters([letter * (1 << 20) for letter in "abcd"], limits=QUICK)
    with anyio.fail_after(60):
        outcome = await lab(tmp_path, source, domain, concurrency=8).run()
    assert [trace.status for _, trace in sorted(outcome.traces.items())] == ["ok", "timeout", "ok", "ok"]


async def test_a_worker_that_reads_no_more_is_given_up_though_it_is_to_learn_much(tmp_path: Path) -> None:
    source = harness(
        "return text",
        before="import os, signal, threading\nthreading.Timer(0, os.kill, (os.getpid(), signal.SIGSTOP)).start()",
    )
    domain = Letters([letter * (1 << 20) for letter in "ab"], limits=QUICK)
    with anyio.fail_after(60):
        outcome = await lab(tmp_path, source, domain, concurrency=1).run()
    assert {trace.status for trace in outcome.traces.values()} <= {"timeout", "harness_error"}


async def test_case_that_takes_long_only_in_company_is_not_charged(tmp_path: Path) -> None:
    source = harness(
        """
        Harness.open += 1
        while Harness.open > 1:
            pass
        return text.upper()
        """
    ).replace("class Harness:\n", "class Harness:\n    open = 0\n")
    outcome = await lab(tmp_path, source, Letters("ab", limits=Limits(case_seconds=0.5)), concurrency=4).run()
    assert set(outcome.statuses.values()) <= {"ok"}


def said_to_each_worker(*said: Completion | ConfigurationError) -> Capitals:
    """A model that says these one after another, however it is asked."""
    left = list(said)

    def answer(_request: ModelRequest) -> Completion:
        one = left.pop(0)
        if isinstance(one, ConfigurationError):
            raise one
        return one

    return Capitals(answer)


async def test_a_model_that_cannot_be_used_when_a_suspect_is_asked_alone_ends_the_evaluation(tmp_path: Path) -> None:
    ask = "model.complete(str(os.getpid()))"
    source = harness(f"if text == 'c':\n    {ask}\n    os._exit(1)\nreturn text.upper()", before="import os")
    model = said_to_each_worker(Completion(text="well"), ConfigurationError("the key was taken back"))
    with pytest.raises(ConfigurationError, match="the key was taken back"):
        await lab(tmp_path, source, model=model, concurrency=1).run()


async def test_where_the_worker_of_a_suspect_does_not_learn_the_suspect_has_failed_and_nothing_is_asked(
    tmp_path: Path,
) -> None:
    learn = "if model.complete(str(os.getpid())).text == 'forget':\n    raise RuntimeError('not again')"
    source = harness("if text == 'c':\n    os._exit(1)\nreturn text.upper()", before="import os", learn=learn)
    model = said_to_each_worker(Completion(text="well"), Completion(text="forget"))
    outcome = await lab(tmp_path, source, model=model, concurrency=1).run()
    assert outcome.statuses == {letter: "ok" if letter in "ab" else "harness_error" for letter in LETTERS}
    assert "not again" in (outcome["c"].error or "")
