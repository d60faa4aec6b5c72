"""What is handed to a fresh interpreter so that it becomes a worker."""

from __future__ import annotations

import marshal
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).resolve().parent

BOOT = """
import os,sys
r,w=int(sys.argv[1]),int(sys.argv[2])
def take(n):
 b=b''
 while len(b)<n:
  c=os.read(r,n-len(b))
  if not c:os._exit(0)
  b+=c
 return b
kind=take(1)
code=take(int.from_bytes(take(4),'big'))
if kind==b'm':
 import marshal
 code=marshal.loads(code)
else:code=compile(code,'<metaharness worker>','exec')
names={'__name__':'metaharness_worker','__file__':'<metaharness worker>'}
exec(code,names)
names['main'](r,w)
"""
"""Reads the worker's program from the pipe and runs it. `sys.argv[1:3]` are the descriptors to read and write."""


def program(same_interpreter: bool) -> bytes:
    """The worker's program as BOOT reads it: bytecode where the interpreter is this one, else source."""
    return _bytecode() if same_interpreter else _message(b"s", _source())


@lru_cache(maxsize=1)
def harness_source() -> str:
    """The source of the synthetic package's only module."""
    return (HERE.parent / "harness.py").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _source() -> bytes:
    return (HERE / "worker.py").read_bytes()


@lru_cache(maxsize=1)
def _bytecode() -> bytes:
    return _message(b"m", marshal.dumps(compile(_source(), "<metaharness worker>", "exec")))


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "big") + body
