"""The identity of a call: what is asked of which model, and whose how-manyth such call it is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from metaharness.messages import ModelSpec
from metaharness.records import Attribution

SENT_AS = 1
"""How a request is put into the form of a provider. Raise it when the same request is sent otherwise: answers to what
was sent before are then not given for it."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def content_hash(spec: ModelSpec, request: dict[str, Any]) -> str:
    """SHA-256 over what decides the answer: provider, base URL, model and the whole request.

    `request` is `ModelRequest.model_dump(mode="json", exclude_none=True)`.
    """
    return _digest([spec.provider, spec.base_url, spec.name, request])


def call_key(content: str, attribution: Attribution, ordinal: int) -> str:
    """The key of the journal: the content and the one case, trial and ordinal that asked for it.

    The journal so answers the same call of the same case again, and never another case's.
    """
    whose = [attribution.role, attribution.iteration, attribution.case_id, attribution.trial, ordinal]
    return _digest([content, *whose, *([] if attribution.partial is None else [attribution.partial])])


def shared_key(content: str, address: str | None, trial: int, ordinal: int) -> str:
    """The key of the shared cache: the content, where it is sent, and the how-manyth sample of it is wanted.

    So a harness that asks the same five times gets five answers, and on replay the same five; another trial asks anew.
    Cases, iterations and runs are not in it: they share.

    Args:
        content: The `content_hash`.
        address: Where the model is really asked, also where only the environment says so; None: the provider's own.
        trial: The number of the trial.
        ordinal: The how-manyth identical request within its case and trial, from 0.
    """
    return _digest([SENT_AS, content, address, trial, ordinal])


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(_encode(value).encode()).hexdigest()
