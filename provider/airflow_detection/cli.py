"""`airflow detection ...`: importing this costs nothing but argument descriptions."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

from airflow_detection.errors import DetectionError, RegistryUnavailable

if TYPE_CHECKING:
    import psycopg

    from airflow_detection.config import Settings
    from airflow_detection.engine.plan import ExecutionPlan

Arguments = argparse.Namespace
Command = Callable[[Arguments], None]


def _instant(text: str) -> datetime:
    """An argument that is an instant; without a time zone it is UTC."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant such as 2026-01-31T00:00:00Z") from error
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _instant_or_now(text: str) -> datetime | str:
    return NOW if text == NOW else _instant(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _arg(*flags: str, **options: Any) -> Arg:  # Any: what argparse takes
    return Arg(flags, **options)  # type: ignore[no-untyped-call]  # Airflow's own is untyped


NOW = "now"
FILE = _arg("file", help="the file", metavar="FILE")
DRY_RUN = _arg("--dry-run", help="tell what would be done, and do nothing", action="store_true")


def _command(run: Command) -> Command:
    """Errors of our tree are one clear line each on stderr, and exit 1."""

    @wraps(run)
    def guarded(args: Arguments) -> None:
        try:
            run(args)
        except DetectionError as error:
            _fail(str(error) or type(error).__name__)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    return guarded


def _fail(message: str) -> None:
    sys.stderr.write(f"{message.rstrip()}\n")
    sys.exit(1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


@contextmanager
def _connected() -> Iterator[tuple[psycopg.Connection[tuple[Any, ...]], Settings]]:
    """The registry's connection, from the metadata database too, and the settings."""
    # Without this a provider's command sees no connection that is stored in the metadata database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    import psycopg

    from airflow_detection.config import settings
    from airflow_detection.hooks.detection import DetectionHook

    held = settings()
    with DetectionHook.configured(held).connect() as conn:
        try:
            yield conn, held
        except psycopg.OperationalError as error:
            raise RegistryUnavailable(
                f"the registry's database did not answer: {str(error).strip()}"
            ) from error


@_command
def db_migrate(args: Arguments) -> None:
    """Bring the registry's schema up to date, or say whether it is."""
    from airflow_detection.store import migrate as migrations

    with _connected() as (conn, held):
        if args.check:
            migrations.check(conn, held.schema)
            _say("up to date")
            return
        names = migrations.migrate(conn, held.schema, dry_run=args.dry_run)
    for name in names:
        _say(f"{'pending' if args.dry_run else 'applied'} {name}")
    if not names:
        _say("up to date")


@_command
def grants(args: Arguments) -> None:
    """Make the database's least-privilege roles and give them their rights."""
    from airflow_detection.store.grants import ROLES, grant

    del args
    with _connected() as (conn, held):
        grant(conn, held.schema)
    _say(f"granted in schema {held.schema}: {', '.join(ROLES)}")


@_command
def apply(args: Arguments) -> None:
    """Bring the registry to what a YAML file says."""
    from airflow_detection.registration import apply_file

    with _connected() as (conn, held):
        changes = apply_file(conn, Path(args.file), held.schema, dry_run=args.dry_run)
    for line in changes:
        _say(line)
    if not changes:
        _say("nothing to change")


@_command
def plan(args: Arguments) -> None:
    """Show which versions run in a cycle, and in which order."""
    from airflow_detection.engine.plan import build_plan
    from airflow_detection.store import registry

    with _connected() as (conn, held):
        spec = registry.cycle_spec(conn, held.schema, args.cycle)
        known_at = registry.clock(conn, held.schema) if args.known_at == NOW else args.known_at
        models = registry.models_at(conn, held.schema, spec.cycle_id, args.at, known_at)
    drawn = build_plan(models, strict=False)
    if args.output == "json":
        _say(json.dumps({"digest": drawn.digest, **drawn.to_json()}, indent=2, sort_keys=True))
        return
    for line in _plan_lines(drawn):
        _say(line)


def _plan_lines(drawn: ExecutionPlan) -> Iterator[str]:
    if not drawn.topo_order:
        yield "no version held a role then: nothing runs"
    for model_id in drawn.topo_order:
        behind = ", ".join(drawn.upstreams(model_id))
        yield f"{model_id}{f'  after {behind}' if behind else ''}"
        if model_id in drawn.broken:
            yield f"  broken: {drawn.broken[model_id]}"
            continue
        champion = drawn.primaries.get(model_id)
        if champion is None:
            yield "  no PRIMARY: it does not run"
        versions = ((champion,) if champion else ()) + tuple(drawn.shadows.get(model_id, ()))
        for version in versions:
            yield f"  {version.role:<10} {version.version}  {version.entrypoint}"
    yield f"digest {drawn.digest}"


@_command
def check(args: Arguments) -> None:
    """Look at connection, migrations, schedules, entry points and plans; tell every problem."""
    del args
    with _connected() as (conn, held):
        problems = list(_problems(conn, held))
    if problems:
        _fail("\n".join(problems))
    _say("all is well: connection, migrations, schedules, entry points, plans")


def _problems(conn: psycopg.Connection[tuple[Any, ...]], held: Settings) -> Iterator[str]:
    from airflow_detection.cron import cron_problem
    from airflow_detection.engine.registry import load_class
    from airflow_detection.store import migrate as migrations
    from airflow_detection.store import registry

    try:
        migrations.check(conn, held.schema)
        cycles = registry.cycle_specs(conn, held.schema)
    except DetectionError as error:
        yield str(error)
        return
    own = {spec.model_id: spec.entrypoint for spec in registry.model_specs(conn, held.schema)}
    used = {(f"model {model_id}", entrypoint) for model_id, entrypoint in own.items()}
    used |= {
        (f"version {v.label}", v.entrypoint) for v in registry.versions(conn, held.schema) if v.entrypoint
    }
    for place, entrypoint in sorted(used):
        try:
            load_class(entrypoint, held.allowed_prefixes)
        except DetectionError as error:
            yield f"{place}: {error}"
        except Exception as error:
            yield f"{place}: entry point {entrypoint!r} cannot be imported: {type(error).__name__}: {error}"
    for spec in cycles:
        fact = cron_problem(spec.schedule)
        if fact:
            yield f"cycle {spec.cycle_id}: {fact}"
        yield from _plan_problems(conn, held, spec.cycle_id)


def _plan_problems(conn: psycopg.Connection[tuple[Any, ...]], held: Settings, cycle_id: str) -> Iterator[str]:
    from airflow_detection.engine.plan import build_plan
    from airflow_detection.store import registry

    try:
        drawn = build_plan(registry.models_at(conn, held.schema, cycle_id, None), strict=False)
    except DetectionError as error:
        yield f"cycle {cycle_id}: {error}"
        return
    for model_id, reason in sorted(drawn.broken.items()):
        yield f"cycle {cycle_id}: model {model_id}: {reason}"


@_command
def promote(args: Arguments) -> None:
    """Make a version PRIMARY from now on."""
    from airflow_detection.domain import Role
    from airflow_detection.store import registry

    with _connected() as (conn, held):
        named = registry.named_versions(conn, held.schema, [args.label])[0]
        is_new = registry.assign_role(
            conn,
            held.schema,
            model_id=named.model_id,
            version=named.version,
            role=Role.PRIMARY,
            reason=args.reason,
        )
    _say(f"{named.label} {'is PRIMARY from now on' if is_new else 'is PRIMARY already'}")


@_command
def correct(args: Arguments) -> None:
    """Put a wrong history of roles right; what was known before stays."""
    from airflow_detection.domain import Role
    from airflow_detection.store.corrections import correct_roles

    role = None if args.role == "none" else Role(args.role)
    with _connected() as (conn, held):
        is_news = correct_roles(
            conn,
            held.schema,
            label=args.label,
            role=role,
            since=args.since,
            until=args.until,
            actor=args.actor,
            reason=args.reason,
        )
    span = f"from {args.since.isoformat()} to {args.until.isoformat() if args.until else 'now and on'}"
    _say(f"{args.label} {'had' if is_news else 'had already'} {role or 'no role'} {span}")


@_command
def confirm(args: Arguments) -> None:
    """Let a change through that takes most of a cycle's models away."""
    from airflow_detection.store import confirmations

    with _connected() as (conn, held):
        models = confirmations.confirm(conn, held.schema, args.cycle, reason=args.reason)
    _say(f"cycle {args.cycle} is meant to have {len(models)} models: {', '.join(sorted(models)) or 'none'}")


@_command
def ais_load(args: Arguments) -> None:
    """Load a file of ship positions."""
    from airflow_detection.maritime import ais

    with _connected() as (conn, held):
        _say(f"{args.file}: {ais.load_file(conn, Path(args.file), schema=held.schema)}")


@_command
def ais_simulate(args: Arguments) -> None:
    """Write a file of simulated ship positions with known anomalies."""
    from airflow_detection.maritime import simulator

    try:
        simulator.write_day(Path(args.file), start=args.start, hours=args.hours, seed=args.seed)
    except OSError as error:
        _fail(f"{args.file}: {error.strerror}")
    except ValueError as error:
        _fail(f"{args.file}: {error}")
    _say(f"{args.file}: {args.hours} h from {args.start.isoformat()}, seed {args.seed}")


@_command
def partitions_plan(args: Arguments) -> None:
    """Show what the upkeep of table partitions would do now."""
    from airflow_detection.partition_commands import plan_lines

    with _connected() as (conn, held):
        for line in plan_lines(conn, held.schema, now=datetime.now(UTC), max_drops=args.max_drops):
            _say(line)


@_command
def partitions_apply(args: Arguments) -> None:
    """Do it, or bring back a month that retention removed; exit 1 unless all of it succeeded."""
    from airflow_detection.partition_commands import apply_lines, recreate_lines

    with _connected() as (conn, held):
        if args.recreate_expired:
            lines, is_success = recreate_lines(conn, held.schema, args.recreate_expired), True
        else:
            now = datetime.now(UTC)
            lines, is_success = apply_lines(conn, held.schema, now=now, max_drops=args.max_drops)
    for line in lines:
        _say(line)
    if not is_success:
        _fail("the upkeep of table partitions did not succeed")


def get_commands() -> list[GroupCommand]:
    """Return the commands of `airflow detection`."""
    at = _arg("--at", help="as of this instant (UTC); now unless given", type=_instant, metavar="T")
    output = _arg("--output", help="how to print", choices=("text", "json"), default="text")
    label = _arg("label", help="the version", metavar="MODEL@VERSION")
    reason = _arg("--reason", help="why, for the history", default="")
    known_at = _arg(
        "--known-at",
        help="with what was known at this instant (UTC, or now), corrections included",
        type=_instant_or_now,
        metavar="T",
    )
    role = _arg("role", help="the role it held, or none", choices=("PRIMARY", "SHADOW", "CHALLENGER", "none"))
    since = _arg(
        "--from", help="since this instant (UTC)", type=_instant, metavar="T", dest="since", required=True
    )
    until = _arg(
        "--to",
        help="up to this instant (UTC); on and on unless given",
        type=_instant,
        metavar="T",
        dest="until",
    )
    why = _arg("--reason", help="why, for the history", required=True)
    actor = _arg("--actor", help="who says so; the database's user unless given")
    only_check = _arg("--check", help="exit 1 unless every migration is applied", action="store_true")
    start = _arg("--start", help="the first instant (UTC)", type=_instant, required=True)
    hours = _arg("--hours", help="length in hours", type=_positive, default=24)
    seed = _arg("--seed", help="the same seed gives the same file", type=int, default=1)
    cycle = _arg("cycle", help="the cycle's id", metavar="CYCLE")
    db = GroupCommand(
        name="db",
        help="The registry's schema",
        subcommands=(ActionCommand("migrate", "Apply the migrations", db_migrate, (DRY_RUN, only_check)),),
    )
    ais = GroupCommand(
        name="ais",
        help="Ship positions",
        subcommands=(
            ActionCommand("load", "Load a file of positions", ais_load, (FILE,)),
            ActionCommand("simulate", "Write a simulated file", ais_simulate, (FILE, start, hours, seed)),
        ),
    )
    most = _arg("--max-drops", help="detachments, and drops, at most", type=_positive)
    month = _arg(
        "--recreate-expired", help="bring back a month (UTC) that retention removed", metavar="YYYY-MM"
    )
    partitions = GroupCommand(
        name="partitions",
        help="Monthly table partitions",
        subcommands=(
            ActionCommand("plan", "Show what apply would do", partitions_plan, (most,)),
            ActionCommand(
                "apply", "Make what is missing, retire what is old", partitions_apply, (most, month)
            ),
        ),
    )
    actions = (
        ActionCommand("apply", "Register what a YAML file says", apply, (FILE, DRY_RUN)),
        ActionCommand("plan", "Show a cycle's plan", plan, (cycle, at, known_at, output)),
        ActionCommand("grants", "Make the database's reader, writer and admin roles", grants, ()),
        ActionCommand("check", "Look for everything that is wrong", check, ()),
        ActionCommand("promote", "Make a version PRIMARY from now on", promote, (label, reason)),
        import_module("airflow_detection.snapshot_commands").action(),
        ActionCommand("confirm", "Confirm the models that a cycle is left with", confirm, (cycle, reason)),
        ActionCommand(
            "correct", "Correct who held which role", correct, (label, role, since, until, why, actor)
        ),
    )
    return [
        GroupCommand(name="detection", help="Detection cycles", subcommands=(db, partitions, ais, *actions))
    ]
