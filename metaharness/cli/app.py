"""The application: its commands, and what an error looks like.

Nothing of the engine is imported before a command needs it, so that `--help` is quick.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from metaharness import __version__
from metaharness.errors import MetaharnessError

P = ParamSpec("P")

INTERRUPTED = 130
EPILOG = """Exit codes: 0 success; 1 a failure of ours or of the environment; 2 wrong usage;
3 the candidate or the domain is invalid; 4 a gate did not pass; 130 interrupted (resume goes on)."""

ORDER = (
    *("demo", "init", "check", "plan", "calibrate", "evaluate", "run", "resume", "submit", "finish", "export"),
    *("runs", "scoreboard", "show", "trace", "diff", "compare", "summary", "cost", "doctor"),
)
"""As a person meets them: first what does something, then what shows it."""


class Ordered(TyperGroup):
    """Lists the commands in that order; one that is not in it comes last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    name="metaharness",
    cls=Ordered,
    help="Search over the code around a frozen language model: evaluate harnesses, keep every trace, improve them.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"metaharness {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search over the code around a frozen language model: evaluate harnesses, keep every trace, improve them."""


def command(examples: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a command whose errors are told to the person, with a hint, and whose help ends with examples."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                function(*args, **kwargs)
            except MetaharnessError as error:
                complain(error.message, error.hint)
                raise typer.Exit(error.exit_code) from error
            except KeyboardInterrupt as error:
                complain("interrupted")
                raise typer.Exit(INTERRUPTED) from error
            except BrokenPipeError as error:
                sys.stderr.close()
                raise typer.Exit(1) from error

        lines = "\n\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
        app.command(epilog=f"Examples:\n\n{lines}")(guarded)
        return guarded

    return register


def complain(message: str, hint: str | None = None) -> None:
    """Tell an error on stderr."""
    typer.echo(f"error: {message}", err=True)
    if hint is not None:
        typer.echo(f"hint: {hint}", err=True)


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit code.

    Args:
        argv: The arguments without the program's name; None takes those of the process.
    """
    from metaharness.cli import (  # noqa: F401 - they register
        calibrate,
        check,
        demo,
        doctor,
        evaluate,
        export,
        finish,
        init,
        inspect,
        plan,
        runs,
        search,
        show,
        submit,
    )

    try:
        code = app(args=argv, prog_name="metaharness", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # typer keeps its own errors elsewhere in every other version
        if not hasattr(error, "format_message"):
            raise
        return _misused(error)
    return code if isinstance(code, int) else 0


def _misused(error: Any) -> int:
    """Tell what is wrong with the arguments, in the same form as every other error."""
    message: str = error.format_message()
    if message.startswith("Usage:"):  # no command at all: the message is the help
        typer.echo(message, err=True)
    else:
        context = getattr(error, "ctx", None)
        name = context.command_path if context is not None else "metaharness"
        complain(message[:1].lower() + message[1:], f"`{name} --help` shows what is valid")
    return int(error.exit_code)
