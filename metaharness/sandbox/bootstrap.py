"""What is handed to a fresh interpreter so that it becomes a worker."""

from __future__ import annotations

import json
import marshal
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from metaharness.sandbox.protocol import encode

HERE = Path(__file__).resolve().parent

BOOT = """
import os,sys
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
parts=[take(int.from_bytes(take(4),'big')) for _ in 'abcde']
late=parts.pop()
if kind==b'm':
 import marshal
 parts=[marshal.loads(p) for p in parts]
 def unpack():
  return marshal.loads(late)
else:
 names=['<metaharness worker>','metaharness/harness.py','<metaharness guard>','<metaharness following>']
 parts=[compile(p,n,'exec') for p,n in zip(parts,names)]
 def unpack():
  import json
  return {n:compile(p,'<metaharness %s>'%n,'exec') for n,p in json.loads(late).items()}
code,harness,guard,following=parts
names={'__name__':'metaharness_worker','__file__':'<metaharness worker>','HARNESS':harness,'GUARD':guard}
def follow(model_error):
 names={'__name__':'metaharness_following'}
 exec(following,names)
 return names['Following'](unpack,model_error)
names['FOLLOW']=follow
names['__builtins__']=dict(vars(__builtins__))
exec(code,names)
names['main'](r,w)
"""
"""Reads the worker's program from the pipe and runs it. `sys.argv[1:3]` are the descriptors to read and write.

The program has builtins of its own: a candidate that replaces some does not break what tells of it.
"""


PARTS = (
    ("worker.py", "<metaharness worker>"),
    ("../harness.py", "metaharness/harness.py"),
    ("guard.py", "<metaharness guard>"),
    ("clients/following.py", "<metaharness following>"),
)
"""What is sent, in the order in which BOOT reads it, and how tracebacks name it."""
LATE = ("transports", "chat", "responses", "messages")
"""Of `clients/`, sent as one part after these: most workers never unpack it."""


def program(same_interpreter: bool, guard: dict[str, Any]) -> bytes:
    """The worker's program as BOOT reads it, the modules it brings, and what closes it in.

    Bytecode where the interpreter is this one, which saves compiling it in every worker; else source.
    """
    return (_bytecode() if same_interpreter else _sources()) + encode({"kind": "guard", **guard})


@lru_cache(maxsize=1)
def _sources() -> bytes:
    late = {name: (HERE / f"clients/{name}.py").read_text(encoding="utf-8") for name in LATE}
    return _message(b"s", *((HERE / path).read_bytes() for path, _ in PARTS), json.dumps(late).encode("ascii"))


@lru_cache(maxsize=1)
def _bytecode() -> bytes:
    parts = [marshal.dumps(_compiled(path, name)) for path, name in PARTS]
    late = {name: _compiled(f"clients/{name}.py", f"<metaharness {name}>") for name in LATE}
    return _message(b"m", *parts, marshal.dumps(late))


def _compiled(path: str, name: str) -> CodeType:
    return compile((HERE / path).read_bytes(), name, "exec")


def _message(kind: bytes, *bodies: bytes) -> bytes:
    return kind + b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
