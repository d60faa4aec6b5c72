"""Attacks that never end, or never stop talking."""

from __future__ import annotations

from metaharness.attacks.attack import SMALL, Attack

_SHORT = SMALL.model_copy(update={"case_seconds": 1.0, "learn_seconds": 1.0})
_FOREVER = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
_FLOOD = """
block = b"%s\\n" * 4096
for _ in range(2000):
    os.write(FD, block)
return ""
"""

HANGING = (
    Attack("loop in import", "never end being imported", _FOREVER, place="import", limits=_SHORT, all_fail=True),
    Attack("loop in __init__", "never end being built", _FOREVER, place="init", limits=_SHORT, all_fail=True),
    Attack("loop in learn", "never end learning", _FOREVER, place="learn", limits=_SHORT, all_fail=True),
    Attack("loop in predict", "never end answering", _FOREVER, limits=_SHORT),
    Attack(
        "loop that holds the interpreter",
        "no other thread of the worker ever runs again",
        "import ctypes\nctypes.PyDLL(None).sleep(60)",
        limits=_SHORT,
    ),
    Attack(
        "thread left behind",
        "answer, and leave a thread that spins and cannot be stopped",
        """
        import threading
        def spin():
            while True:
                try:
                    while True: pass
                except BaseException: pass
        threading.Thread(target=spin).start()
        return ""
        """,
    ),
    Attack(
        "stopped worker",
        "stop itself, so that it neither reads nor ends",
        "import signal\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(60)",
        limits=_SHORT,
    ),
    Attack("flood on stdout", "80 MB on descriptor 1", "FD = 1\n" + _FLOOD % ("x" * 9), limits=_SHORT),
    Attack("flood on stderr", "80 MB on descriptor 2", "FD = 2\n" + _FLOOD % ("x" * 9), limits=_SHORT),
    Attack(
        "flood of prints",
        "80 MB through print()",
        """
        for _ in range(2000):
            print("x" * 40000)
            sys.stderr.write("x" * 40000)
        return ""
        """,
    ),
    Attack(
        "flood of frames",
        "60 MB of frames that belong to no case, and calls beyond what is allowed",
        """
        for number in range(6000):
            forged({"kind": "done", "scope": number, "output": "x" * 10000})
        for number in range(500):
            try:
                model.complete("x" * 100)
            except Exception as error:
                problem = error
        raise problem
        """,
    ),
    Attack(
        "large prompts",
        "4 requests of 8 MB, which are kept until the case ends",
        """
        for number in range(4):
            model.complete(str(number) + "x" * ((8 << 20) - 1000))
        return ""
        """,
        engine_mb=300,
        most_seconds=40.0,  # 32 MB are read and hashed, which a busy machine takes long for
        limits=SMALL.model_copy(update={"case_seconds": 5.0}),
    ),
    Attack(
        "swollen requests",
        "2 requests of 8 MB, each of millions of empty objects, which take 20 times as much in who reads them",
        """
        scope = model._send.__self__.number
        for number in range(2):
            start = b'{"kind": "call", "scope": %d, "id": %d, "request": ' % (scope, number + 1000)
            start += b'{"messages": [{"role": "user", "content": "x"}], "extra": {"a": ['
            forged(start + b"{}," * 2700000 + b"{}]}}}")
        time.sleep(1)
        return ""
        """,
        limits=SMALL.model_copy(update={"case_seconds": 6.0}),
    ),
    Attack(
        "many swollen requests",
        "4 requests of just as many objects as are allowed, which are kept until the case ends",
        """
        scope = model._send.__self__.number
        for number in range(4):
            start = b'{"kind": "call", "scope": %d, "id": %d, "request": ' % (scope, number + 1000)
            start += b'{"messages": [{"role": "user", "content": "x"}], "extra": {"a": ['
            forged(start + b'{"a":1.5},' * 99000 + b"{}]}}}")
        time.sleep(1)
        return ""
        """,
        engine_mb=300,
        most_seconds=40.0,
        limits=SMALL.model_copy(update={"case_seconds": 6.0}),
    ),
)
