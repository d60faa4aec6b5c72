"""What a jailed agent program that writes candidates must never see, and what is told wrongly of its jail."""

from __future__ import annotations

from pathlib import Path

from metaharness import variables
from metaharness.configuration import ProposerConfig
from metaharness.errors import UsageError
from metaharness.gateway.shared import default_path
from metaharness.jail.destinations import parse_destination
from metaharness.run import Run
from metaharness.seals import sealed_root


def check_jailing(proposing: ProposerConfig) -> None:
    """Make sure that what is told of a jail can be had, before there is a run.

    Raises:
        UsageError: A file is not there, or a destination is none.
    """
    for destination in proposing.destinations:
        parse_destination(destination)
    for path in map(Path, proposing.files):
        if not path.expanduser().exists():
            raise UsageError(f"{path} is to be seen in a jail and is not there", hint="make it, or leave it out")


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
