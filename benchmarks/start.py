"""How long `metaharness --help` takes, and what it imports.

uv run python benchmarks/start.py
"""

from __future__ import annotations

import subprocess
import sys
import time

import kit

REPEATS = 15


def main() -> None:
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "metaharness", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    kit.report("metaharness --help", times[1:], 0.25, "s")


if __name__ == "__main__":
    main()
