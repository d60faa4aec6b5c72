"""What the frontier of a run is over: the objectives of its domain, or its first and those that a person chose.

A chosen name is an objective that the domain declares, taken as declared; else one that the engine measures, see
`domain.MEASURES`; else a metric of the evaluator's grades. A metric has no range and no worst value: a case that has
failed, or whose grade lacks it, is in no mean of it. Whether grades carry it, only they tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from metaharness.configuration import RunConfig, parse_objective
from metaharness.domain import MEASURES, Domain
from metaharness.errors import UsageError
from metaharness.records import ObjectiveRecord

SHORT: Mapping[str, str] = {"latency": "latency_ms"}
"""What a person may say for a name that carries its unit."""
BUILT_IN = tuple({name: short for short, name in SHORT.items()}.get(name, name) for name in MEASURES)
"""The names of what the engine measures, as they are told to a person."""
UNITS: Mapping[str, str] = {
    "context_chars": "characters",
    "calls": "calls",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
    "usd": "US dollars",
    "latency_ms": "milliseconds",
    "harness_chars": "characters",
}


def run_objectives(config: RunConfig, domain: Domain) -> list[ObjectiveRecord]:
    """The objectives of a run with this configuration; the first is the domain's first.

    Raises:
        UsageError: A chosen one has no direction, is named twice, or is declared with the other direction.
    """
    declared = {objective.name: objective.record() for objective in domain.objectives}
    if not config.objectives:
        return list(declared.values())
    first = domain.objectives[0].name
    names = [*(name for name in declared if name not in MEASURES), *BUILT_IN]
    chosen: dict[str, ObjectiveRecord] = {}
    for text in config.objectives:
        said, direction = parse_objective(text, names)
        name = said if said in declared else SHORT.get(said, said)
        if name in chosen:
            raise UsageError(f"the objective {name} is named twice", hint="name each objective once")
        known = declared.get(name)
        if known is not None and known.direction != direction:
            raise UsageError(
                f"{domain.name} declares the objective {name} as {known.direction}, not as {direction}",
                hint=f"{name}:{known.direction}, or leave it out",
            )
        chosen[name] = known or ObjectiveRecord(name=name, direction=direction, unit=UNITS.get(name, ""))
    return [declared[first], *(objective for name, objective in chosen.items() if name != first)]
