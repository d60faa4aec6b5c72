"""Every exception the package raises on purpose.

    MetaharnessError                 exit code 1   a failure of ours or of the environment
    ├── UsageError                              2   the call is wrong: unknown name, bad option, missing file
    ├── DomainError                             3   the domain is invalid
    ├── CandidateError                          3   the harness given by the caller is invalid
    ├── ConfigurationError                      1   a key is missing or refused; the run has to stop
    ├── ModelFailure                            1   one model call ended without an answer (kind says how)
    ├── IncompleteError                         1   a result cannot be given yet: cases have no value
    ├── SandboxError                            1   a worker could not be started
    ├── CacheError                              1   the shared cache of model answers cannot be used
    └── StoreError                              1   a run directory cannot be read or written
        ├── CorruptRecordError                  1   a stored line or file is damaged
        ├── RunLockedError                      1   another process records this run
        └── NewerSchemaError                    1   the run was made by a newer version

What a candidate does wrong is never an exception here: it is a recorded status.
"""

from __future__ import annotations

from typing import Literal

FailureKind = Literal["refused", "infrastructure", "budget", "configuration"]


class MetaharnessError(Exception):
    """Base of all errors. `hint` says what the reader can do next; None means nothing to add."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MetaharnessError):
    """The caller asked for something that does not exist or does not fit."""

    exit_code = 2


class DomainError(MetaharnessError):
    """The domain misses something or contradicts itself."""

    exit_code = 3


class CandidateError(MetaharnessError):
    """The harness handed in by a person is not one."""

    exit_code = 3


class ConfigurationError(MetaharnessError):
    """A model cannot be used as configured: no key, a refused key, a missing package."""


class ModelFailure(MetaharnessError):  # noqa: N818 - a value that travels, named for what it is
    """One model call ended without an answer.

    `kind` decides the status of the case: `refused` is the harness's doing (a 4xx other than
    401/402/403/404/408/409/429, a context too long, a content filter), `infrastructure` and `budget` are missing
    data, `configuration` stops the run. `status_code` is the HTTP status, None where there was none.
    """

    def __init__(
        self, kind: FailureKind, message: str, *, status_code: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.status_code = status_code


class IncompleteError(MetaharnessError):
    """A result cannot be given yet: cases have no value, for reasons outside the harness."""


class SandboxError(MetaharnessError):
    """A worker process could not be started."""


class CacheError(MetaharnessError):
    """The shared cache of model answers cannot be read or written, or its file is something else."""


class StoreError(MetaharnessError):
    """A run directory cannot be read or written."""


class CorruptRecordError(StoreError):
    """A stored record is damaged. Nothing is skipped silently: the file is named, and the line where it is one."""

    def __init__(self, path: object, line: int | None, reason: str, *, instead: str = "begin a new run") -> None:
        where = f"{path}" if line is None else f"{path}, line {line}"
        if line is not None:
            instead = "move the damaged line to another file and open the run again"
        super().__init__(f"damaged record in {where}: {reason}", hint=f"restore the file from a copy, or {instead}")
        self.path = path
        self.line = line


class RunLockedError(StoreError):
    """Another process owns the run."""


class NewerSchemaError(StoreError):
    """The run directory was written by a newer version of this package."""
