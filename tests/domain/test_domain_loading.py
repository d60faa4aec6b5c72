"""Finding a domain, and what is said of one that is not there or is not one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_kit import DOMAIN, Toy, write_toy

from metaharness.domain import Domain, Split, split_cases
from metaharness.errors import DomainError, MetaharnessError, UsageError
from metaharness.loading import load_domain, shipped_domains

HEAD = "from metaharness.domain import Case, Domain, Objective\n"
EXACT = "class Exact:\n    def grade(self, context):\n        return 1\n"
OPTIONS = "def domain(data, size='3'):\n    return Good()\n"


def source(*, name: str = "'good'", objectives: str = "(Objective('a', range=(0, 1)),)", extra: str = "") -> str:
    return (
        f"{HEAD}{EXACT}class Good(Domain):\n    name = {name}\n    objectives = {objectives}\n"
        f"    evaluator = Exact()\n    def cases(self, split):\n        return []\n{extra}"
    )


GOOD = source()
RETURN = "def domain():\n    return Good()\n"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain")


@pytest.mark.parametrize("way", ["folder", "file"])
def test_a_domain_is_found_by_its_folder_and_by_its_file(way: str, toy: Toy) -> None:
    domain = load_domain(str(toy.folder if way == "folder" else toy.folder / "domain.py"))
    assert (domain.name, domain.root) == ("colours", toy.folder)
    assert [case.id for case in split_cases(domain, Split.TRAIN)] == ["train-00", "train-01", "train-02"]
    assert [path.name for path in domain.baselines()] == ["00_plain.py", "01_long.py"]
    assert domain.instructions() == "Say the colour of the item.\n"
    assert domain.driver() is None


def test_a_domain_is_found_by_module_and_attribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_domain.py").write_text(GOOD + RETURN + "ready = Good()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for attribute in ("domain", "ready", "Good"):
        domain = load_domain(f"some_domain:{attribute}")
        assert (domain.name, domain.root) == ("good", tmp_path)


@pytest.mark.parametrize(
    "factory",
    ["def domain():\n    return Good()\n", "domain = Good\n", "domain = Good()\n", "domain = lambda: Good()\n"],
)
def test_domain_may_be_a_function_a_class_or_an_instance(factory: str, tmp_path: Path) -> None:
    (tmp_path / "domain.py").write_text(GOOD + factory)
    assert load_domain(str(tmp_path)).name == "good"


def test_options_reach_the_factory_as_strings(tmp_path: Path) -> None:
    keeps = "    made = Good()\n    made.options = (data, size, more)\n    return made\n"
    (tmp_path / "domain.py").write_text(f"{GOOD}def domain(data, size='3', **more):\n{keeps}")
    domain = load_domain(str(tmp_path), {"data": "here", "other": "1"})
    assert vars(domain)["options"] == ("here", "3", {"other": "1"})


def test_two_domains_with_files_of_the_same_names_do_not_mix(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "words.py").write_text(f"NAME = {name!r}\n")
        (folder / "domain.py").write_text("from words import NAME\n" + source(name="NAME") + RETURN)
    assert [load_domain(str(tmp_path / name)).name for name in ("a", "b", "a")] == ["a", "b", "a"]
    assert "words" not in sys.modules
    assert not any(str(tmp_path) in entry for entry in sys.path)


@pytest.mark.parametrize("name", ["starter", "text_classification"])
def test_shipped_examples_are_found_by_name_and_a_path_wins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name in shipped_domains()
    assert load_domain(name).name == name
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "domain.py").write_text(GOOD + RETURN)
    assert load_domain(name).name == "good"


@pytest.mark.parametrize(
    ("content", "options", "kind", "message", "hint"),
    [
        pytest.param(None, {}, DomainError, "holds no domain.py", "evaluator.py and baselines/", id="no domain.py"),
        pytest.param(GOOD, {}, DomainError, "defines no `domain`", "def domain()", id="no domain"),
        pytest.param(
            GOOD + "domain = 3\n", {}, DomainError, "has the type int; it must be a function", "def domain", id="number"
        ),
        pytest.param(
            GOOD + "def domain():\n    return 'x'\n",
            {},
            DomainError,
            "gives a str, not a Domain",
            "subclass",
            id="wrong type",
        ),
        pytest.param(source(name="''") + RETURN, {}, DomainError, "`name` is empty", "valid domain sets", id="no name"),
        pytest.param(
            source(objectives="()") + RETURN,
            {},
            DomainError,
            "`objectives` is empty",
            "valid domain sets",
            id="no objectives",
        ),
        pytest.param(
            source(objectives="('accuracy',)") + RETURN,
            {},
            DomainError,
            "`objectives` holds something else",
            "valid",
            id="strings",
        ),
        pytest.param(
            source(objectives="(Objective('a'),)") + RETURN,
            {},
            DomainError,
            "objective 'a' has neither `range` nor `worst`",
            "valid domain sets",
            id="unbounded",
        ),
        pytest.param(
            source(objectives="(Objective('harness_chars', 'min', range=(0, 9)),)") + RETURN,
            {},
            DomainError,
            "the first objective is harness_chars, which no case has",
            "valid domain sets",
            id="of no case",
        ),
        pytest.param(
            source(objectives="(Objective('a', range=(0, float('inf'))),)") + RETURN,
            {},
            DomainError,
            "two finite numbers",
            "valid domain sets",
            id="infinite range",
        ),
        pytest.param(
            source(objectives="(Objective('a', range=(0, 1), worst=2),)") + RETURN,
            {},
            DomainError,
            "it must be finite and lie in the range",
            "valid domain sets",
            id="worst outside the range",
        ),
        pytest.param(
            GOOD.replace("evaluator = Exact()", "pass") + RETURN,
            {},
            DomainError,
            "no method grade",
            "valid",
            id="no evaluator",
        ),
        pytest.param(
            GOOD.replace("def cases", "def other") + RETURN,
            {},
            DomainError,
            "`cases(split)` is not implemented",
            "valid",
            id="no cases",
        ),
        pytest.param(
            "import nowhere\n", {}, DomainError, "ModuleNotFoundError: No module named 'nowhere'", "python", id="import"
        ),
        pytest.param("raise SystemExit(0)\n", {}, DomainError, "failed: SystemExit: 0", "run the file", id="exit"),
        pytest.param(
            GOOD + "def domain():\n    raise SystemExit\n",
            {},
            DomainError,
            "failed with no options: SystemExit",
            "data",
            id="factory exits",
        ),
        pytest.param("def domain(:\n", {}, DomainError, "SyntaxError", "run the file with python", id="syntax"),
        pytest.param(
            GOOD + "def domain():\n    1 / 0\n",
            {},
            DomainError,
            "failed with no options: ZeroDivisionError",
            "data",
            id="factory",
        ),
        pytest.param(
            GOOD + RETURN, {"size": "2"}, UsageError, "takes no option 'size'", "valid options: none", id="none"
        ),
        pytest.param(
            GOOD + OPTIONS,
            {"data": ".", "sise": "2"},
            UsageError,
            "takes no option 'sise'",
            "data, size",
            id="unknown option",
        ),
        pytest.param(GOOD + OPTIONS, {}, UsageError, "needs the option 'data'", "--domain-option", id="missing option"),
        pytest.param(
            GOOD + "domain = Good()\n", {"data": "."}, UsageError, "takes no options, but got: data", "", id="instance"
        ),
        pytest.param(
            GOOD + "def domain(*, path):\n    return Good()\n",
            {},
            UsageError,
            "needs the option 'path'",
            "NAME=VALUE",
            id="named",
        ),
    ],
)
def test_what_is_no_domain_says_what_is_missing_and_what_to_do(
    content: str | None,
    options: dict[str, str],
    kind: type[MetaharnessError],
    message: str,
    hint: str,
    *,
    tmp_path: Path,
) -> None:
    if content is not None:
        (tmp_path / "domain.py").write_text(content)
    with pytest.raises(kind) as raised:
        load_domain(str(tmp_path), options)
    assert type(raised.value) is kind
    assert message in raised.value.message
    assert raised.value.hint is not None
    assert hint in raised.value.hint
    assert str(tmp_path) in raised.value.message


@pytest.mark.parametrize(
    ("reference", "kind", "message", "hint"),
    [
        ("no_such_thing", UsageError, "no domain 'no_such_thing'", "module:attribute"),
        ("no_such_module:domain", UsageError, "cannot import 'no_such_module'", "installed module"),
        (":domain", UsageError, "cannot import ''", "installed module"),
        ("os:no_such_name", DomainError, "module os has no attribute 'no_such_name'", "my_package.my_domain:domain"),
        ("os:path", DomainError, "`domain` in os:path has the type module", "def domain()"),
        ("os:getcwd", DomainError, "`domain` in os:getcwd gives a str", "subclass"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(
    reference: str, kind: type[MetaharnessError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as raised:
        load_domain(reference)
    assert message in raised.value.message
    assert hint in str(raised.value.hint)


def test_a_module_that_fails_while_it_is_imported_is_the_domains_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_domain.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DomainError, match="importing failing_domain failed: RuntimeError: no licence"):
        load_domain("failing_domain:domain")


def test_a_module_that_ends_the_process_is_the_domains_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exiting_domain.py").write_text("import sys\nsys.exit('enough')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DomainError, match="importing exiting_domain failed: SystemExit: enough"):
        load_domain("exiting_domain:domain")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name has to be UTF-8")
def test_a_folder_whose_name_is_not_utf_8_holds_a_domain_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "domain.py").write_text(GOOD + RETURN)
    assert load_domain(str(folder)).root == folder


def test_a_file_that_is_not_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# domain\n")
    with pytest.raises(DomainError, match=r"README\.md is not a Python file"):
        load_domain(str(tmp_path / "README.md"))


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ("[1]", "yielded a int, not a Case"),
        ("[Case('a', 1), Case('a', 2)]", "case id 'a' in split train is empty or repeats"),
        ("[Case('a', {1, 2})]", "case 'a' in split train is not JSON"),
        ("[Case('a', float('nan'))]", "case 'a' in split train is not JSON"),
        ("1 / 0", "cases('train') of good failed: ZeroDivisionError"),
        ("exit('no data')", "cases('train') of good failed: SystemExit"),
        ("None", "cases('train') of good failed: TypeError"),
    ],
)
def test_cases_that_cannot_be_used_are_named(cases: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "domain.py").write_text(GOOD.replace("return []", f"return {cases}") + RETURN)
    with pytest.raises(DomainError) as raised:
        split_cases(load_domain(str(tmp_path)), Split.TRAIN)
    assert message in raised.value.message
    assert raised.value.hint


def test_each_split_is_loaded_by_itself(toy: Toy) -> None:
    (toy.folder / "data" / "test.jsonl").unlink()
    domain = load_domain(str(toy.folder))
    assert len(split_cases(domain, Split.SEARCH)) == 12
    with pytest.raises(DomainError, match="FileNotFoundError"):
        split_cases(domain, Split.TEST)


def test_the_base_class_asks_for_cases() -> None:
    with pytest.raises(NotImplementedError):
        list(Domain().cases(Split.TRAIN))
    assert "class Colours(Domain)" in DOMAIN


def test_a_domain_that_was_changed_within_a_second_to_the_same_size_is_loaded_as_it_is(tmp_path: Path) -> None:
    """Bytecode beside it would be taken for current; and a person's folder stays as it was."""
    for name in ("first", "other"):
        (tmp_path / "domain.py").write_text(source(name=f"'{name}'", extra="domain = Good()\n"))
        done = subprocess.run(
            [sys.executable, "-c", f"from metaharness.loading import *; print(load_domain({str(tmp_path)!r}).name)"],
            env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == name
    assert [path.name for path in tmp_path.iterdir()] == ["domain.py"]
