"""What a jailed agent program that writes candidates must never see."""

from __future__ import annotations

from pathlib import Path

from metaharness.run import Run


def secrets_of(run: Run) -> tuple[Path, ...]:
    """The runs, the domain's folder, and the data that its options name."""
    named = (Path(value) for value in run.config.domain_options.values())
    data = [path for path in named if path.is_absolute() and path.exists()]
    return (run.store.path.parent, run.domain.root, *data)
