"""One attack after another: a scene, an engine to attack, and whoever watches both."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metaharness.attacks.attack import GUILTY, Attack
from metaharness.attacks.judging import MORE_MEMORY_MB, Seen, breaches, how_it_ended
from metaharness.attacks.scene import PACKAGE, Scene, shared, shared_key
from metaharness.attacks.stage import INNOCENT, Job
from metaharness.attacks.watching import Watch, alive, kill

SETTLE_SECONDS = 1.0
"""How long what a worker has started may take to end once its evaluation is over."""
SURVIVE_SECONDS = 2.0
"""The same once the engine was killed."""
PATIENCE_SECONDS = 10.0
"""How much longer than it may take an evaluation is waited for."""


@dataclass(frozen=True)
class AttackResult:
    """What came of one attack."""

    attack: str
    tries: str
    contained: bool
    evidence: str
    """What it achieved, or how it was stopped."""
    kinds: tuple[str, ...] = ()
    """The kinds of evidence that it worked; empty when it is contained."""
    seconds: float = 0.0
    """How long it took, cleaning up included."""


class Engine:
    """The process that evaluates, as the check sees it."""

    def __init__(self, scene: Scene) -> None:
        self._errors = scene.root / "engine.txt"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "metaharness.attacks.stage", str(scene.labels)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=scene.environment(),
                cwd=PACKAGE.parent,
            )
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if self.answer(60) is None:
            raise RuntimeError(f"the engine of the check does not start: {self.words()}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, job: Job) -> None:
        """Hand in a job."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next answer; None when it has died, or takes longer."""
        try:
            return self._answers.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return None

    def words(self) -> str:
        """What it has said on its standard error."""
        return self._errors.read_text(encoding="utf-8", errors="replace")[-2000:].strip()

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._answers.put(json.loads(line))
        self._answers.put(None)


class Lane:
    """A scene and its engine. What a sandbox did not contain is judged, and cleaned up, before the next attack."""

    def __init__(self) -> None:
        self.scene = Scene()
        self._engine: Engine | None = None

    def attack(
        self, sandbox: str, attack: Attack, command: str | None = None, *, subprocess: bool = False
    ) -> AttackResult:
        """Try one attack and judge what came of it."""
        began = time.monotonic()
        seen = self.watch(sandbox, attack, command, subprocess=subprocess)
        expected = {text: text.upper() for text in INNOCENT} | {GUILTY: self.scene.label}
        hidden = {"a label": self.scene.label, "a key": self.scene.key}
        found = list(breaches(attack, seen, hidden, expected))
        if attack.kills_engine and not seen.killed and not how_it_ended(seen).startswith("blocked"):
            found += [("untried", f"it ended before the engine could be killed: {how_it_ended(seen)}")]
        evidence = "; ".join(text for _, text in found) or how_it_ended(seen)
        kinds = tuple(dict.fromkeys(kind for kind, _ in found))
        return AttackResult(attack.name, attack.tries, not found, evidence, kinds, time.monotonic() - began)

    def watch(self, sandbox: str, attack: Attack, command: str | None, *, subprocess: bool = False) -> Seen:
        """Evaluate the harness of an attack, and see what happens."""
        if self._engine is None or not self._engine.alive():
            self._end_engine()
            self._engine = Engine(self.scene)
        engine, nonce, before = self._engine, secrets.token_hex(8), self.scene.state()
        candidate = self.scene.candidate(attack, nonce, self.scene.told(nonce, engine.pid))
        written = self.scene.state()
        watch = Watch(engine.pid, (attack.limits.memory_mb + MORE_MEMORY_MB) << 20)
        watch.start()
        seen = Seen()
        job = Job(
            sandbox,
            str(candidate),
            attack.limits.model_dump(),
            concurrency=4 if attack.together else 1,
            seconds=attack.most_seconds,
            command=command,
            subprocess=subprocess,
        )
        engine.ask(job)
        try:
            self._wait(engine, attack, watch, seen)
        finally:
            watch.stop()
            self._collect(watch, seen, nonce, written)
            kill(alive(watch.seen))
            self.scene.clean(nonce, before)
        return seen

    def close(self) -> None:
        """End the engine and take the scene away."""
        self._end_engine()
        self.scene.close()

    def _wait(self, engine: Engine, attack: Attack, watch: Watch, seen: Seen) -> None:
        until = time.monotonic() + attack.most_seconds + PATIENCE_SECONDS
        while time.monotonic() < until:
            if not seen.served:
                seen.served = self.scene.servers.call_on() if attack.name == "server" else ""
            answer = engine.answer(min(0.1, until - time.monotonic()))
            if answer is None and not engine.alive():
                return
            if answer is not None and "here" in answer and attack.kills_engine:
                time.sleep(0.3)  # it goes on with the answer that it gets now
                watch.look()
                engine.kill()
                seen.killed = True
                return
            if answer is not None and "done" in answer:
                seen.done = answer["done"]
                return
        engine.kill()

    def _collect(self, watch: Watch, seen: Seen, nonce: str, written: dict[str, str]) -> None:
        if seen.killed or seen.done is None:
            until = time.monotonic() + SURVIVE_SECONDS
            while (left := alive(watch.seen)) and time.monotonic() < until:
                time.sleep(0.05)
        else:
            left = watch.settled(SETTLE_SECONDS)
        after = self.scene.state()
        made = [path for path in after if path not in written and "__pycache__" not in path]
        seen.left = len(left)
        seen.most_processes, seen.most_memory, seen.growth = watch.most_processes, watch.most_memory, watch.growth
        seen.files = self.scene.left_behind(nonce) + [path for path in made if not path.endswith("engine.txt")]
        seen.changed = [
            Path(path).name
            for path in written
            if path in after and after[path] != written[path] and not path.endswith("engine.txt")
        ]
        ours = {0, *(pid for pid, _ in watch.seen)}
        seen.signals = sum(below or pid in ours for pid, below in (seen.done or {}).get("senders", ()))
        seen.received = list(self.scene.servers.received)
        seen.shared = shared(shared_key(nonce))

    def _end_engine(self) -> None:
        if self._engine is not None:
            self._engine.kill()
            self._engine = None
