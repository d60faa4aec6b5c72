"""The identity of a call: what is asked of which model, and whose how-manyth such call it is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from metaharness.messages import ModelSpec
from metaharness.records import Attribution

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
    return _digest([content, *whose])


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(_encode(value).encode()).hexdigest()
