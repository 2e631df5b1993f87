"""`airflow detection apply`, `promote`, `correct`, `confirm`: registrations and roles."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.check import registration_warnings, shard_refusals
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

if TYPE_CHECKING:
    from airflow_detection.registration.apply import Applied
    from airflow_detection.store.database import Database


@command
def apply(args: Arguments) -> None:
    """Bring the registry to what a YAML file says; with `--strict` only what would run."""
    from airflow_detection.registration.apply import apply_and_compare

    def applied_by(db: Database, *, dry_run: bool) -> Applied:
        return apply_and_compare(
            db,
            Path(args.file),
            dry_run=dry_run,
            undoes_promotions=args.roles == "from-file",
            prunes=args.prune,
            refusals=lambda registration: shard_refusals(registration, settings, args.file),
        )

    with connected() as (db, settings):
        applied = applied_by(db, dry_run=args.dry_run or args.strict)
        warnings = list(registration_warnings(db, settings, applied.registration, args.file))
        if args.strict and not args.dry_run and not warnings:
            applied = applied_by(db, dry_run=False)
    is_tried = args.dry_run or (args.strict and warnings)
    for line in applied.changes:
        say(f"would: {line}" if is_tried else line)
    if not applied.changes:
        say("nothing to change")
    for version in applied.left:
        warn(f"warning: not in the file: {version.label}, still {version.role}; --prune ends its role")
    for warning in warnings:
        warn(f"warning: {warning}")
    if args.strict and warnings:
        fail(f"--strict: nothing was changed, there are warnings: {len(warnings)}")


@command
def register_model(args: Arguments) -> None:
    """Register a version that is made of an artefact."""
    from airflow_detection.domain.specs import Role
    from airflow_detection.operators.context import open_artifact
    from airflow_detection.registration.register import artifact_of, register_version

    with connected() as (db, settings):
        registration, changes = register_version(
            db,
            args.label,
            artifact_of(args.source, open_artifact),
            role=None if args.role == "none" else Role(args.role),
            params=args.params,
            entrypoint=args.entrypoint,
            notes=args.notes,
            dry_run=args.dry_run,
        )
        warnings = list(registration_warnings(db, settings, registration))
    for line in changes:
        say(f"would: {line}" if args.dry_run else line)
    for warning in warnings:
        warn(f"warning: {warning}")


@command
def train(args: Arguments) -> None:
    """Train a version of a model on past windows, and register it as a CHALLENGER."""
    from airflow_detection.cycle.training import train
    from airflow_detection.cycle.training_plan import TrainingRequest
    from airflow_detection.operators.context import open_artifact, reader_conninfo_of, write_artifact

    model_id, _, version = args.label.partition("@")
    with connected() as (db, settings):
        trained = train(
            db,
            settings,
            TrainingRequest(
                model_id=model_id,
                version=version,
                base=args.base,
                start=args.since,
                end=args.until,
                as_of=args.as_of,
                target=args.target,
                seed=args.seed,
            ),
            actor=args.actor,
            reader_conninfo=lambda: reader_conninfo_of(settings),
            opener=open_artifact,
            writer=write_artifact,
        )
    say(f"{trained.label} is registered as a CHALLENGER, trained {trained}")
    say(f"artefact {trained.artifact_uri} (sha256 {trained.artifact_sha256[:12]})")
    for name, value in sorted(trained.metrics.items()):
        say(f"{name} {value:g}")


def mapping(text: str) -> dict[str, Any]:  # Any: a JSON object
    """Read an argument that is a mapping, as YAML or JSON has it."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a mapping such as '{{features: [a, b]}}'")
    return value


@command
def export(args: Arguments) -> None:
    """Write the registration file of what is registered."""
    from airflow_detection.registration.export import registration_yaml

    del args
    with connected() as (db, _):
        text = registration_yaml(db)
    sys.stdout.write(text)


@command
def schema(args: Arguments) -> None:
    """Write the JSON Schema of a registration file."""
    from airflow_detection.registration.schema import json_schema_text

    del args
    sys.stdout.write(json_schema_text())


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
    prune = arg(
        "--prune",
        help="end the roles of versions of the file's cycles that are not in the file",
        action="store_true",
    )
    strict = arg(
        "--strict",
        help="change nothing and exit 1 where something would not run here, such as a class that cannot be"
        " imported",
        action="store_true",
    )
    cycle = arg("cycle", help="the cycle's id", metavar="CYCLE")
    new = arg("label", help="the new version of a registered model", metavar="MODEL@VERSION")
    source = arg(
        "--from",
        help="what it is made of: a file, a folder, a URI, or models:/NAME/VERSION (or @ALIAS) of MLflow",
        metavar="SOURCE",
        dest="source",
        required=True,
    )
    held = arg(
        "--role",
        help="the role it holds from now on",
        choices=("CHALLENGER", "SHADOW", "none"),
        default="none",
    )
    params = arg("--params", help="its params, as YAML or JSON", type=mapping, metavar="MAPPING", default={})
    entrypoint = arg("--entrypoint", help="its class; the adapter that reads such a file unless given")
    notes = arg("--notes", help="what people should know of it", default="")
    base = arg(
        "--base",
        help="the version of the model whose class has the training step, and whose params it gets",
        metavar="VERSION",
        required=True,
    )
    start = arg(
        "--from", help="learn from data since (UTC)", type=instant, metavar="T", dest="since", required=True
    )
    end = arg("--to", help="and before (UTC)", type=instant, metavar="T", dest="until", required=True)
    as_of = arg(
        "--as-of",
        help="what was known later (UTC) does not count; now unless given",
        type=instant,
        metavar="T",
    )
    target = arg(
        "--to-uri",
        help="the folder, an absolute path or a URI, into which the artefact is written",
        metavar="URI",
        dest="target",
        required=True,
    )
    seed = arg("--seed", help="all that is random follows from it", type=int, default=1, metavar="N")
    return [
        ActionCommand(
            "register-model",
            "Register a version that is made of an artefact",
            register_model,
            (new, source, held, params, entrypoint, notes, DRY_RUN),
        ),
        ActionCommand(
            "train",
            "Train a version, and register it as a CHALLENGER",
            train,
            (new, base, start, end, as_of, target, seed, actor),
        ),
        ActionCommand(
            "apply", "Register what a YAML file says", apply, (FILE, DRY_RUN, strict, from_file, prune)
        ),
        ActionCommand("export", "Write the registry as a YAML file", export, ()),
        ActionCommand("schema", "Write the JSON Schema of a registration file", schema, ()),
        ActionCommand("confirm", "Confirm the models that a cycle is left with", confirm, (cycle, reason)),
        ActionCommand(
            "correct",
            "Correct who holds which role",
            correct,
            (label, role, since, until, required_reason, actor),
        ),
    ]
