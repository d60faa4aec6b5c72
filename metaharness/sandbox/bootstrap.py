"""What is handed to a fresh interpreter so that it becomes a worker."""

from __future__ import annotations

import marshal
from functools import lru_cache
from pathlib import Path
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
parts=[take(int.from_bytes(take(4),'big')) for _ in 'abc']
if kind==b'm':
 import marshal
 parts=[marshal.loads(p) for p in parts]
else:
 names=['<metaharness worker>','metaharness/harness.py','<metaharness guard>']
 parts=[compile(p,n,'exec') for p,n in zip(parts,names)]
code,harness,guard=parts
names={'__name__':'metaharness_worker','__file__':'<metaharness worker>','HARNESS':harness,'GUARD':guard}
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
)
"""What is sent, in the order in which BOOT reads it, and how tracebacks name it."""


def program(same_interpreter: bool, guard: dict[str, Any]) -> bytes:
    """The worker's program as BOOT reads it, the modules it brings, and what closes it in.

    Bytecode where the interpreter is this one, which saves compiling it in every worker; else source.
    """
    return (_bytecode() if same_interpreter else _sources()) + encode({"kind": "guard", **guard})


@lru_cache(maxsize=1)
def _sources() -> bytes:
    return _message(b"s", *((HERE / path).read_bytes() for path, _ in PARTS))


@lru_cache(maxsize=1)
def _bytecode() -> bytes:
    return _message(b"m", *(marshal.dumps(compile((HERE / path).read_bytes(), name, "exec")) for path, name in PARTS))


def _message(kind: bytes, *bodies: bytes) -> bytes:
    return kind + b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
