"""A harness that does nothing wrong and much that a harness may do: a sandbox that breaks it is of no use."""

from __future__ import annotations

from metaharness.attacks.attack import GUILTY, SMALL, Attack

_BODY = """
import asyncio, collections, contextvars, csv, dataclasses, datetime, decimal, difflib, functools, hashlib, heapq
import io, itertools, json, math, operator, random, re, statistics, string, textwrap, threading, unicodedata
from concurrent.futures import ThreadPoolExecutor
import helper

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "data", "words.txt"), encoding="utf-8") as file:
    assert file.read().split() == ["eins", "zwei"]
assert helper.double(21) == 42
assert sum(range(1000)) == 499500 and statistics.mean([1, 2, 3]) == 2 and math.isclose(math.exp(0), 1)
assert re.sub("a+", "b", "caat") == "cbt" and hashlib.sha256(b"").hexdigest().startswith("e3b0")
assert 0 <= model.random.random() < 1 and 0 <= random.random() < 1 and len(os.urandom(8)) == 8
assert datetime.datetime.now().year > 2000 and time.perf_counter() > 0
with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(lambda text: model.complete(text).text, "abcdefgh")) == list("ABCDEFGH")
assert [one.text for one in model.complete_many(["x", "y"])] == ["X", "Y"]

async def several():
    found = await asyncio.gather(model.acomplete("p"), model.acomplete("q"), asyncio.sleep(0.01))
    slow = await asyncio.get_running_loop().run_in_executor(None, helper.double, 2)
    return [one.text for one in found[:2]], slow
assert asyncio.run(several()) == (["P", "Q"], 4)
print("printed")
"""

_TEMPORARY = """
import tempfile
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "notes.txt")
    with open(path, "w") as file:
        file.write("kept")
    assert open(path).read() == "kept"
"""

_FILES = {"helper.py": "def double(n):\n    return 2 * n\n", "data/words.txt": "eins zwei\n"}

HONEST = Attack(
    GUILTY,
    "threads, asyncio, model calls, modules and data of its own folder",
    _BODY + '\nreturn "honest"',
    place="answer",
    files=_FILES,
    limits=SMALL.model_copy(update={"case_seconds": 10.0}),
)
TEMPORARY = Attack(
    "temporary files",
    "write and read a temporary file; where a sandbox has none, the error is an OSError",
    f"try:\n{''.join('    ' + line + chr(10) for line in _TEMPORARY.splitlines())}"
    'except OSError as error:\n    return "none: " + str(error)\nreturn "there are"',
    place="answer",
)
