"""The pages for agents that come with the package: skills, and the way to a domain of one's own."""

from __future__ import annotations

from pathlib import Path

from metaharness.errors import MetaharnessError, UsageError

_PACKAGE = Path(__file__).resolve().parent


def skill_page(name: str) -> str:
    """The text of a skill, without its frontmatter.

    Raises:
        MetaharnessError: The installation lacks it.
    """
    return without_frontmatter(_page(f"skills/{name}/SKILL.md"))


def without_frontmatter(text: str) -> str:
    """What a page says, without the fields at its head."""
    return text.split("\n---\n", 1)[-1].strip() if text.startswith("---\n") else text


def skill_reference(name: str, page: str) -> str:
    """The text of a page that a skill refers to, such as `references/hypotheses.md`.

    Raises:
        UsageError: There is none of that name; the hint lists what there is.
    """
    known = {f"{path.parent.name}/{path.name}": path for path in _folder("skills").glob(f"{name}/references/*.md")}
    if not name.replace("-", "").isalnum() or page not in known:
        raise UsageError(
            f"skill {name!r:.60} has no {page!r:.60}", hint=f"it has: {', '.join(sorted(known)) or 'none'}"
        )
    return known[page].read_text(encoding="utf-8")


def onboarding_page() -> str:
    """The text of ONBOARDING.md.

    Raises:
        MetaharnessError: The installation lacks it.
    """
    return _page("ONBOARDING.md").strip()


def _page(name: str) -> str:
    return _folder(name).read_text(encoding="utf-8")


def packaged(name: str) -> Path | None:
    """A file or folder that comes with the package, by its path from there; None where there is none."""
    places = (_PACKAGE / name, _PACKAGE.parent / name)  # installed; in a checkout
    return next((place for place in places if place.exists()), None)


def _folder(name: str) -> Path:
    if (found := packaged(name)) is not None:
        return found
    raise MetaharnessError(f"this installation lacks {name}", hint="install metaharness again; its wheel ships it")
