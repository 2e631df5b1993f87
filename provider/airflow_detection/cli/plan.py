"""`airflow detection plan`: the versions that run in a cycle, and what the next parse changes in its Dag."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.command import (
    NOW,
    Arguments,
    arg,
    command,
    connected,
    instant,
    instant_or_now,
    say,
    say_json,
)
from airflow_detection.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_detection.domain.specs import CycleSettings
    from airflow_detection.engine.plan import ExecutionPlan

NEW_VERSION = 3
"""Exit code of `plan --diff` if the next parse makes a new Dag version; 0 if it makes none, 1 on an error."""


@command
def plan(args: Arguments) -> None:
    """Show which versions run in a cycle, and in which order; with --diff, what the next parse changes."""
    if args.diff:
        _diff(args)
        return
    if args.cycle is None or args.file is not None:
        raise ConfigurationError("name a cycle, or ask for --diff, which alone takes --file")
    from airflow_detection.engine.plan import build_plan
    from airflow_detection.store import registry

    with connected() as (db, _):
        spec = registry.cycle_spec(db, args.cycle)
        known_at = registry.clock(db) if args.known_at == NOW else args.known_at
        models = registry.models_at(db, spec.cycle_id, args.at, known_at)
        settings = registry.settings_at(db, spec.cycle_id, args.at, known_at)
    execution_plan = build_plan(models, strict=False, settings=settings)
    if args.output == "json":
        own = {"digest": execution_plan.digest, "description": spec.description}
        say_json({**own, **execution_plan.to_json()})
        return
    for line in _plan_lines(execution_plan):
        say(line)


def _plan_lines(execution_plan: ExecutionPlan) -> Iterator[str]:
    if not execution_plan.topo_order:
        yield "no version held a role then: nothing runs"
    for model_id in execution_plan.topo_order:
        behind = ", ".join(execution_plan.upstreams(model_id))
        yield f"{model_id}{f'  after {behind}' if behind else ''}"
        if model_id in execution_plan.broken:
            yield f"  broken: {execution_plan.broken[model_id]}"
            continue
        champion = execution_plan.primaries.get(model_id)
        if champion is None:
            yield "  no PRIMARY: it does not run"
        versions = ((champion,) if champion else ()) + tuple(execution_plan.shadows.get(model_id, ()))
        for version in versions:
            yield f"  {version.role:<10} {version.version}  {version.entrypoint}"
    if execution_plan.settings is not None:
        yield from _settings_lines(execution_plan.settings)
    yield f"digest {execution_plan.digest}"


def _settings_lines(settings: CycleSettings) -> Iterator[str]:
    yield f"lookback {settings.lookback}"
    if settings.time_key is not None:
        yield f"time_key {settings.time_key}"
    yield "input_query" if settings.input_query else "no input_query"
    for line in (settings.input_query or "").strip().splitlines():
        yield f"  {line}"


def _diff(args: Arguments) -> None:
    from airflow_detection.dags.difference import differences
    from airflow_detection.domain.names import dag_id_of

    dag_id = dag_id_of(args.cycle) if args.cycle else None
    with connected() as (db, settings):
        dags = differences(db, settings, file=Path(args.file) if args.file else None, dag_id=dag_id)
    if dag_id and not dags:
        raise ConfigurationError(f"cycle {args.cycle!r} is neither registered nor known on this machine")
    if args.output == "json":
        say_json({dag.dag_id: list(dag.changes) for dag in dags})
    else:
        for line in (line for dag in dags for line in dag.lines()):
            say(line)
    if any(dag.changes for dag in dags):
        sys.exit(NEW_VERSION)


def commands() -> list[ActionCommand]:
    """Return this command."""
    cycle = arg("cycle", help="the cycle's id; --diff can do without", nargs="?", metavar="CYCLE")
    at = arg("--at", help="as of this instant (UTC); now unless given", type=instant, metavar="T")
    known_at = arg(
        "--known-at",
        help="with what was known at this instant (UTC, or now), corrections included",
        type=instant_or_now,
        metavar="T",
    )
    output = arg("--output", help="how to print", choices=("text", "json"), default="text")
    diff = arg(
        "--diff",
        help=f"tell whether the next parse here makes a new Dag version: exit {NEW_VERSION} if so, else 0;"
        " what the Dag file gives to cycle_dags is the same before and after, and left out",
        action="store_true",
    )
    file = arg("--file", help="with --diff: after this file is applied; it is not", metavar="FILE")
    return [ActionCommand("plan", "Show a cycle's plan", plan, (cycle, at, known_at, output, diff, file))]
