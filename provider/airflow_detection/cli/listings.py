"""`airflow detection versions`, `roles`, `runs`, `outputs`, `events`: what is registered and stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand

from airflow_detection.cli.command import Arguments, arg, command, connected, instant, positive, say, show
from airflow_detection.errors import EventError

LIST, ACKNOWLEDGE, CLOSE = VERBS = ("list", "acknowledge", "close")


def _shown(rows: Iterable[Mapping[str, object]], *without: str) -> Iterator[dict[str, object]]:
    """Yield rows whose instants are text, without some of their columns."""
    for row in rows:
        yield {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in row.items()
            if name not in without
        }


@command
def versions(args: Arguments) -> None:
    """List the registered versions and the roles that they hold now."""
    from airflow_detection.store import registry
    from airflow_detection.store.trainings import trainings

    with connected() as (db, _):
        if args.model:
            registry.cycle_of(db, args.model)
        listed, trained = registry.versions(db, args.model), trainings(db, args.model)
    rows = (
        {
            "version": v.label,
            "role": v.role and v.role.value,
            "since": v.since,
            "artifact": v.artifact and str(v.artifact),
            "trained": str(trained[v.label]) if v.label in trained else None,
            "created_at": v.created_at,
            "notes": v.notes,
        }
        for v in listed
    )
    show(_shown(rows), args.output)


@command
def roles(args: Arguments) -> None:
    """List the history of a model's roles: who, when and why, with what corrections superseded."""
    from airflow_detection.store import listings

    with connected() as (db, _):
        rows = listings.role_history(db, args.model, limit=args.limit)
    show(_shown(rows), args.output)


@command
def runs(args: Arguments) -> None:
    """List the manifests of one cycle: which versions ran, and what came of it."""
    from airflow_detection.store import listings

    with connected() as (db, _):
        rows = listings.runs(db, args.cycle, args.at)
    show(_shown(rows), args.output)


@command
def outputs(args: Arguments) -> None:
    """List the outputs of a model in one cycle, the highest scores first."""
    from airflow_detection.store import listings

    model_id, _, version = args.model.partition("@")
    with connected() as (db, _settings):
        rows = listings.outputs(
            db, model_id, args.at, version=version or None, entity_id=args.entity, limit=args.limit
        )
    show(_shown(rows, *(() if args.output in ("json", "yaml") else ("outputs", "input_ref"))), args.output)


@command
def events(args: Arguments) -> None:
    """List the open events, or all of them; acknowledge or close one."""
    from airflow_detection.store import listings

    if args.verb != LIST:
        _answer_event(args)
        return
    with connected() as (db, _):
        rows = listings.events(
            db, model_id=args.model, entity_id=args.entity, has_closed=args.all, limit=args.limit
        )
    show(_shown(rows), args.output)


def _answer_event(args: Arguments) -> None:
    from airflow_detection.store import events as store

    if args.event is None:
        raise EventError(f"no event is named: write airflow detection events {args.verb} ID")
    if args.verb == CLOSE and not args.reason:
        raise EventError(f"event {args.event} is closed with a reason: write --reason")
    with connected() as (db, _):
        if args.verb == CLOSE:
            store.close(db, args.event, actor=args.actor, reason=args.reason)
            say(f"event {args.event} is closed")
        elif store.acknowledge(db, args.event, actor=args.actor, reason=args.reason or ""):
            say(f"event {args.event} is acknowledged")
        else:
            say(f"event {args.event} was acknowledged before")


def commands() -> list[ActionCommand]:
    """Return these commands."""
    model = arg("model", help="the model's id", metavar="MODEL")
    any_model = arg("--model", help="of this model alone", metavar="MODEL")
    of = arg("model", help="the champion's outputs, or those of one version", metavar="MODEL[@VERSION]")
    cycle = arg("cycle", help="the cycle's id", metavar="CYCLE")
    at = arg("--at", help="the cycle that began at this instant (UTC); the newest unless given", type=instant)
    entity = arg("--entity", help="of this entity alone", metavar="ID")
    limit = arg("--limit", help="at most so many", type=positive, default=1000)
    verb = arg("verb", help="what to do; list unless given", nargs="?", choices=VERBS, default=LIST)
    event = arg("event", help="the event to acknowledge or close", nargs="?", type=positive, metavar="ID")
    reason = arg("--reason", help="why it is acknowledged or closed", metavar="TEXT")
    actor = arg("--actor", help="who says so; the database's user unless given", metavar="NAME")
    closed = arg("--all", help="the closed and retracted ones too", action="store_true")
    return [
        ActionCommand("versions", "List versions and their roles", versions, (any_model, ARG_OUTPUT)),
        ActionCommand("roles", "List the history of a model's roles", roles, (model, limit, ARG_OUTPUT)),
        ActionCommand("runs", "List what ran in a cycle", runs, (cycle, at, ARG_OUTPUT)),
        ActionCommand("outputs", "List a model's outputs", outputs, (of, at, entity, limit, ARG_OUTPUT)),
        ActionCommand(
            "events",
            "List events; acknowledge or close one",
            events,
            (verb, event, any_model, entity, closed, limit, reason, actor, ARG_OUTPUT),
        ),
    ]
