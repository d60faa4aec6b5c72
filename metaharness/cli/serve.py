"""`serve`: the tools for a coding agent, over MCP."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.flags import MaxCalls, MaxCandidates, MaxCases, MaxTokens, Patience, budget

Domain = Annotated[
    str | None,
    typer.Option("--domain", "-d", envvar="METAHARNESS_DOMAIN", help="What `start_run` begins runs of."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar=["METAHARNESS_MODEL", "EVALUATOR_MODEL"],
        help="embedded:icl, anthropic:NAME or openai:NAME.",
    ),
]
MaxUsd = Annotated[
    float | None, typer.Option("--budget-usd", envvar="METAHARNESS_BUDGET_USD", min=0, help="Dollars, at most.")
]
Root = Annotated[
    Path | None,
    typer.Option("--root", envvar="METAHARNESS_ROOT", help="The folder of all runs. Default: `runs` in the project."),
]
Project = Annotated[
    Path | None,
    typer.Option(
        "--project",
        exists=True,
        file_okay=False,
        help="The folder that candidates and domains are read from. Default: what the client has open.",
    ),
]
InRun = Annotated[
    str | None,
    typer.Option("--run", "-r", envvar="METAHARNESS_RUN", help="The run that is meant where a call names none."),
]
Http = Annotated[
    int | None, typer.Option("--http", metavar="PORT", min=0, max=65535, help="HTTP on 127.0.0.1 instead of stdio.")
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="METAHARNESS_TOKEN", help="What HTTP clients present. Default: made up, printed."),
]
Iterations = Annotated[int, typer.Option("--iterations", "-n", min=0, help="Candidates that a run takes.")]


@command(
    """
    metaharness serve
    metaharness serve --domain my_domain -m anthropic:claude-haiku-4-5 --budget-usd 10
    claude mcp add metaharness -- metaharness serve --domain my_domain
    metaharness serve --http 8931
    """
)
def serve(
    domain: Domain = None,
    data: options.Data = None,
    text_field: options.TextField = None,
    label_field: options.LabelField = None,
    domain_option: options.DomainOption = None,
    model: Model = "embedded:icl",
    base_url: options.BaseUrl = None,
    judge: options.Judge = None,
    price: options.Price = None,
    no_cache: options.NoCache = False,
    iterations: Iterations = 30,
    patience: Patience = None,
    concurrency: options.Concurrency = 8,
    trials: options.Trials = 1,
    limit: options.Limit = None,
    objective: options.Objectives = None,
    seed: options.Seed = 0,
    sandbox: options.Sandbox = "auto",
    sandbox_command: options.SandboxCommand = None,
    budget_candidates: MaxCandidates = None,
    budget_cases: MaxCases = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    root: Root = None,
    project: Project = None,
    run_name: InRun = None,
    http: Http = None,
    token: Token = None,
) -> None:
    """Offer the tools to a coding agent over MCP: it writes the candidates, here they are evaluated.

    What these options say of model, budget and sandbox holds for the runs that the agent begins; it can change none of
    it, and cannot open the sealed test. A run that was begun otherwise keeps what it was begun with.
    """
    from mcp_server.serving import serve as serve_tools
    from metaharness.tools import Settings

    chosen: dict[str, Any] = options.scored(trials, limit, concurrency, seed, objective)
    chosen |= {"iterations": iterations, "patience": patience, "models": options.models(model, base_url, judge)}
    chosen["domain_options"] = options.domain_options(data, text_field, label_field, domain_option)
    chosen["budget"] = budget(budget_candidates, budget_cases, budget_calls, budget_tokens, budget_usd)
    chosen |= options.means(sandbox, sandbox_command, price, no_cache)
    chosen |= {} if domain is None else {"domain": options.domain_reference(domain)}
    project = (project or _opened()).resolve()
    token = _made_up() if http is not None and not token else token
    settings = Settings(root=(root or project / "runs").resolve(), project=project, run=run_name, config=chosen)
    serve_tools(settings, port=http, token=token, told=lambda url: print(url, file=sys.stderr, flush=True))


def _made_up() -> str:
    """What HTTP clients present; printed, as nobody has chosen it."""
    token = secrets.token_urlsafe(24)
    print(f"Authorization: Bearer {token}", file=sys.stderr)
    return token


def _opened() -> Path:
    """The folder that the client has open, as far as it says so; else the one this was started in."""
    cursor = os.environ.get("WORKSPACE_FOLDER_PATHS", "").split(",")[0]
    said = os.environ.get("CLAUDE_PROJECT_DIR") or cursor
    return Path(said) if said and Path(said).is_dir() else Path.cwd()
