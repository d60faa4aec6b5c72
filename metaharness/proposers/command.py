"""The proposer `command`: any coding agent that is a program, started anew for every round.

It finds the skill and the task of the round on its standard input, the run's history in its working directory, and the
tools of the run as an MCP server, for which the configurations that agents read are written. In its command these are
filled in: `{mcp_config}`, a JSON file with `mcpServers`; `{workspace}`, the working directory; `{task}`, a file with
the text of standard input. It runs in a jail: it sees its workspace and what `--proposer-file` names, and reaches the
endpoint of its model.

Not guarded: what the program tells the endpoint it may reach; what it uses there is not metered.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from anyio.abc import ByteStream

from metaharness.configuration import RunConfig
from metaharness.errors import UsageError
from metaharness.gateway.providers.remote import key_variable
from metaharness.jail import Bounds, Ended, Jail, make_sure, run_jailed, run_unjailed
from metaharness.machine.clearing import remove_whole
from metaharness.messages import ModelSpec
from metaharness.proposers.jails import check_jailing, secrets_of
from metaharness.proposers.prompts import filled, skill_text, task_text
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.sessions import Session
from metaharness.tools import Desk, seat_tools, seated
from metaharness.tools.workspace import Workspace

if TYPE_CHECKING:
    from metaharness.proposers import Converse

SERVER = "metaharness"
TASK = "TASK.md"
CONFIG = "mcp.json"
ENDPOINTS: Mapping[str, str] = {"anthropic": "https://api.anthropic.com", "openai": "https://api.openai.com"}
KEYS: Mapping[str, tuple[str, str]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
}
"""Variables with the key and with the base URL, as agent programs read them."""
WHERE = """\
You work in a folder of your own: `README.md` says what lies in it. The tools named here are those of the MCP server
`metaharness`, which is configured for you. Nothing counts but what you hand in with them.
"""


def check_command(config: RunConfig) -> None:
    """Make sure that the program can be started, and jailed.

    Raises:
        UsageError: No command was given, there is no such program, its skill cannot be read, something that is told of
            its jail is wrong, or a bound is set on what nobody meters.
        SandboxError: No jail can be made here; the hint says what to install.
    """
    _program(config)
    skill_text(config.proposing.skill)
    if config.proposing.usd is not None or "proposer" in config.budget.roles:
        raise UsageError(
            "what a program uses at its model is not metered, so no bound on it would hold",
            hint="leave out --proposer-usd and --role-budget proposer:...; bound its time with --proposer-timeout",
        )
    if not config.proposing.unjailed:
        check_jailing(config.proposing)
        make_sure()


def _program(config: RunConfig) -> list[str]:
    command = config.proposing.command
    try:
        words = shlex.split(command or "")
    except ValueError as error:
        raise UsageError(f"--proposer-command cannot be read: {error}", hint="quote it as in a shell") from error
    if not words:
        raise UsageError("the proposer `command` needs a command", hint="--proposer-command 'codex exec ...'")
    if shutil.which(words[0]) is None:
        raise UsageError(f"there is no program {words[0]!r}", hint="give its path, or install it where PATH leads")
    return words


class CommandProposer:
    """Starts the program for every round."""

    def __init__(self, run: Run, converse: Converse | None) -> None:
        """Take the run, open for recording, and what serves the tools over a connection.

        Raises:
            UsageError: Its jail would show what it must not see.
        """
        if converse is None:
            raise UsageError("an agent program needs the tools over MCP", hint="start it with `metaharness run`")
        self._run = run
        self._converse = converse
        self._workspace = Workspace(run)
        self._home = Path(tempfile.mkdtemp(prefix="metaharness-home-")).resolve()
        self.remove = weakref.finalize(self, remove_whole, self._home)
        """Remove its home; done at the end of the process at the latest."""
        if not run.config.proposing.unjailed:
            self._jail(_program(run.config)[0]).check()

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """What the program hands in."""
        session = Session(self._run, round_, model=self._run.config.models.get("proposer"))
        await anyio.to_thread.run_sync(self._workspace.update, session.name)
        skill = filled(skill_text(self._run.config.proposing.skill), self._run.config.proposing, round_)
        task = f"{skill}\n\n{WHERE}\n{task_text(self._run, round_, turns=False)}"

        async def work(desk: Desk, of: Session) -> None:
            _conclude(of, await self._started(desk, of, task))

        async for proposal in seated(self._run, round_, session, self._workspace.folder, work):
            yield proposal

    async def _started(self, desk: Desk, session: Session, task: str) -> Ended:
        proposing = self._run.config.proposing
        folder = self._workspace.folder
        (folder / TASK).write_text(task, encoding="utf-8")
        remove_whole(self._home)
        self._home.mkdir(
            mode=0o700
        )  # what is left of the session before could lead out of it: then there is no session
        words = _program(self._run.config)
        jail = self._jail(words[0])

        async def converse(stream: ByteStream) -> None:
            await self._converse(desk, seat_tools(), stream)

        def arguments(cell: Any) -> tuple[str, ...]:
            session.jailed(cell.sealed_by())  # before it begins: a session that is killed has said it too
            write_configurations(folder, None if proposing.unjailed else self._home, cell.bridge(SERVER))
            places = {"{mcp_config}": folder / CONFIG, "{workspace}": folder, "{task}": folder / TASK}
            return tuple(_filled(word, places) for word in words[1:])

        session.unmetered()
        run: Callable[..., Any] = run_unjailed if proposing.unjailed else run_jailed
        said = self._run.domain.redact
        ended: Ended = await run(
            jail,
            on_line=lambda line: session.say("stdout", text=said(line)),
            stdin=task.encode("utf-8"),
            arguments=arguments,
            serve={SERVER: converse},
        )
        return ended

    def _jail(self, program: str) -> Jail:
        config = self._run.config
        proposing = config.proposing
        spec = config.models.get("proposer")
        home = Path.home()
        given = [Path(path).expanduser().absolute() for path in proposing.files]
        at_home = {path.relative_to(home).as_posix(): path for path in given if path.is_relative_to(home)}
        return Jail(
            program=(program,),
            workspace=self._workspace.folder,
            writable=("candidate",),
            home=None if proposing.unjailed else self._home,
            home_files=at_home,
            readable=tuple(path for path in given if not path.is_relative_to(home)),
            hidden=secrets_of(self._run),
            destinations=(*_endpoint(spec), *proposing.destinations),
            passed=(*proposing.environment, *_keys(spec)),
            environment=_base_url(spec),
            bounds=Bounds(seconds=proposing.timeout),
        )


def _endpoint(spec: ModelSpec | None) -> tuple[str, ...]:
    if spec is None:
        return ()
    url = spec.base_url or ENDPOINTS.get(spec.provider)
    return () if url is None else (url,)


def _keys(spec: ModelSpec | None) -> tuple[str, ...]:
    """The variable with its key; that of another service is not passed on."""
    return (key_variable(KEYS[spec.provider][0], spec.base_url),) if spec is not None and spec.provider in KEYS else ()


def _base_url(spec: ModelSpec | None) -> dict[str, str]:
    if spec is None or spec.base_url is None or spec.provider not in KEYS:
        return {}
    return {KEYS[spec.provider][1]: spec.base_url}


def _filled(word: str, places: Mapping[str, Path]) -> str:
    for name, path in places.items():
        word = word.replace(name, str(path))
    return word


def write_configurations(workspace: Path, home: Path | None, bridge: list[str]) -> None:
    """Write how the tools are reached, where agent programs look for it.

    Args:
        workspace: Their working directory.
        home: Their home, where it is one of their own; None: it is the user's, and is left alone.
        bridge: What they start and speak to over stdio.
    """
    entry = {"command": bridge[0], "args": bridge[1:]}
    servers = json.dumps({"mcpServers": {SERVER: entry}}, indent=2) + "\n"
    opencode = {"mcp": {SERVER: {"type": "local", "command": bridge, "enabled": True}}}
    files = {
        CONFIG: servers,
        ".mcp.json": servers,
        ".cursor/mcp.json": servers,
        ".gemini/settings.json": servers,
        "opencode.json": json.dumps(opencode, indent=2) + "\n",
    }
    for name, text in files.items():
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).write_text(text, encoding="utf-8")
    if home is not None:
        (home / ".codex").mkdir(exist_ok=True)
        table = f"[mcp_servers.{SERVER}]\ncommand = {json.dumps(bridge[0])}\nargs = {json.dumps(bridge[1:])}\n"
        (home / ".codex" / "config.toml").write_text(table, encoding="utf-8")


def _conclude(session: Session, ended: Ended) -> None:
    """Record how it ended.

    Raises:
        RuntimeError: It failed.
    """
    for one in ended.attempts:
        session.say("network", host=one.host, port=one.port, allowed=one.allowed, count=one.count)
    if ended.stderr_tail:
        session.say("stderr", text=ended.stderr_tail)
    if ended.ended_because is not None:
        session.limited("timeout" if "longer than" in ended.ended_because else "bounds", ended.ended_because)
    elif ended.exit_code:
        tail = ended.stderr_tail.strip()[-500:]
        raise RuntimeError(f"the program ended with exit status {ended.exit_code}" + (f": {tail}" if tail else ""))
