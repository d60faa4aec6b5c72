"""A call is of the case whose code makes it, from whichever thread; one that is of no open case fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from clients_kit import PAIRS, belong, question, write_shop

ANSWERS = [{"contains": question(one, other), "text": f"{one} and {other}"} for one, other in PAIRS]
CLIENTS = """
import asyncio
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import openai

client, waiting = openai.OpenAI(), openai.AsyncOpenAI()


def ask(how, text):
    messages = [{'role': 'user', 'content': how + ': ' + text}]
    return client.chat.completions.create(model='any', messages=messages).choices[0].message.content


async def ask_async(how, text):
    messages = [{'role': 'user', 'content': how + ': ' + text}]
    return (await waiting.chat.completions.create(model='any', messages=messages)).choices[0].message.content
"""
THREADS = (
    CLIENTS
    + """
older = ThreadPoolExecutor(3)
list(older.map(int, range(30)))  # its threads are older than any case
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def in_thread(how, text):
    found = []
    thread = threading.Thread(target=lambda: found.append(ask(how, text)))
    thread.start()
    thread.join()
    return found[0]


class Asking(threading.Thread):
    def __init__(self, text):
        super().__init__(daemon=True)
        self.text = text

    def run(self):
        self.found = in_thread('a thread of a thread', self.text)


def subclass(text):
    thread = Asking(text)
    thread.start()
    thread.join()
    return thread.found


async def many(text):
    running = asyncio.get_running_loop()
    return await asyncio.gather(
        ask_async('a task', text),
        asyncio.to_thread(ask, 'to_thread', text),
        running.run_in_executor(None, ask, 'an executor of the loop', text),
        running.run_in_executor(older, ask, 'an older executor by the loop', text),
    )


class Harness:
    def predict(self, text, model):
        answers = [
            ask('the thread of the case', text),
            in_thread('a thread', text),
            subclass(text),
            older.submit(ask, 'an older executor', text).result(),
            *older.map(lambda how: ask(how, text), ['mapped 1', 'mapped 2', 'mapped 3']),
            asyncio.run_coroutine_threadsafe(ask_async('a loop in a thread', text), loop).result(),
            *asyncio.run(many(text)),
        ]
        with ThreadPoolExecutor(4) as executor:
            answers += executor.map(lambda number: ask('new executor %d' % number, text), range(4))
        with ThreadPool(2) as pool:
            answers += pool.map(lambda number: ask('pool %d' % number, text), range(2))
        return answers
"""
)


@pytest.mark.slow
def test_a_call_from_any_thread_is_of_the_case_that_gave_the_work(tmp_path: Path) -> None:
    """Eight cases are asked at the same time; executor and loop are older than all of them and shared."""
    shop = write_shop(tmp_path / "shop", rules=ANSWERS, delay_ms=5)
    said, traces = shop.evaluate(THREADS, "--sandbox", "process", "--no-ladder", "-c", 8)
    assert said.code == 0, said.err
    assert len(traces) == len(PAIRS)
    for one, other in PAIRS:
        trace = traces[f"{one}-{other}"]
        assert trace["output"] == [f"{one} and {other}"] * 18, trace["error"]
        assert len(trace["calls"]) == 18
        assert belong(trace)


OF_NO_CASE = (
    CLIENTS
    + """
work, done = queue.Queue(), queue.Queue()


def serve():
    while True:
        try:
            done.put(ask('through a queue', work.get()))
        except openai.APIStatusError as error:
            done.put([error.status_code, error.message])


threading.Thread(target=serve, daemon=True).start()
try:
    early = ask('at import', 'What')
except openai.APIStatusError as error:
    early = [error.status_code, error.message]


class Harness:
    def predict(self, text, model):
        work.put(text)
        return [early, done.get(), ask('directly', text)]
"""
)


def test_a_call_of_no_open_case_fails_also_when_a_single_case_is_open(tmp_path: Path) -> None:
    """Else it would work one case at a time, and fail or be another case's when several are open."""
    shop = write_shop(tmp_path / "shop", rules=ANSWERS, pairs=PAIRS[:1])
    said, traces = shop.evaluate(OF_NO_CASE, "--sandbox", "process", "--no-ladder", "-c", 1)
    assert said.code == 0, said.err
    early, queued, direct = traces["apple-pear"]["output"]
    assert direct == "apple and pear"
    assert early == queued
    assert early[0] == 409
    assert "belongs to no open case" in early[1]
    assert "call model.complete there" in early[1]
    assert len(traces["apple-pear"]["calls"]) == 1


LEFT_BEHIND = (
    CLIENTS
    + """
go, gone = threading.Event(), threading.Event()
found = []


def stay(text):
    go.wait()
    try:
        found.append(ask('left behind', text))
    except openai.APIStatusError as error:
        found.append([error.status_code, error.message])
    gone.set()


class Harness:
    asked = 0

    def predict(self, text, model):
        self.asked += 1
        if self.asked == 1:
            threading.Thread(target=stay, args=(text,), daemon=True).start()
            return 'first'
        go.set()
        gone.wait()
        return found
"""
)


def test_a_thread_left_behind_spends_nothing_of_the_next_case(tmp_path: Path) -> None:
    shop = write_shop(tmp_path / "shop", rules=ANSWERS, pairs=PAIRS[:2])
    said, traces = shop.evaluate(LEFT_BEHIND, "--sandbox", "process", "--no-ladder", "-c", 1)
    assert said.code == 0, said.err
    outputs = sorted((trace["output"] for trace in traces.values()), key=str, reverse=True)
    assert outputs[0] == "first"
    [[status, message]] = outputs[1]
    assert status == 409
    assert "this case has ended" in message
    assert [trace["calls"] for trace in traces.values()] == [[], []]
