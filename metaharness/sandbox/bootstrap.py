"""What is handed to a fresh interpreter so that it becomes a worker."""

from __future__ import annotations

import marshal
from functools import lru_cache
from pathlib import Path
from typing import Any

from metaharness.sandbox.protocol import encode

HERE = Path(__file__).resolve().parent

BOOT = """
import gc,os,sys
gc.disable()
if sys.path[:1]==['']:del sys.path[0]
r,w=int(sys.argv[1]),int(sys.argv[2])
def take(n):
 b=b''
 while len(b)<n:
  c=os.read(r,n-len(b))
  if not c:os._exit(0)
  b+=c
 return b
kind=take(1)
def read(body,name):
 if kind==b'm':
  import marshal
  return marshal.loads(body)
 return compile(body,name,'exec')
def later(body,name):
 return lambda:read(body,name)
parts={}
for _ in range(take(1)[0]):
 part,name=[take(take(1)[0]).decode() for _ in 'ab']
 parts[part]=(later if '/' in part else read)(take(int.from_bytes(take(4),'big')),name)
names={'__name__':'metaharness_worker','__file__':'<metaharness worker>','PARTS':parts}
names['__builtins__']=dict(vars(__builtins__))
exec(parts['worker'],names)
gc.enable()
names['main'](r,w)
"""
"""Reads the worker's program from the pipe and runs it. `sys.argv[1:3]` are the descriptors to read and write.

The collector of cycles is off meanwhile: what is loaded stays. The program has builtins of its own: a candidate that
replaces some does not break what tells of it.
"""


PARTS = {
    "worker": ("worker.py", "<metaharness worker>"),
    "telling": ("telling.py", "<metaharness telling>"),
    "guard": ("guard.py", "<metaharness guard>"),
    "following": ("clients/following.py", "<metaharness following>"),
    "harness": ("../harness.py", "metaharness/harness.py"),
    **{
        f"clients/{name}": (f"clients/{name}.py", f"<metaharness {name}>")
        for name in ("transports", "chat", "responses", "messages")
    },
}
"""What is sent: the names under which the worker finds it, where it lies, and how tracebacks name it.

A further file is one line here; the worker runs it with `part(NAME)` when it needs it. What has a slash in its name
stays packed until then: most workers never need it.
"""


def program(same_interpreter: bool, guard: dict[str, Any]) -> bytes:
    """The worker's program as BOOT reads it, the modules it brings, and what closes it in.

    Bytecode where the interpreter is this one, which saves compiling it in every worker; else source.
    """
    return (_bytecode() if same_interpreter else _sources()) + encode({"kind": "guard", **guard})


@lru_cache(maxsize=1)
def _sources() -> bytes:
    return _message(b"s", {part: (HERE / path).read_bytes() for part, (path, _) in PARTS.items()})


@lru_cache(maxsize=1)
def _bytecode() -> bytes:
    compiled = {part: compile((HERE / path).read_bytes(), name, "exec") for part, (path, name) in PARTS.items()}
    return _message(b"m", {part: marshal.dumps(code) for part, code in compiled.items()})


def _message(kind: bytes, bodies: dict[str, bytes]) -> bytes:
    made = [kind, bytes([len(bodies)])]
    for part, body in bodies.items():
        for text in (part.encode(), PARTS[part][1].encode()):
            made += [bytes([len(text)]), text]
        made += [len(body).to_bytes(4, "big"), body]
    return b"".join(made)
