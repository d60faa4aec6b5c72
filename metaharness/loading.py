"""Find a domain, import it, and say what is missing where it is not one; read candidates from disk."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from metaharness.domain import MEASURES, Domain, Objective
from metaharness.errors import DomainError, MetaharnessError, UsageError
from metaharness.machine.below import read_below
from metaharness.records import HARNESS_CHARS, Proposal

T = TypeVar("T")
ABOUT = 'it is optional, and looks like {"hypothesis": "...", "parents": [0], "components": ["retrieval"]}'
META_FILES = frozenset({"proposal.json", "reasoning.md"})
CACHES = frozenset({"__pycache__"})


def load_domain(reference: str, options: Mapping[str, str] | None = None) -> Domain:
    """Load a domain by path (a folder or its `domain.py`), `module:attribute`, or the name of a shipped example.

    Args:
        reference: Where it is. A path wins over a shipped name.
        options: Arguments of the domain's factory, as strings.

    Raises:
        UsageError: Nothing is there, or the factory does not take an option.
        DomainError: It is there but is not a domain; the message says what is missing and where.
    """
    path = Path(reference).expanduser()
    if path.exists():
        file = path / "domain.py" if path.is_dir() else path
        return _from_file(file, options or {})
    if ":" in reference:
        return _from_module(reference, options or {})
    folder = shipped_folder(reference)
    if folder is not None:
        return _from_file(folder / "domain.py", options or {})
    shipped = ", ".join(shipped_domains()) or "none"
    raise UsageError(
        f"no domain {reference!r}: it is neither a path nor a shipped example",
        hint=f"give a folder that holds domain.py, module:attribute, or one of the shipped examples: {shipped}",
    )


def shipped_domains() -> list[str]:
    """The names of the examples that come with the package."""
    return sorted({entry.parent.name for folder in _shipped_folders() for entry in folder.glob("*/domain.py")})


def shipped_folder(name: str) -> Path | None:
    """The folder of an example that comes with the package; None when there is none of that name."""
    folders = (folder / name for folder in _shipped_folders())
    return next((folder for folder in folders if (folder / "domain.py").is_file()), None)


def _shipped_folders() -> list[Path]:
    package = Path(__file__).resolve().parent
    candidates = [package / "reference_examples", package.parent / "reference_examples"]
    return [folder for folder in candidates if folder.is_dir()]


def _from_file(file: Path, options: Mapping[str, str]) -> Domain:
    file = file.resolve()
    if not file.is_file():
        raise DomainError(
            f"{file.parent} holds no domain.py",
            hint="a domain folder has domain.py with `def domain(...) -> Domain`, evaluator.py and baselines/",
        )
    module = _import_file(file)
    factory = getattr(module, "domain", None)
    if factory is None:
        raise DomainError(
            f"{file} defines no `domain`",
            hint="add `def domain(): return MyDomain()`, where MyDomain subclasses metaharness.domain.Domain",
        )
    return _build(factory, options, root=file.parent, where=str(file))


def _import_file(file: Path) -> ModuleType:
    """Import `domain.py` under a name of its own, with its folder importable while it loads."""
    name = "metaharness_domain_" + hashlib.sha256(os.fsencode(file)).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise DomainError(f"{file} is not a Python file", hint="give the folder that holds domain.py, or that file")
    module = importlib.util.module_from_spec(spec)
    siblings = {path.stem for path in file.parent.glob("*.py")}
    shadowed = {stem: sys.modules.pop(stem) for stem in siblings if stem in sys.modules}
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    # a cached one counts as current when second and size agree: what is loaded would not be what was hashed
    cached, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except MetaharnessError:
        raise
    except (Exception, SystemExit) as error:
        raise DomainError(
            f"importing {file} failed: {type(error).__name__}: {error}", hint="run the file with python to see where"
        ) from error
    finally:
        sys.dont_write_bytecode = cached
        sys.path.remove(str(file.parent))
        for stem in siblings:
            sys.modules.pop(stem, None)
        sys.modules.update(shadowed)
    return module


def _from_module(reference: str, options: Mapping[str, str]) -> Domain:
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"cannot import {module_name!r}: {error}", hint="give module:attribute of an installed module, or a path"
        ) from error
    except (Exception, SystemExit) as error:
        raise DomainError(
            f"importing {module_name} failed: {type(error).__name__}: {error}", hint="import it in python to see where"
        ) from error
    factory = getattr(module, attribute, None)
    if factory is None:
        raise DomainError(
            f"module {module_name} has no attribute {attribute!r}",
            hint="name the function that makes the domain, such as my_package.my_domain:domain",
        )
    file = Path(module.__file__ or ".").resolve()
    return _build(factory, options, root=file.parent, where=reference)


def _build(factory: Any, options: Mapping[str, str], *, root: Path, where: str) -> Domain:
    if isinstance(factory, Domain):
        if options:
            raise UsageError(
                f"{where} takes no options, but got: {', '.join(options)}",
                hint="leave them out, or make `domain` a function that takes them",
            )
        domain = factory
    else:
        _check_options(factory, options, where)
        domain = _made(factory, options, where)
    if not isinstance(domain, Domain):
        raise DomainError(
            f"`domain` in {where} gives a {type(domain).__name__}, not a Domain",
            hint="return an instance of a subclass of metaharness.domain.Domain",
        )
    if domain.root == Path():
        domain.root = root
    object.__setattr__(domain, "loaded_with", dict(options))  # a domain may be a frozen dataclass
    problems = _problems(domain)
    if problems:
        raise DomainError(
            f"the domain in {where} is incomplete:\n" + "\n".join(f"  - {problem}" for problem in problems),
            hint="a valid domain sets name, objectives and evaluator, and implements cases(split)",
        )
    return domain


def _made(factory: Any, options: Mapping[str, str], where: str) -> Any:
    try:
        return factory(**options)
    except MetaharnessError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{name}={value}" for name, value in options.items()) or "no options"
        raise DomainError(
            f"`domain` in {where} failed with {given}: {type(error).__name__}: {error}",
            hint="check the options and the data they name",
        ) from error


def _check_options(factory: Any, options: Mapping[str, str], where: str) -> None:
    if not callable(factory):
        raise DomainError(
            f"`domain` in {where} has the type {type(factory).__name__}; it must be a function or a Domain",
            hint="write `def domain(): return MyDomain()`",
        )
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    named = {name: one for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_POSITIONAL}
    unknown = [name for name in options if name not in named]
    if unknown:
        valid = ", ".join(named) or "none"
        raise UsageError(
            f"the domain in {where} takes no option {', '.join(map(repr, unknown))}", hint=f"valid options: {valid}"
        )
    needed = [
        name
        for name, parameter in named.items()
        if parameter.default is inspect.Parameter.empty and name not in options
    ]
    if needed:
        raise UsageError(
            f"the domain in {where} needs the option {', '.join(map(repr, needed))}",
            hint="pass it as --domain-option NAME=VALUE (data, text_field and label_field have flags of their own)",
        )


def _problems(domain: Domain) -> list[str]:
    problems = []
    if not domain.name:
        problems.append("`name` is empty: one word that names the domain")
    if not domain.objectives:
        problems.append('`objectives` is empty: for example (Objective("accuracy", range=(0, 1)),)')
    elif not all(isinstance(objective, Objective) for objective in domain.objectives):
        problems.append("`objectives` holds something else than metaharness.domain.Objective")
    else:
        problems += [problem for objective in domain.objectives if (problem := _objective_problem(objective))]
        if domain.objectives[0].name == HARNESS_CHARS:
            problems.append(f"the first objective is {HARNESS_CHARS}, which no case has: cases could not be compared")
    if not callable(getattr(getattr(domain, "evaluator", None), "grade", None)):
        problems.append("`evaluator` has no method grade(context)")
    requirements = domain.requirements()
    if domain.python is not None and requirements is not None:
        problems.append(f"`python` and {requirements} both say what a harness may import: keep one of them")
    if type(domain).cases is Domain.cases:
        problems.append("`cases(split)` is not implemented: it yields Case(id=..., input=..., expected=...)")
    return problems


def _objective_problem(objective: Objective) -> str | None:
    name = f"objective {objective.name!r}"
    bounds = objective.range
    if bounds is not None and not (all(map(math.isfinite, bounds)) and bounds[0] < bounds[1]):
        return f"{name} has the range {bounds}: two finite numbers, the smaller one first, or None"
    worst = objective.record().worst
    if worst is None:
        if objective.name in MEASURES:
            return None
        return f"{name} has neither `range` nor `worst`, so a failed case has no value"
    if not math.isfinite(worst) or (bounds is not None and not bounds[0] <= worst <= bounds[1]):
        return f"{name} has worst={worst}: it must be finite and lie in the range"
    return None


# --- candidates on disk -----------------------------------------------------------------------------------------


def read_candidate(path: Path, *, within: Path | None = None) -> Proposal:
    """A candidate on disk: a harness file, or a folder with `harness.py`, `proposal.json` and `reasoning.md`.

    Args:
        path: The file or the folder.
        within: The folder that nothing is read outside of, whatever is changed in it meanwhile; None: whoever names
            the path may read all that it leads to.

    Raises:
        UsageError: There is nothing, or a folder without `harness.py`.
        DomainError: A file of it cannot be read, is no file, or is a link that leads out of the folder.
    """
    if not path.exists():
        raise UsageError(f"there is no harness at {path}", hint="give a Python file, or a folder that holds harness.py")
    if path.is_dir() and not (path / "harness.py").is_file():
        raise UsageError(f"{path} holds no harness.py", hint="the entry of a harness folder is named harness.py")
    read = _text if within is None else partial(_text_below, within, path.resolve())
    if not path.is_dir():  # a link is the choice of whoever names it
        return Proposal(files={"harness.py": read(path)}, name=path.stem)
    about_it = {path / name for name in META_FILES}
    files = {file.relative_to(path).as_posix(): read(file) for file in _files_in(path) if file not in about_it}
    about = _about(path / "proposal.json", read)
    reasoning = path / "reasoning.md"
    return Proposal(
        files=files,
        reasoning=read(reasoning) if reasoning.is_file() else "",
        hypothesis=str(about.get("hypothesis", "")),
        parents=_list(path, about, "parents", int),
        axis=str(about.get("axis", "")),
        components=_list(path, about, "components", str),
        predicted_effect=str(about.get("predicted_effect", "")),
        name=str(about.get("name") or path.name),
    )


def read_baselines(domain: Domain) -> list[Proposal]:
    """The baselines of a domain, as candidates of round 0.

    Raises:
        DomainError: There are none.
    """
    found = [read_candidate(path) for path in domain.baselines()]
    if not found:
        raise DomainError(
            f"{domain.name} has no baselines in {domain.root / 'baselines'}",
            hint="add at least one harness there, such as baselines/zero_shot.py: it becomes iteration 000",
        )
    return found


def _files_in(folder: Path) -> Iterator[Path]:
    """The files of a candidate. What is neither file nor folder is refused: else it would be missing unseen."""
    for entry in sorted(folder.rglob("*")):
        if CACHES & set(entry.relative_to(folder).parts):
            continue
        if entry.is_symlink() and not _stays_in(folder, entry):
            raise DomainError(
                f"{entry} is a link that leads out of the candidate's folder",
                hint="copy what it points to into the folder, or take the link away",
            )
        if entry.is_file():
            yield entry
        elif entry.is_symlink() or not entry.is_dir():
            raise DomainError(
                f"{entry} is neither a file nor a folder of the candidate",
                hint="a candidate's folder holds text files, and folders of them; take it away",
            )


def _stays_in(folder: Path, link: Path) -> bool:
    try:
        return link.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links that lead in a circle
        return False


def _list(path: Path, about: dict[str, Any], field: str, of: type[T]) -> tuple[T, ...]:
    value = about.get(field, [])
    if not isinstance(value, list) or not all(isinstance(item, of) for item in value):
        raise DomainError(f"{path / 'proposal.json'}: {field} is {value!r}", hint=ABOUT)
    return tuple(value)


def _about(path: Path, read: Callable[[Path], str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        about = json.loads(read(path))
    except ValueError as error:
        raise DomainError(f"{path} is not JSON: {error}", hint=ABOUT) from error
    if not isinstance(about, dict):
        raise DomainError(f"{path} must hold a JSON object", hint=ABOUT)
    return about


def _text(path: Path) -> str:
    return _read(path, lambda: path.read_text(encoding="utf-8"))


def _text_below(folder: Path, candidate: Path, path: Path) -> str:
    return _read(path, lambda: StringIO(read_below(folder, candidate, path).decode("utf-8"), newline=None).read())


def _read(path: Path, read: Callable[[], str]) -> str:
    if not path.is_file():  # to open a pipe would wait for whoever writes into it
        raise DomainError(f"{path} is no file", hint="a candidate's files are text in UTF-8")
    try:
        return read()
    except (OSError, UnicodeDecodeError) as error:
        raise DomainError(f"cannot read {path}: {error}", hint="a candidate's files are text in UTF-8") from error
