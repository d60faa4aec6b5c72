"""What is handed to a fresh interpreter so that it becomes a worker."""

from __future__ import annotations

import marshal
from functools import lru_cache
from pathlib import Path

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
code,harness=[take(int.from_bytes(take(4),'big')) for _ in 'ab']
if kind==b'm':
 import marshal
 code,harness=marshal.loads(code),marshal.loads(harness)
else:
 code=compile(code,'<metaharness worker>','exec')
 harness=compile(harness,'metaharness/harness.py','exec')
names={'__name__':'metaharness_worker','__file__':'<metaharness worker>','HARNESS':harness}
names['__builtins__']=dict(vars(__builtins__))
exec(code,names)
names['main'](r,w)
"""
"""Reads the worker's program from the pipe and runs it. `sys.argv[1:3]` are the descriptors to read and write.

The program has builtins of its own: a candidate that replaces some does not break what tells of it.
"""


def program(same_interpreter: bool) -> bytes:
    """The worker's program as BOOT reads it, and the synthetic package's module behind it.

    Bytecode where the interpreter is this one, which saves compiling it in every worker; else source.
    """
    return _bytecode() if same_interpreter else _message(b"s", _source("worker.py"), _source("../harness.py"))


@lru_cache(maxsize=2)
def _source(name: str) -> bytes:
    return (HERE / name).read_bytes()


@lru_cache(maxsize=1)
def _bytecode() -> bytes:
    worker = compile(_source("worker.py"), "<metaharness worker>", "exec")
    harness = compile(_source("../harness.py"), "metaharness/harness.py", "exec")
    return _message(b"m", marshal.dumps(worker), marshal.dumps(harness))


def _message(kind: bytes, *bodies: bytes) -> bytes:
    return kind + b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
