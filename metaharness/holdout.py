"""The sealed test split: the only module that may name it.

Not guarded: a program that runs with the user's own rights can read the data where it lies.
"""

from __future__ import annotations

from metaharness.domain import Domain, Split, split_cases
from metaharness.fingerprints import Fingerprint, fingerprints


def sealed_fingerprints(domain: Domain) -> dict[str, Fingerprint]:
    """Case id to fingerprint of the test split: a value that can be handed on without the cases."""
    return fingerprints(split_cases(domain, Split.TEST))
