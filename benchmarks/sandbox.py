"""How long a worker takes until it is ready for its first case: started for it, and taken from those that wait.

uv run python benchmarks/sandbox.py [SANDBOX ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import anyio
import kit

from metaharness.sandbox import Sandbox, open_sandbox
from metaharness.sandbox.protocol import MOST, CandidateFiles, FrameReader, SandboxProcess, encode

REPEATS = 30
COLD, WARM = 0.040, 0.005
WAITING_SECONDS = 0.15
"""How long a worker waits before it is taken: by then it has read its program."""
LIMITS = {"memory": 2 << 30, "cpu": 3600, "file_size": 64 << 20, "open_files": 4096, "core": 0}


async def load(worker: SandboxProcess, candidate: CandidateFiles) -> None:
    init = {"kind": "init", **candidate.frame(worker.inside), "driver_source": None, "limits": LIMITS}
    await worker.stream.send(encode({**init, "stack": 8 << 20, "most": MOST}))
    frames = FrameReader()
    while True:
        for frame in frames.feed(await worker.stream.receive()):
            if frame["kind"] != "ready":
                assert frame["kind"] == "loaded", frame
                return


async def measure(sandbox: Sandbox, path: Path) -> tuple[list[float], list[float], list[float]]:
    candidate = CandidateFiles.at(path)
    cold, warm, ends = [], [], []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        worker = await sandbox.start(None, path)
        await load(worker, candidate)
        cold.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        await worker.end()
        ends.append(time.perf_counter() - begun)
        worker = await sandbox.start(None, path)
        await anyio.sleep(WAITING_SECONDS)
        begun = time.perf_counter()
        await load(worker, candidate)
        warm.append(time.perf_counter() - begun)
        await worker.end()
    return cold[1:], warm[1:], ends[1:]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "harness.py"
        path.write_text(kit.SILENT, encoding="utf-8")
        for name in sys.argv[1:] or ("bubblewrap", "landlock", "process"):
            cold, warm, ends = anyio.run(measure, open_sandbox(name), path)
            kit.report(f"{name}: ready for its first case, cold", cold, COLD, "s")
            kit.report(f"{name}: ready for its first case, warm", warm, WARM, "s")
            kit.report(f"{name}: ended", ends, COLD, "s")


if __name__ == "__main__":
    main()
