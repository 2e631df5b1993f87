"""`airflow detection apply`, `check`, `promote`, `correct`, `confirm`: registrations and roles."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
    warn,
)
from airflow_detection.domain.text import visible
from airflow_detection.errors import DetectionError, RegistrationError

if TYPE_CHECKING:
    from airflow_detection.domain.settings import Settings
    from airflow_detection.store.database import Database


@command
def apply(args: Arguments) -> None:
    """Bring the registry to what a YAML file says."""
    from airflow_detection.registration.apply import apply_file

    with connected() as (db, _):
        changes = apply_file(
            db, Path(args.file), dry_run=args.dry_run, undoes_promotions=args.roles == "from-file"
        )
    for line in changes:
        say(line)
    if not changes:
        say("nothing to change")


@command
def export(args: Arguments) -> None:
    """Write the registration file of what is registered."""
    from airflow_detection.registration.export import registration_yaml

    del args
    with connected() as (db, _):
        text = registration_yaml(db)
    sys.stdout.write(text)


@command
def check(args: Arguments) -> None:
    """Look at connection, migrations, schedules, task options, entry points and plans; tell every problem."""
    del args
    with connected() as (db, settings):
        problems = list(_problems(db, settings))
        for warning in _reader_warnings(db, settings):
            warn(f"warning: {warning}")
    if problems:
        fail("\n".join(map(visible, problems)))
    say("all is well: connection, migrations, schedules, entry points, plans")


def _problems(db: Database, settings: Settings) -> Iterator[str]:
    from airflow_detection.store import migrations, registry

    try:
        migrations.check(db)
        cycles = registry.cycle_ids(db)
    except DetectionError as error:
        yield str(error)
        return
    for cycle_id in cycles:
        yield from _cycle_problems(db, settings, cycle_id)
    try:
        yield from _model_problems(db, settings)
    except RegistrationError as error:
        yield str(error)


def _reader_warnings(db: Database, settings: Settings) -> Iterator[str]:
    """Describe what the login that models read as may do beyond reading."""
    from airflow_detection.hooks.detection import DetectionHook
    from airflow_detection.store.database import Database
    from airflow_detection.store.grants import rights_beyond_reading

    advice = "airflow detection grants --reader LOGIN makes a login for [detection] reader_conn_id"
    try:
        if settings.reader_conn_id is None:
            rights = list(rights_beyond_reading(db))
        else:
            with DetectionHook(settings.reader_conn_id, schema=settings.schema).connect() as conn:
                rights = list(rights_beyond_reading(Database(conn, settings.schema)))
    except DetectionError as error:
        yield f"the connection that models read through: {error}"
        return
    yield from (f"{right}; {advice}" for right in rights)


def _model_problems(db: Database, settings: Settings) -> Iterator[str]:
    from airflow_detection.engine.entrypoints import load_class
    from airflow_detection.evidence.policy import policy_problems
    from airflow_detection.registration.task_options import option_problems
    from airflow_detection.store import registry

    models = registry.model_specs(db)
    for spec in models:
        for key, reason in option_problems(spec.task_options):
            yield f"model {spec.model_id}: task_options.{key}: {reason}"
        for key, reason in policy_problems(spec.promotion):
            yield f"model {spec.model_id}: promotion.{key}: {reason}"
    own = {spec.model_id: spec.entrypoint for spec in models}
    used = {(f"model {model_id}", entrypoint) for model_id, entrypoint in own.items()}
    used |= {(f"version {v.label}", v.entrypoint) for v in registry.versions(db) if v.entrypoint}
    for place, entrypoint in sorted(used):
        try:
            load_class(entrypoint, settings.allowed_prefixes)
        except DetectionError as error:
            yield f"{place}: {error}"
        except Exception as error:
            yield f"{place}: entry point {entrypoint!r} cannot be imported: {type(error).__name__}: {error}"


def _cycle_problems(db: Database, settings: Settings, cycle_id: str) -> Iterator[str]:
    from airflow_detection.domain.cron import cron_problem
    from airflow_detection.engine.plan import build_plan
    from airflow_detection.store import registry

    try:
        reason = cron_problem(registry.cycle_spec(db, cycle_id).schedule)
        execution_plan = build_plan(registry.models_at(db, cycle_id, None), strict=False)
    except DetectionError as error:
        yield f"cycle {cycle_id}: {error}"
        return
    if reason:
        yield f"cycle {cycle_id}: {reason}"
    for model_id, reason in sorted(execution_plan.broken.items()):
        yield f"cycle {cycle_id}: model {model_id}: {reason}"


@command
def correct(args: Arguments) -> None:
    """Put a wrong history of roles right; what was known before stays."""
    from airflow_detection.domain.specs import Role
    from airflow_detection.store.roles import correct_roles

    role = None if args.role == "none" else Role(args.role)
    with connected() as (db, _):
        is_news = correct_roles(
            db,
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

    with connected() as (db, _):
        models = confirmations.confirm(db, args.cycle, reason=args.reason)
    say(f"cycle {args.cycle} is meant to have {len(models)} models: {', '.join(sorted(models)) or 'none'}")


def commands() -> list[ActionCommand]:
    """Return these commands."""
    label = arg("label", help="the version", metavar="MODEL@VERSION")
    reason = arg("--reason", help="why, for the history", default="")
    required_reason = arg("--reason", help="why, for the history", required=True)
    role = arg("role", help="the role it holds, or none", choices=("PRIMARY", "SHADOW", "CHALLENGER", "none"))
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
    from_file = arg(
        "--roles",
        help="from-file: give roles as the file says, also where a promotion or a rollback is undone",
        choices=("from-file",),
    )
    cycle = arg("cycle", help="the cycle's id", metavar="CYCLE")
    return [
        ActionCommand("apply", "Register what a YAML file says", apply, (FILE, DRY_RUN, from_file)),
        ActionCommand("export", "Write the registry as a YAML file", export, ()),
        ActionCommand("check", "Look for everything that is wrong", check, ()),
        ActionCommand("confirm", "Confirm the models that a cycle is left with", confirm, (cycle, reason)),
        ActionCommand(
            "correct",
            "Correct who holds which role",
            correct,
            (label, role, since, until, required_reason, actor),
        ),
    ]
