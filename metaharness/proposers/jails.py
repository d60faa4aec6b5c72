"""What a jailed agent program that writes candidates must never see."""

from __future__ import annotations

from pathlib import Path

from metaharness import variables
from metaharness.gateway.shared import default_path
from metaharness.run import Run
from metaharness.seals import sealed_root


def secrets_of(run: Run) -> tuple[Path, ...]:
    """What is masked where it lies in something that the program may read.

    The runs, the domain's folder, the data that its options name, the sealed cases and the cached answers of this user,
    and the `.env` of the working directory.
    """
    named = (Path(value).expanduser().absolute() for value in run.config.domain_options.values() if value)
    data = [path for path in named if _is_there(path)]
    caches = [default_path(), *([Path(run.config.cache)] if isinstance(run.config.cache, str) else [])]
    kept = [Path(f"{path}{end}") for path in caches for end in ("", "-wal", "-shm")]
    mine = [path.absolute() for path in (sealed_root(), *kept, Path(variables.FILE))]
    return (run.store.path.parent, run.domain.root, *data, *mine)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # an option that is a long text, and no path
        return False
