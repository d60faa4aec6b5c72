"""The public surface, as sorted lists. Adding a name is a promise, taking one away breaks somebody."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest
from meta_kit import PACKAGE, public_names

PUBLIC = {
    "metaharness.attacks": [
        "ATTACKS",
        "ATTACKS_WITH_PROCESSES",
        "Attack",
        "AttackResult",
        "CONTROLS",
        "DEPENDS_ON_THE_MACHINE",
        "NOT_CONTAINED_BY_PROCESS",
        "SandboxReport",
        "check_sandbox",
    ],
    "metaharness.domain": [
        "Case",
        "Domain",
        "Evaluator",
        "Grade",
        "GradeContext",
        "GradeResult",
        "Judge",
        "MEASURES",
        "Objective",
        "REQUIREMENTS",
        "Split",
        "candidates_in",
        "cases_hash",
        "domain_hash",
        "evaluator_hash",
        "files_hash",
        "split_cases",
    ],
    "metaharness.errors": [
        "CacheError",
        "CandidateError",
        "ConfigurationError",
        "CorruptRecordError",
        "DomainError",
        "FailureKind",
        "IncompleteError",
        "MetaharnessError",
        "ModelFailure",
        "NewerSchemaError",
        "RunLockedError",
        "SandboxError",
        "StoreError",
        "UsageError",
    ],
    "metaharness.harness": ["Completion", "LabeledExample", "Model", "ModelError"],
    "metaharness.loading": [
        "ABOUT",
        "CACHES",
        "META_FILES",
        "load_domain",
        "read_baselines",
        "read_candidate",
        "shipped_domains",
        "shipped_folder",
    ],
    "metaharness.exported": ["ExportedHarness", "one_argument"],
    "metaharness.production": ["CLOSE_SECONDS", "ConnectedModel", "connect"],
    "metaharness.run": ["Finishing", "Regrading", "Round", "Run", "fork"],
    "metaharness.run.threads": [
        "EvaluateCases",
        "LOOK_AGAIN_SECONDS",
        "cases_from_threads",
        "open_cases",
        "when_free",
    ],
    "metaharness.testing": [
        "DomainReport",
        "SandboxReport",
        "ScriptedModel",
        "ScriptedProposer",
        "check_domain",
        "check_sandbox",
    ],
}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_public_names_of_a_module_are_those_listed(name: str) -> None:
    relative = name.removeprefix("metaharness.").replace(".", "/")
    path = PACKAGE / relative / "__init__.py" if (PACKAGE / relative).is_dir() else PACKAGE / f"{relative}.py"
    assert public_names(ast.parse(path.read_text(encoding="utf-8"))) == PUBLIC[name]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    objects = {public: getattr(module, public) for public in PUBLIC[name]}
    described = {public: it.__doc__ for public, it in objects.items() if inspect.isclass(it) or inspect.isfunction(it)}
    assert [public for public, text in described.items() if not text] == []
    assert module.__doc__


def test_the_lists_are_sorted() -> None:
    assert all(names == sorted(names) for names in PUBLIC.values())
