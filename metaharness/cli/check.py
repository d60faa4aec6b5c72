"""`check`: is this a domain that can be searched?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import command

INVALID = 3
DomainArgument = Annotated[str, typer.Argument(help="A domain folder, module:attribute, or a shipped example.")]


@command(
    """
    metaharness check my_domain
    metaharness check text_classification --data DATA --text-field question --label-field answer
    """
)
def check(
    domain: DomainArgument,
    data: options.Data = None,
    text_field: options.TextField = None,
    label_field: options.LabelField = None,
    domain_option: options.DomainOption = None,
    model: options.Model = "embedded:icl",
    base_url: options.BaseUrl = None,
    judge: options.Judge = None,
    no_cache: options.NoCache = False,
    sandbox: options.Sandbox = "auto",
    sandbox_command: options.SandboxCommand = None,
    as_json: options.AsJson = False,
) -> None:
    """Check a domain: splits, evaluator, baselines on the ladder, text shared across splits."""
    import anyio

    from metaharness.configuration import RunConfig
    from metaharness.testing import check_domain

    config = RunConfig(
        domain=options.domain_reference(domain),
        domain_options=options.domain_options(data, text_field, label_field, domain_option),
        models=options.models(model, base_url, judge),
        **options.means(sandbox, sandbox_command, None, no_cache),
    )
    report = anyio.run(check_domain, config)
    if as_json:
        options.print_json({**asdict(report), "valid": report.valid})
    else:
        typer.echo(f"domain {report.domain}: " + ", ".join(f"{name} {count}" for name, count in report.splits.items()))
        if report.seal is not None:
            typer.echo(f"the test cases are sealed: {report.seal} stands for them")
        typer.echo(f"baselines on the ladder: {', '.join(report.baselines) or 'none'}")
        if report.packages:
            typer.echo(f"harnesses may import: {', '.join(report.packages)}")
        for warning in report.warnings:
            typer.echo(f"warning: {warning}")
        for problem in report.problems:
            typer.echo(f"problem: {problem}")
        typer.echo("valid" if report.valid else "not valid: see the problems above")
    if not report.valid:
        raise typer.Exit(INVALID)
