"""No process of ours is left: not when an evaluation ends, not when it is cancelled, not when it went wrong."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from evaluation_kit import QUICK, Capitals, Letters, WatchedSandbox, guilty, harness, lab

from metaharness.errors import SandboxError
from metaharness.evaluation import session
from metaharness.messages import Completion, ModelRequest
from metaharness.sandbox.process import LocalProcess

FORKING = """
    import os, signal, time

    def fork(leave):
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN) if leave is not None else None
            if leave is not None:
                leave()
            while True:
                time.sleep(100)
"""


def living(sessions: list[int]) -> list[int]:
    """Processes of these sessions that still run; one that is dead and waits to be collected does not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) in sessions:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(folder.name)] if state not in "ZX" else []
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def gone(sandbox: WatchedSandbox) -> bool:
    """Whether all that the workers were and started has ended; a killed process takes a moment."""
    assert sandbox.pids
    with anyio.move_on_after(20):
        while living(sandbox.pids):  # noqa: ASYNC110 - nothing tells when a process ends
            await anyio.sleep(0.01)
    return not living(sandbox.pids)


async def test_nothing_is_left_after_an_evaluation(tmp_path: Path) -> None:
    ended = lab(tmp_path, harness(), concurrency=32, trials=2)
    await ended.run()
    await ended.smoke()
    assert await gone(ended.sandbox)


@pytest.mark.parametrize(
    "leave",
    ["None", "lambda: os.setpgid(0, 0)", "lambda: (os.fork() and os._exit(0), os.setpgid(0, 0))"],
    ids=["children", "another process group", "daemons"],
)
async def test_what_a_candidate_started_in_its_session_ends_with_it(tmp_path: Path, leave: str) -> None:
    source = guilty(f"for _ in range(3): fork({leave})", before=FORKING)
    forked = lab(tmp_path, source)
    outcome = await forked.run()
    assert set(outcome.statuses.values()) == {"ok"}
    assert await gone(forked.sandbox)


async def test_what_was_started_while_the_harness_was_imported_ends_with_it(tmp_path: Path) -> None:
    imported = lab(tmp_path, harness(before=FORKING + "    fork(lambda: os.setpgid(0, 0))\n"))
    outcome = await imported.run()
    assert set(outcome.statuses.values()) == {"ok"}
    assert await gone(imported.sandbox)


async def test_a_worker_that_ignores_every_signal_and_its_pipe_is_killed(tmp_path: Path) -> None:
    deed = """
        while True:
            try:
                time.sleep(1)
            except BaseException:
                pass
    """
    before = """
        import os, signal, sys, time
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    """
    deaf = lab(tmp_path, guilty(deed, before=before), Letters("abcd", limits=QUICK))
    outcome = await deaf.run()
    assert outcome.statuses == {"a": "ok", "b": "ok", "c": "timeout", "d": "ok"}
    assert await gone(deaf.sandbox)


async def test_a_worker_that_is_still_importing_is_killed(tmp_path: Path) -> None:
    importing = lab(tmp_path, "while True: pass\n", Letters("ab", limits=QUICK))
    await importing.run()
    assert await gone(importing.sandbox)


@pytest.mark.parametrize("ladder", [False, True], ids=["cases", "ladder"])
async def test_nothing_is_left_when_an_evaluation_is_cancelled_in_a_call(tmp_path: Path, ladder: bool) -> None:
    async def never(_request: ModelRequest) -> Completion:
        stop.cancel()
        await anyio.sleep_forever()
        raise AssertionError

    cancelled = lab(tmp_path, guilty("fork(None)", before=FORKING, case="a"), model=Capitals(never), concurrency=32)
    with anyio.fail_after(30), anyio.CancelScope() as stop:
        await (cancelled.smoke() if ladder else cancelled.run())
    assert stop.cancelled_caught
    assert await gone(cancelled.sandbox)


class Cancelling(WatchedSandbox):
    """Cancels the evaluation while it starts its n-th worker."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.left = place
        self.stop = anyio.CancelScope()

    async def start(self, python: str | None, candidate: Path) -> LocalProcess:
        self.left -= 1
        if self.left == 0:
            self.stop.cancel()
        return await super().start(python, candidate)


@pytest.mark.parametrize("place", [1, 2])
async def test_nothing_is_left_when_it_is_cancelled_while_a_worker_starts(tmp_path: Path, place: int) -> None:
    """The worker that was being started is known to nobody else; the fixture of these tests looks for it."""
    sandbox = Cancelling(place)
    with anyio.fail_after(30), sandbox.stop:
        await lab(tmp_path, harness(), concurrency=32, sandbox=sandbox).run()
    assert sandbox.stop.cancelled_caught
    assert not living(sandbox.pids)


async def test_nothing_is_left_when_whoever_takes_the_traces_stops_taking(tmp_path: Path) -> None:
    left = lab(tmp_path, harness(), concurrency=4)

    def fail(_trace: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await left.run(listen=fail)
    assert await gone(left.sandbox)


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = open_descriptors()
    await lab(tmp_path, guilty("import os; os._exit(1)"), concurrency=4).run()
    assert open_descriptors() <= before


async def test_a_worker_that_never_gets_ready_is_given_up_and_is_no_fault_of_the_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "START_SECONDS", 0.1)
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    silent.chmod(0o755)
    candidate = lab(tmp_path, harness(), Letters(python=str(silent)))
    with pytest.raises(SandboxError, match=r"a worker could not start: it took longer than 0\.1 s") as error:
        await candidate.run()
    assert "Domain.python" in (error.value.hint or "")
    assert await gone(candidate.sandbox)
