"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metaharness.messages import ModelSpec
    from metaharness.store import RunStore

Domain = Annotated[
    str, typer.Option("--domain", "-d", help="A domain folder, module:attribute, or the name of a shipped example.")
]
Data = Annotated[
    str | None, typer.Option("--data", help="Folder with the domain's data: train.jsonl, search.jsonl, test.jsonl.")
]
TextField = Annotated[str | None, typer.Option(help="Field of the data that holds the text.")]
LabelField = Annotated[str | None, typer.Option(help="Field of the data that holds the label.")]
DomainOption = Annotated[
    list[str] | None, typer.Option("--domain-option", help="Any option of the domain, NAME=VALUE. Repeatable.")
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", envvar="EVALUATOR_MODEL", help="embedded:icl, scripted:FILE, anthropic:NAME or openai:NAME."
    ),
]
BaseUrl = Annotated[str | None, typer.Option(help="Another endpoint that speaks the model's wire format.")]
Judge = Annotated[str | None, typer.Option(help="A model for evaluators that ask one, written like --model.")]
Price = Annotated[
    list[str] | None,
    typer.Option("--price", help="MODEL=IN,OUT: dollars per million input and output tokens. Repeatable."),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor fill the shared cache of model answers.")]
Concurrency = Annotated[int, typer.Option("--concurrency", "-c", min=1, max=1024, help="Model calls in the air.")]
Trials = Annotated[int, typer.Option(min=1, help="Evaluate every case so many times.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many cases of the split.")]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        "--objective",
        metavar="NAME:min|max",
        help="What the frontier is over beside the domain's first objective, instead of its others. Per case: "
        "context_chars, usd (dollars), calls, latency (milliseconds; not repeatable), input_tokens, output_tokens; per "
        "harness: harness_chars; or one that the domain declares, or a metric of its grades. Repeatable.",
    ),
]
Seed = Annotated[int, typer.Option(help="Orders the cases and seeds model.random.")]
Sandbox = Annotated[
    str,
    typer.Option(
        help="Where candidate code runs: auto (the strongest that works here), bubblewrap, landlock, sandbox-exec; "
        "process contains nothing."
    ),
]
SandboxCommand = Annotated[
    str | None,
    typer.Option(
        help="Starts a worker over stdin and stdout instead, such as 'docker run -i --rm --network none IMAGE'."
    ),
]
Root = Annotated[Path, typer.Option("--root", envvar="METAHARNESS_ROOT", help="The folder of all runs.")]
RunName = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, its beginning or its path.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

DEFAULT_ROOT = Path("runs")


def domain_options(
    data: str | None, text_field: str | None, label_field: str | None, further: Sequence[str] | None
) -> dict[str, str]:
    """The options of a domain's factory, from the flags. A folder is made absolute, so that a run can be resumed."""
    from metaharness.errors import UsageError

    options = {
        name: value for name, value in (("text_field", text_field), ("label_field", label_field)) if value is not None
    }
    if data is not None:
        options["data"] = str(Path(data).expanduser().resolve())
    for item in further or ():
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"--domain-option {item!r} is not NAME=VALUE", hint="for example --domain-option split=2")
        options[name.replace("-", "_")] = value
    return options


def domain_reference(reference: str) -> str:
    """The domain as it is stored: a path is made absolute."""
    path = Path(reference).expanduser()
    return str(path.resolve()) if path.exists() else reference


def models(target: str, base_url: str | None, judge: str | None) -> dict[Any, ModelSpec]:
    """The model of each role."""
    from metaharness.gateway.providers import parse_model

    roles: dict[Any, ModelSpec] = {"target": parse_model(target, base_url)}
    if judge is not None:
        roles["judge"] = parse_model(judge, base_url if target.partition(":")[0] == judge.partition(":")[0] else None)
    return {role: _absolute(spec) for role, spec in roles.items()}


def model(name: str, base_url: str | None) -> ModelSpec:
    """One model."""
    from metaharness.gateway.providers import parse_model

    return _absolute(parse_model(name, base_url))


def _absolute(spec: ModelSpec) -> ModelSpec:
    """A script's path is made absolute, so that a run can be resumed from another folder."""
    if spec.provider != "scripted":
        return spec
    return spec.model_copy(update={"name": str(Path(spec.name).expanduser().resolve())})


def sandbox(name: str, prefix: str | None) -> dict[str, Any]:
    """The sandbox as a run is configured with it, from `--sandbox` and `--sandbox-command`."""
    from metaharness.errors import UsageError

    if prefix is None:
        return {"sandbox": name}
    if name not in ("auto", "command"):
        raise UsageError(f"--sandbox {name} and --sandbox-command exclude each other", hint="leave out one of them")
    return {"sandbox": "command", "sandbox_command": prefix}


def means(sandbox_name: str, prefix: str | None, price: Sequence[str] | None, no_cache: bool) -> dict[str, Any]:
    """What is evaluated with, as a run is configured: sandbox, prices, shared cache."""
    return {**sandbox(sandbox_name, prefix), "prices": prices(price), "cache": not no_cache}


def scored(
    trials: int, limit: int | None, concurrency: int, seed: int, objective: Sequence[str] | None
) -> dict[str, Any]:
    """What candidates are scored on, as a run is configured: cases, trials, `--objective NAME:min|max`."""
    from metaharness.configuration import parse_objective
    from metaharness.run.objectives import BUILT_IN

    for text in objective or ():
        parse_objective(text, BUILT_IN)  # `serve` begins no run yet; whether a domain has such names is seen there
    chosen = {"trials": trials, "limit": limit, "concurrency": concurrency, "seed": seed}
    return {**chosen, "objectives": tuple(objective or ())}


def prices(told: Sequence[str] | None) -> dict[str, tuple[float, float]]:
    """`--price MODEL=IN,OUT`, parsed."""
    from metaharness.errors import UsageError

    table: dict[str, tuple[float, float]] = {}
    for item in told or ():
        model, _, amounts = item.rpartition("=")
        try:
            into, out = (float(amount) for amount in amounts.split(","))
        except ValueError:
            model = ""
        if ":" not in model:
            raise UsageError(f"--price {item!r} is not MODEL=IN,OUT", hint="for example --price openai:kimi-k2=0.6,2.5")
        table[model] = (into, out)
    return table


def open_reader(root: Path, name: str | None) -> RunStore:
    """A run, opened for reading."""
    from metaharness.store import RunStore, find_run

    return RunStore.open(find_run(root, name), record=False)


def print_json(value: Any) -> None:
    """JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
