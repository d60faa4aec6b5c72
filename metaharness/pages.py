"""The pages for agents that come with the package: skills, and the way to a domain of one's own."""

from __future__ import annotations

from pathlib import Path

from metaharness.errors import MetaharnessError

_PACKAGE = Path(__file__).resolve().parent


def skill_page(name: str) -> str:
    """The text of a skill, without its frontmatter.

    Raises:
        MetaharnessError: The installation lacks it.
    """
    text = _page(f"skills/{name}/SKILL.md")
    return text.split("\n---\n", 1)[-1].strip() if text.startswith("---\n") else text


def onboarding_page() -> str:
    """The text of ONBOARDING.md.

    Raises:
        MetaharnessError: The installation lacks it.
    """
    return _page("ONBOARDING.md").strip()


def _page(name: str) -> str:
    for folder in (_PACKAGE, _PACKAGE.parent):  # installed; in a checkout
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8")
    raise MetaharnessError(f"this installation lacks {name}", hint="install metaharness again; its wheel ships it")
