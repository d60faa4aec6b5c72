"""The leak gate of one domain: what the pure gate in `leaks` is made of, read when the first candidate is checked.

Public is what everybody may copy: `DOMAIN.md` and other `.md` files beside `domain.py`, the driver, the evaluator, the
baselines. Files in `proposals/` are candidates: they are checked like any other. Not public, so that cases written in
Python stay cases: `domain.py` and what else lies beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from metaharness.domain import Domain, Split, split_cases
from metaharness.errors import MetaharnessError
from metaharness.fingerprints import Fingerprint, fingerprints
from metaharness.holdout import sealed_fingerprints
from metaharness.leaks import MOST_ANSWERS, LeakGate, texts_of
from metaharness.loading import read_candidate
from metaharness.records import Rejection, now
from metaharness.run.ground import Ground
from metaharness.seals import find_seal


class Leaks:
    """Checks candidates of one run, or one harness."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._gate: LeakGate | None = None

    def check(self, files: Mapping[str, str]) -> Rejection | None:
        """Why a candidate is rejected before it costs anything; None when it may go on."""
        message = self._known().find(files)
        return None if message is None else Rejection(stage="leak", message=message, time=now())

    def flags(self, files: Mapping[str, str]) -> tuple[str, ...]:
        """What to know of a candidate that goes on."""
        count = self._known().listed_answers(files)
        return (f"lists {count} answers of search one by one",) if count > MOST_ANSWERS else ()

    def _known(self) -> LeakGate:
        if self._gate is None:
            domain, train = self._ground.domain, self._ground.train
            search = split_cases(domain, Split.SEARCH)  # all of it, also where the run asks the first cases alone
            self._gate = LeakGate(
                search=fingerprints(search),
                sealed=_sealed(domain),
                train=(case.input for case in train),
                public=public_texts(domain),
                answers=(case.expected for case in search),
                known_answers=(case.expected for case in train),
            )
        return self._gate


def _sealed(domain: Domain) -> Mapping[str, Fingerprint]:
    """None where there is no test split that can be read: such a run can be searched, not finished.

    Raises:
        DomainError: A seal stands for it that cannot be used: without it nothing would be guarded, unseen.
    """
    found = find_seal(domain)
    if found is not None:
        return found.fingerprints()
    try:
        return sealed_fingerprints(domain)
    except MetaharnessError:
        return {}


def public_texts(domain: Domain) -> Iterator[str]:
    """The texts that a domain shows everybody."""
    yield domain.instructions()
    driver = domain.driver()
    beside = [*domain.root.glob("*.md"), domain.root / "evaluator.py", *([] if driver is None else [driver])]
    for path in beside:
        if path.is_file():
            yield from texts_of(path.name, _text(path))
    for baseline in domain.baselines():
        for name, source in read_candidate(baseline).files.items():
            yield from texts_of(name, source)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
