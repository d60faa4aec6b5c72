"""Attacks on the numbers: forged frames, a worker taken over, answers that break whoever reads them."""

from __future__ import annotations

from metaharness.attacks.attack import SMALL, Attack

_OTHERS_SCOPES = """
def own_scope(model):
    return model._send.__self__.number
"""

FORGING = (
    Attack(
        "done for another case",
        "end cases whose numbers it guesses, so that their answers are lost",
        """
        own = own_scope(model)
        for number in [*range(2000), *range(own - 500, own), *range(own + 1, own + 500)]:
            forged({"kind": "done", "scope": number, "output": S["nonce"]})
        return ""
        """,
        before=_OTHERS_SCOPES,
        together=True,
    ),
    Attack(
        "calls of another case",
        "spend the calls of cases whose numbers it guesses",
        """
        own, request = own_scope(model), {"messages": [{"role": "user", "content": S["nonce"]}]}
        for number in [*range(2000), *range(own - 500, own), *range(own + 1, own + 500)]:
            forged({"kind": "call", "scope": number, "id": 1, "request": request})
        return ""
        """,
        before=_OTHERS_SCOPES,
        together=True,
    ),
    Attack(
        "forged grade",
        "a frame that says how good the answer was",
        """
        for extra in ({"value": 1.0}, {"grade": 1.0}, {"grades": [{"value": 1.0}]}, {"status": "ok", "expected": "x"}):
            forged({"kind": "done", "scope": own_scope(model), "output": "x", "case_id": "a", **extra})
        time.sleep(5)
        """,
        before=_OTHERS_SCOPES,
    ),
    Attack(
        "forged absence",
        "say that the model failed, so that a case that cannot be answered does not count",
        """
        from metaharness.harness import ModelError
        forged({"kind": "done", "scope": own_scope(model), "fault": "infrastructure", "status": "infrastructure",
                "error": {"message": "ModelError", "call_kind": "infrastructure", "fault": "infrastructure"}})
        time.sleep(5)
        """,
        before=_OTHERS_SCOPES,
        place="answer",
    ),
    Attack("broken frame", "a frame that is not JSON", 'forged(b"{nonsense")\ntime.sleep(5)'),
    Attack(
        "endless frame", "a frame that says it has 4 GB", 'os.write(int(sys.argv[2]), b"\\xff" * 64)\ntime.sleep(5)'
    ),
    Attack("large frame", "an answer of 7 MB past the worker", 'forged({"kind": "done", "output": "x" * (7 << 20)})'),
    Attack(
        "frames of its beginning",
        "say again that it is loaded, that it failed, that it is ready",
        """
        for body in ({"kind": "loaded"}, {"kind": "failed", "stage": ["x"], "message": 1}, {"kind": "ready"}):
            forged(body)
        return ""
        """,
    ),
    Attack(
        "patched json",
        "replace what the worker encodes with",
        """
        import json, threading
        json.dumps = json.JSONEncoder.encode = json.JSONDecoder.decode = None
        json.encoder.encode_basestring_ascii = json.decoder.scanstring = None
        return ""
        """,
    ),
    Attack(
        "patched builtins",
        "take away what everything is made of",
        """
        import builtins
        for name in ("len", "isinstance", "str", "getattr", "range", "__build_class__", "print"):
            setattr(builtins, name, None)
        return ""
        """,
    ),
    Attack(
        "patched worker",
        "replace the methods of the worker and of the driver, so that others are answered with its own words",
        """
        import gc
        for one in gc.get_objects():
            if type(one).__name__ == "Worker" and hasattr(one, "channel"):
                one.driver.ask = lambda *_: S["nonce"]
                type(one).answer = lambda *_: '"right", "value": 1.0, "grades": [{"value": 1.0}], "status": "ok"'
        return ""
        """,
        all_fail=True,
    ),
    Attack(
        "a package of its own",
        "a file named metaharness.py, and others named as what the engine imports",
        """
        import metaharness.harness
        return getattr(metaharness, "PLANTED", "") or getattr(metaharness.harness, "PLANTED", "")
        """,
        files={
            "metaharness.py": "PLANTED = 'it was imported'\n",
            "json.py": "PLANTED = 1\n",
            "sitecustomize.py": "1/0",
        },
    ),
    Attack("surrogates", "an answer that cannot be written", 'return "\\ud800 \\udfff" * 10', place="answer"),
    Attack(
        "surrogates in a traceback",
        "an error and a printed text that cannot be written",
        'print("\\ud800")\nraise ValueError("\\ud800")',
        place="answer",
    ),
    Attack(
        "answer of 100 MB",
        "an answer that fills the memory of who reads it",
        'return "x" * (100 << 20)',
        place="answer",
        limits=SMALL.model_copy(update={"memory_mb": 1024}),
    ),
    Attack("NaN", "an answer that is not a number", 'return float("nan")', place="answer"),
    Attack("infinity", "a number that JSON does not have", 'return [float("inf"), -float("inf")]', place="answer"),
    Attack(
        "endless number",
        "an integer of 1,000,000 digits",
        "return 10 ** 1000000",
        place="answer",
        limits=SMALL.model_copy(update={"case_seconds": 1.0}),
    ),
    Attack(
        "deep answer",
        "an answer nested deeper than what reads it can follow",
        """
        value = []
        for _ in range(100000):
            value = [value]
        return value
        """,
        place="answer",
    ),
    Attack(
        "answer that equals everything",
        "an object that says it is equal to the expected answer",
        """
        class Cheat(str):
            def __eq__(self, other): return True
            def __hash__(self): return 0
        return Cheat("x")
        """,
        place="answer",
    ),
    Attack(
        "answer of a hostile class",
        "an object whose methods run in whoever looks at it",
        """
        class Odd:
            def __reduce__(self): return os.system, ("touch " + S["outside"] + "/" + S["nonce"],)
            def __repr__(self): os._exit(1)
        return {"odd": Odd()}
        """,
        place="answer",
    ),
)
