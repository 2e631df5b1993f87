"""`airflow detection promote`, `rollback`, `assign`, `promotions`: who becomes PRIMARY, on which evidence."""

from __future__ import annotations

import getpass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, GroupCommand

from airflow_detection.cli.command import (
    Arguments,
    arg,
    command,
    connected,
    fail,
    positive,
    say,
    say_json,
    show,
)
from airflow_detection.errors import DetectionError

if TYPE_CHECKING:
    from airflow_detection.store.database import Database
    from airflow_detection.store.promotions import Evidence


def _actor(args: Arguments) -> str:
    """Who acts: the user of the operating system, unless a service names another one."""
    return str(args.actor or getpass.getuser())


@command
def promote(args: Arguments) -> None:
    """Make a version PRIMARY from now on, without an approval: for emergencies."""
    from airflow_detection.store import promotions, registry
    from airflow_detection.store.promotions import State

    actor = _actor(args)
    with connected() as (db, _):
        named = registry.named_versions(db, [args.label])[0]
        if promotions.champion_id(db, named.model_id) == named.version_id:
            say(f"{named.label} is PRIMARY already")
            return
        evidence, refusal = _evidence(db, named.label, is_forced=args.force)
        asked = promotions.ask(db, named.label, actor=actor, reason=args.reason, source="command line")
        promotions.record(db, asked.promotion_id, State.JUDGED, actor=actor, evidence=evidence)
        if refusal and not args.force:
            promotions.record(db, asked.promotion_id, State.REFUSED, actor="policy", reason=refusal)
            fail(f"{named.label} is not promoted: {refusal}; --force promotes it all the same")
        forced = f"forced: {refusal}" if refusal else ""
        why = "; ".join(filter(None, (args.reason, forced)))
        promotions.put_in_force(db, asked.promotion_id, actor=actor, reason=why)
        promotions.end_watch(db, asked.promotion_id, actor=actor, reason="promoted by hand: not watched")
    replaced = f" in place of {named.model_id}@{asked.champion}, which is a SHADOW" if asked.champion else ""
    say(f"{named.label} is PRIMARY from now on{replaced}")


def _evidence(db: Database, label: str, *, is_forced: bool) -> tuple[Evidence, str]:
    """Print the evidence for a version; return it, and why the policy refuses it, if it does.

    Where there is none, as without a champion, a promotion that is forced goes on.
    """
    from airflow_detection.config import thresholds
    from airflow_detection.engine import flags
    from airflow_detection.promotion.judgement import judge

    try:
        judgement = judge(db, label, thresholds=thresholds(), use_model_registry=flags.use_model_registry())
    except DetectionError as error:
        if not is_forced:
            raise
        return {"not_judged": str(error)}, str(error)
    for line in judgement.lines():
        say(line)
    return judgement.evidence, judgement.refusal


@command
def rollback(args: Arguments) -> None:
    """Make the champion before the last promotion PRIMARY again, at once."""
    from airflow_detection.store import promotions

    with connected() as (db, _):
        back = promotions.roll_back(db, args.model, actor=_actor(args), reason=args.reason)
    if back is None:
        say(f"the last promotion of {args.model} is rolled back already")
    else:
        say(f"{args.model}@{back.champion} is PRIMARY again; promotion {back.promotion_id} is {back.state}")


@command
def assign(args: Arguments) -> None:
    """Give a version a role other than PRIMARY from now on, or end the one it holds."""
    from airflow_detection.domain.specs import Role
    from airflow_detection.store import registry, roles

    role = None if args.role == "none" else Role(args.role)
    with connected() as (db, _):
        named = registry.named_versions(db, [args.label])[0]
        is_new = roles.assign_role(
            db,
            model_id=named.model_id,
            version=named.version,
            role=role,
            actor=_actor(args),
            reason=args.reason,
        )
    state = role or "without a role"
    say(f"{named.label} is {state} {'from now on' if is_new else 'already'}")


@command
def promotions_list(args: Arguments) -> None:
    """List promotions, the newest first."""
    from airflow_detection.store import promotions, registry

    with connected() as (db, _):
        if args.model:
            registry.cycle_of(db, args.model)
        listed = promotions.promotions(db, model_id=args.model, is_under_way=args.open, limit=args.limit)
    rows = (
        {
            "promotion": p.promotion_id,
            "version": p.label,
            "champion": p.champion,
            "state": p.state.value,
            "since": p.states[-1].recorded_at.isoformat(),
            "requested_by": p.requested_by,
            "actor": p.states[-1].actor,
            "reason": p.states[-1].reason or p.reason,
        }
        for p in listed
    )
    show(rows, args.output)


@command
def promotions_show(args: Arguments) -> None:
    """Write one promotion as JSON: its states, who, when, why, and the evidence."""
    from airflow_detection.store import promotions

    with connected() as (db, _):
        promotion = promotions.promotion(db, args.promotion, has_evidence=True)
    say_json(
        {
            "promotion": promotion.promotion_id,
            "version": promotion.label,
            "champion": promotion.champion,
            "reason": promotion.reason,
            "source": promotion.source,
            "requested_by": promotion.requested_by,
            "watch_s": promotion.watch / timedelta(seconds=1),
            "states": [
                {
                    "state": s.state.value,
                    "at": s.recorded_at.isoformat(),
                    "actor": s.actor,
                    "reason": s.reason,
                    "evidence_digest": s.evidence_digest,
                    "evidence": s.evidence,
                }
                for s in promotion.states
            ],
        }
    )


@command
def promotions_withdraw(args: Arguments) -> None:
    """Withdraw a request that waits for an answer."""
    from airflow_detection.store import promotions
    from airflow_detection.store.promotions import State

    with connected() as (db, _):
        promotion = promotions.record(
            db, args.promotion, State.WITHDRAWN, actor=_actor(args), reason=args.reason
        )
    say(f"promotion {promotion.promotion_id} of {promotion.label} is {promotion.state}")


def commands() -> list[ActionCommand | GroupCommand]:
    """Return these commands."""
    label = arg("label", help="the version", metavar="MODEL@VERSION")
    model = arg("model", help="the model's id", metavar="MODEL")
    reason = arg("--reason", help="why, for the history", default="")
    actor = arg("--actor", help="who does it; the user of the operating system unless given")
    force = arg("--force", help="promote even if the policy refuses it", action="store_true")
    role = arg("role", help="the role", choices=("SHADOW", "CHALLENGER", "none"))
    number = arg("promotion", help="the number of the promotion", type=positive)
    listed = (
        arg("--model", help="of this model alone", metavar="MODEL"),
        arg("--open", help="those under way alone", action="store_true"),
        arg("--limit", help="at most so many", type=positive, default=100),
        ARG_OUTPUT,
    )
    return [
        ActionCommand(
            "promote", "Make a version PRIMARY, for emergencies", promote, (label, reason, actor, force)
        ),
        ActionCommand("rollback", "Take a model's last promotion back", rollback, (model, reason, actor)),
        ActionCommand("assign", "Make a version a SHADOW", assign, (label, role, reason, actor)),
        GroupCommand(
            name="promotions",
            help="Promotions and what became of them",
            subcommands=(
                ActionCommand("list", "List promotions", promotions_list, listed),
                ActionCommand("show", "Show one as JSON", promotions_show, (number,)),
                ActionCommand("withdraw", "Withdraw a request", promotions_withdraw, (number, reason, actor)),
            ),
        ),
    ]
