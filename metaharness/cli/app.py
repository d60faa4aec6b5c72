"""The application: its commands, and what an error looks like.

Nothing of the engine is imported before a command needs it, so that `--help` is quick.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from metaharness import __version__, variables
from metaharness.cli.grouping import Grouped
from metaharness.cli.telling import telling
from metaharness.cli.text import printable
from metaharness.errors import MetaharnessError

P = ParamSpec("P")

INTERRUPTED = 130
EPILOG = """Exit codes: 0 success; 1 a failure of ours or of the environment; 2 wrong usage;
3 the candidate or the domain is invalid; 4 a gate did not pass; 130 interrupted (resume goes on)."""

ORDER = (
    *("demo", "init", "check", "seal", "plan", "calibrate", "evaluate", "run", "resume", "fork", "submit", "finish"),
    *("regrade", "evaluate-cases"),
    *("export", "runs", "lineage", "scoreboard", "show", "trace", "diff", "compare", "summary", "cost"),
    *("memory", "cache", "doctor"),
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
            except OSError as error:
                raise typer.Exit(_cut_off(error)) from error

        lines = "\n\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
        app.command(cls=Grouped, epilog=f"Examples:\n\n{lines}")(guarded)
        return guarded

    return register


def complain(message: str, hint: str | None = None) -> None:
    """Tell an error on stderr. Both texts may hold what a candidate, a model or a file has said."""
    typer.echo(f"error: {printable(message)}", err=True)
    if hint is not None:
        typer.echo(f"hint: {printable(hint)}", err=True)


def _cut_off(error: OSError) -> int:
    """The exit code where the output cannot be written: a full disk is told, a reader that went away is none to tell.

    Raises:
        OSError: It is about something else.
    """
    if not isinstance(error, BrokenPipeError) and not _of_output(error):
        raise error
    for stream in filter(None, (sys.stdout, sys.stderr)):
        _drain(stream)
    if not isinstance(error, BrokenPipeError):
        complain(f"the output cannot be written: {error.strerror or error}")
    return 1


def _of_output(error: OSError) -> bool:
    """Whether it was raised by a line that prints: one of the command line's own, or of what it echoes with."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    origin = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    return error.filename is None and origin.startswith(("metaharness.cli.", "typer.", "click."))


def _drain(stream: Any) -> None:
    """Point a stream that cannot be flushed at nothing: Python flushes it once more at the end, and exits with 120."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):  # a stream without a file descriptor is nobody's to flush
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit code.

    Args:
        argv: The arguments without the program's name; None takes those of the process.
    """
    _register()
    telling()
    try:
        variables.read_file(Path.cwd())
    except MetaharnessError as error:
        complain(error.message, error.hint)
        return error.exit_code
    try:
        code = app(args=argv, prog_name="metaharness", standalone_mode=False, default_map=_of_file())
        if sys.stdout is not None:  # as it is where a process was started without one
            sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except OSError as error:
        return _cut_off(error)
    except Exception as error:  # typer keeps its own errors elsewhere in every other version
        if not hasattr(error, "format_message"):
            raise
        return _misused(error)
    return code if isinstance(code, int) else 0


def _register() -> None:
    """All commands."""
    from metaharness.cli import (  # noqa: F401 - they register
        cache,
        calibrate,
        check,
        cost,
        demo,
        doctor,
        evaluate,
        export,
        finish,
        fork,
        init,
        inspect,
        lineage,
        memory,
        partial,
        plan,
        regrade,
        runs,
        seal,
        search,
        serve,
        show,
        submit,
    )


def _of_file() -> dict[str, dict[str, str]]:
    """What the variables of a `.env` say of options, by command and option: after what the environment says."""
    commands = getattr(typer.main.get_command(app), "commands", {}) if variables.any_of_file() else {}
    return {
        name: {one.name: value for one in found.params if (value := _value_of_file(one)) is not None}
        for name, found in commands.items()
    }


def _value_of_file(parameter: Any) -> str | None:
    names = parameter.envvar or ()
    for name in (names,) if isinstance(names, str) else names:
        if variables.get(name):
            return variables.get(name)
    return None


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
