"""`airflow detection apply`, `check`, `promote`, `correct`, `confirm`: what is registered, in which role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.command import (
    DRY_RUN,
    FILE,
    Arguments,
    arg,
    command,
    connected,
    fail,
    instant,
    say,
)
from airflow_detection.errors import DetectionError, RegistrationError
from airflow_detection.store.database import Database

if TYPE_CHECKING:
    import psycopg

    from airflow_detection.domain.settings import Settings


@command
def apply(args: Arguments) -> None:
    """Bring the registry to what a YAML file says."""
    from airflow_detection.registration.apply import apply_file

    with connected() as (conn, held):
        changes = apply_file(conn, Path(args.file), held.schema, dry_run=args.dry_run)
    for line in changes:
        say(line)
    if not changes:
        say("nothing to change")


@command
def check(args: Arguments) -> None:
    """Look at connection, migrations, schedules, task options, entry points and plans; tell every problem."""
    del args
    with connected() as (conn, held):
        problems = list(_problems(conn, held))
    if problems:
        fail("\n".join(problems))
    say("all is well: connection, migrations, schedules, entry points, plans")


def _problems(conn: psycopg.Connection[tuple[Any, ...]], held: Settings) -> Iterator[str]:
    from airflow_detection.store import migrations, registry

    try:
        migrations.check(Database(conn, held.schema))
        cycles = registry.cycle_ids(Database(conn, held.schema))
    except DetectionError as error:
        yield str(error)
        return
    for cycle_id in cycles:
        yield from _cycle_problems(conn, held, cycle_id)
    try:
        yield from _model_problems(conn, held)
    except RegistrationError as error:
        yield str(error)


def _model_problems(conn: psycopg.Connection[tuple[Any, ...]], held: Settings) -> Iterator[str]:
    from airflow_detection.engine.entrypoints import load_class
    from airflow_detection.registration.task_options import option_problems
    from airflow_detection.store import registry

    models = registry.model_specs(Database(conn, held.schema))
    for spec in models:
        for key, fact in option_problems(spec.task_options):
            yield f"model {spec.model_id}: task_options.{key}: {fact}"
    own = {spec.model_id: spec.entrypoint for spec in models}
    used = {(f"model {model_id}", entrypoint) for model_id, entrypoint in own.items()}
    used |= {
        (f"version {v.label}", v.entrypoint)
        for v in registry.versions(Database(conn, held.schema))
        if v.entrypoint
    }
    for place, entrypoint in sorted(used):
        try:
            load_class(entrypoint, held.allowed_prefixes)
        except DetectionError as error:
            yield f"{place}: {error}"
        except Exception as error:
            yield f"{place}: entry point {entrypoint!r} cannot be imported: {type(error).__name__}: {error}"


def _cycle_problems(
    conn: psycopg.Connection[tuple[Any, ...]], held: Settings, cycle_id: str
) -> Iterator[str]:
    from airflow_detection.domain.cron import cron_problem
    from airflow_detection.engine.plan import build_plan
    from airflow_detection.store import registry

    try:
        fact = cron_problem(registry.cycle_spec(Database(conn, held.schema), cycle_id).schedule)
        drawn = build_plan(registry.models_at(Database(conn, held.schema), cycle_id, None), strict=False)
    except DetectionError as error:
        yield f"cycle {cycle_id}: {error}"
        return
    if fact:
        yield f"cycle {cycle_id}: {fact}"
    for model_id, reason in sorted(drawn.broken.items()):
        yield f"cycle {cycle_id}: model {model_id}: {reason}"


@command
def promote(args: Arguments) -> None:
    """Make a version PRIMARY from now on."""
    from airflow_detection.domain.specs import Role
    from airflow_detection.store import registry, roles

    with connected() as (conn, held):
        named = registry.named_versions(Database(conn, held.schema), [args.label])[0]
        is_new = roles.assign_role(
            Database(conn, held.schema),
            model_id=named.model_id,
            version=named.version,
            role=Role.PRIMARY,
            reason=args.reason,
        )
    say(f"{named.label} {'is PRIMARY from now on' if is_new else 'is PRIMARY already'}")


@command
def correct(args: Arguments) -> None:
    """Put a wrong history of roles right; what was known before stays."""
    from airflow_detection.domain.specs import Role
    from airflow_detection.store.roles import correct_roles

    role = None if args.role == "none" else Role(args.role)
    with connected() as (conn, held):
        is_news = correct_roles(
            Database(conn, held.schema),
            label=args.label,
            role=role,
            since=args.since,
            until=args.until,
            actor=args.actor,
            reason=args.reason,
        )
    span = f"from {args.since.isoformat()} to {args.until.isoformat() if args.until else 'now and on'}"
    say(f"{args.label} {'had' if is_news else 'had already'} {role or 'no role'} {span}")


@command
def confirm(args: Arguments) -> None:
    """Let a change through that takes most of a cycle's models away."""
    from airflow_detection.store import confirmations

    with connected() as (conn, held):
        models = confirmations.confirm(Database(conn, held.schema), args.cycle, reason=args.reason)
    say(f"cycle {args.cycle} is meant to have {len(models)} models: {', '.join(sorted(models)) or 'none'}")


def commands() -> list[ActionCommand]:
    """Return these commands."""
    label = arg("label", help="the version", metavar="MODEL@VERSION")
    reason = arg("--reason", help="why, for the history", default="")
    why = arg("--reason", help="why, for the history", required=True)
    role = arg("role", help="the role it held, or none", choices=("PRIMARY", "SHADOW", "CHALLENGER", "none"))
    since = arg(
        "--from", help="since this instant (UTC)", type=instant, metavar="T", dest="since", required=True
    )
    until = arg(
        "--to",
        help="up to this instant (UTC); on and on unless given",
        type=instant,
        metavar="T",
        dest="until",
    )
    actor = arg("--actor", help="who says so; the database's user unless given")
    cycle = arg("cycle", help="the cycle's id", metavar="CYCLE")
    return [
        ActionCommand("apply", "Register what a YAML file says", apply, (FILE, DRY_RUN)),
        ActionCommand("check", "Look for everything that is wrong", check, ()),
        ActionCommand("promote", "Make a version PRIMARY from now on", promote, (label, reason)),
        ActionCommand("confirm", "Confirm the models that a cycle is left with", confirm, (cycle, reason)),
        ActionCommand(
            "correct", "Correct who held which role", correct, (label, role, since, until, why, actor)
        ),
    ]
