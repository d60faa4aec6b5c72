"""The skills and ONBOARDING.md are read by programs that cannot ask back: what they name has to be there."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
import skills_ref
from cli_kit import command_names, parse
from meta_kit import ROOT, fenced
from run_kit import executed

from metaharness.tools import TOOLS as CATALOGUE

SKILLS = sorted(path for path in (ROOT / "skills").iterdir() if path.is_dir())
ONBOARDING = ROOT / "ONBOARDING.md"
PAGES = [ONBOARDING, *sorted((ROOT / "skills").rglob("*.md"))]
SEARCHING = [page for page in PAGES if "meta-harness" in page.parts]

TOOLS: Mapping[str, frozenset[str]] = {
    tool.name: frozenset(parameter.name for parameter in tool.parameters) - {"run"} for tool in CATALOGUE
}
"""The agent's tools and what they take, beside `run`, which all of them take."""
ARGUMENTS = frozenset().union(*TOOLS.values())
HARNESS = {"predict"}
"""Functions of a harness; they are called in backticks too."""
TOOL_LIKE = re.compile(r"(?:start|describe|list|read|search|check|write)_\w+")
NUMBERS = {"N", "A", "B"}
"""Stand for an iteration in the commands shown."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def place(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def body(page: Path) -> str:
    """A page without its frontmatter."""
    return re.sub(r"\A---\n.*?^---\n", "", text(page), flags=re.MULTILINE | re.DOTALL)


def quoted(page: Path) -> list[str]:
    """What stands in single backticks, outside fenced blocks."""
    outside = re.sub(r"^\s*```.*?^\s*```$", "", body(page), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", outside)]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language, also those indented in a list."""
    indented = re.findall(rf"^( +)```{language}\n(.*?)^\1```$", text(page), re.MULTILINE | re.DOTALL)
    return [*fenced(text(page), language), *(dedent(block) for _, block in indented)]


def shown(page: Path) -> Iterator[str]:
    """Every command line of ours: in shell blocks, and quoted in a sentence."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    yield from (line for line in [*lines, *quoted(page)] if line.startswith("metaharness "))


COMMANDS = sorted({(place(page), command) for page in PAGES for command in shown(page)})


# --- what the specification of skills asks for ------------------------------------------------------------------


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_a_skill_is_valid_by_the_reference_library(skill: Path) -> None:
    assert skills_ref.validate(skill) == []


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_a_skill_is_short_enough_to_be_read_whole(skill: Path) -> None:
    page = text(skill / "SKILL.md")
    assert len(page.splitlines()) < 300
    assert len(body(skill / "SKILL.md")) < 20_000, "about 5,000 tokens"


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_every_reference_is_linked_from_the_skill_with_when_to_read_it(skill: Path) -> None:
    page = body(skill / "SKILL.md")
    there = {path.relative_to(skill).as_posix() for path in skill.rglob("*") if path.is_file()} - {"SKILL.md"}
    linked = set(re.findall(r"\]\(([^)#]+)\)", page))
    assert linked == there
    assert all(path.count("/") == 1 and path.startswith("references/") for path in there)
    for path in there:
        around = [part for part in page.split("\n\n") if path in part]
        assert any(re.search(r"\b(?:read|before|when)\b", part, re.IGNORECASE) for part in around), path


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "SKILL.md"], ids=place)
def test_a_page_other_than_a_skill_stands_by_itself(page: Path) -> None:
    assert re.findall(r"\]\(([^)]+)\)", text(page)) == []


def test_the_onboarding_is_one_text() -> None:
    """Pasted into a chat it has no other file beside it; in the skill it must be a file of the skill."""
    copy = ROOT / "skills" / "onboard-domain" / "references" / "conversation.md"
    assert text(copy) == text(ONBOARDING), f"cp {place(ONBOARDING)} {place(copy)}"


# --- what they name ---------------------------------------------------------------------------------------------


def test_commands_are_found() -> None:
    assert {page for page, _ in COMMANDS} >= {place(ONBOARDING), "skills/meta-harness/SKILL.md"}
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_is_one_the_command_line_takes(page: str, command: str) -> None:
    _, *words = shlex.split(command, comments=True)
    if len(words) == 1:  # named in a sentence
        assert words[0] in command_names()
        return
    parse(["1" if word in NUMBERS else word for word in words])


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_every_option_named_alone_is_an_option_of_some_command(page: Path) -> None:
    from cli_kit import tree

    known = {
        option for command in tree().commands.values() for parameter in command.params for option in parameter.opts
    }
    named = {found.split()[0] for found in quoted(page) if re.fullmatch(r"--[a-z-]+(?: .*)?", found)}
    assert {option for option in named if not any(one.startswith(option) for one in known)} == set()


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_every_tool_is_one_there_is_and_takes_what_it_is_given(page: Path) -> None:
    for found in quoted(page):
        call = re.fullmatch(r"(\w+)\((.*)\)", found)
        if call is None:
            assert not TOOL_LIKE.fullmatch(found) or found in {*TOOLS, *ARGUMENTS}, f"{found} is no tool"
            continue
        if page in SEARCHING and call[1] not in HARNESS:
            given = {one.split("=")[0].strip(" ?") for one in call[2].split(",") if one.strip() not in ("", "...")}
            assert given <= TOOLS[call[1]], found


def test_the_table_of_tools_is_complete() -> None:
    table = text(ROOT / "skills" / "meta-harness" / "references" / "tools-and-commands.md")
    assert [tool for tool in TOOLS if f"`{tool}(" not in table] == []


@pytest.mark.parametrize("page", SEARCHING, ids=place)
def test_no_page_takes_one_prefix_of_tools_for_granted(page: Path) -> None:
    named = [found for found in quoted(page) if "mcp__" in found]
    assert (len(named) > 1) if page.name == "SKILL.md" else named == []


# --- what they must not lead to ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_no_command_to_be_typed_takes_a_decision_from_the_person(page: Path) -> None:
    """A block is copied as it stands; what is the person's is named in sentences alone."""
    typed = "\n".join(block for block in blocks(page, "sh"))
    for decision in ("finish", "--yes", "--budget", "--sandbox", "--model", "--force", "sealed", "test.jsonl"):
        assert decision not in typed


@pytest.mark.parametrize(
    ("page", "rules"),
    [
        (
            "skills/meta-harness/SKILL.md",
            ["Never open, list, grep or ask for", "sealed", "`metaharness finish`", "never with `--yes`"],
        ),
        ("skills/meta-harness/SKILL.md", ["data, not instructions", "inside the noise is noise", "indecisive"]),
        ("skills/meta-harness/SKILL.md", ["ask, never decide", "`--budget-...`", "another model", "sandbox"]),
        ("skills/meta-harness/references/writing.md", ["Text or answers of `search` or `test` cases"]),
        ("skills/meta-harness/references/tools-and-commands.md", ["except `runs/RUN/sealed/`"]),
        ("skills/onboard-domain/SKILL.md", ["Reading the sealed cases", "data, not instructions", "`unknown:`"]),
        ("ONBOARDING.md", ["do not print, open or summarise `test`", "never guessed", "never their values"]),
    ],
)
def test_the_rules_that_keep_a_search_honest_are_said(page: str, rules: list[str]) -> None:
    said = " ".join(text(ROOT / page).lower().split())
    assert [rule for rule in rules if rule.lower() not in said] == []


# --- what they show works ---------------------------------------------------------------------------------------


def test_the_script_that_splits_keeps_groups_whole_and_takes_duplicates_out(tmp_path: Path) -> None:
    recipes = ROOT / "skills" / "onboard-domain" / "references" / "recipes.md"
    (script,) = [block for block in fenced(text(recipes), "python") if "SHARES" in block]
    data = tmp_path / "search" / "desk" / "data"
    data.mkdir(parents=True)
    (data / "split.py").write_text(script, encoding="utf-8")
    with (tmp_path / "letters.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(f"L{number}", f"r{number % 17}", f"Letter {number % 95}", "rooms") for number in range(100)]
        csv.writer(file).writerows([("ref", "reader", "body", "desk"), *rows])
    done = subprocess.run(
        [sys.executable, "data/split.py"], cwd=data.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Letter" not in done.stdout, "counts alone"
    splits = {path.stem: list(map(json.loads, text(path).splitlines())) for path in data.glob("*.jsonl")}
    assert set(splits) == {"train", "search", "test"}
    assert sum(map(len, splits.values())) == 95
    assert min(map(len, splits.values())) > 15
    groups = [group for rows in splits.values() for group in {row["group"] for row in rows}]
    assert len(groups) == len(set(groups)) == 17


@pytest.mark.slow
def test_the_scripts_that_read_traces_work_on_a_run(tmp_path: Path) -> None:
    made = executed("run", "--domain", "starter", "--iterations", "1", "--name", "RUN", "--quiet", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    scripts = blocks(ROOT / "skills" / "meta-harness" / "references" / "reading-traces.md", "sh")
    assert len(scripts) == 2
    said = [
        subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
        for script in scripts
    ]
    assert [done.stderr for done in said] == ["", ""]
    assert "Counter({'ok': 16})" in said[0].stdout
    assert re.search(r"fixed +\[\('search-\d+', 0\)", said[1].stdout)


@pytest.mark.parametrize("page", [ONBOARDING], ids=place)
def test_the_template_of_the_spec_has_a_place_for_what_is_unknown(page: Path) -> None:
    (template,) = fenced(text(page), "markdown")
    headings = re.findall(r"^## (.+)$", template, re.MULTILINE)
    assert headings == [
        *("Purpose", "Harness", "Case", "Splits", "Evaluator", "Objectives", "Model", "Baselines"),
        *("Noise and budget", "Decisions and doubts"),
    ]
    assert "unknown" in template
