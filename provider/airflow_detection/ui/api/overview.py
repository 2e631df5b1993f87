"""`overview` and `headline`: what a person looks at first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from fastapi import APIRouter

from airflow_detection.domain.cron import cron_problem, interval
from airflow_detection.domain.specs import CycleSpec, Role
from airflow_detection.snapshot.collector import headline as headline_of
from airflow_detection.snapshot.report import Standing, Status, worst
from airflow_detection.snapshot.verdicts.kinds import VerdictKind
from airflow_detection.store import pages, registry
from airflow_detection.store.database import Database
from airflow_detection.store.registry import Row
from airflow_detection.ui.access import Reader, Registry, UserAccess
from airflow_detection.ui.api.events import EventRow, open_events
from airflow_detection.ui.api.promotions import PromotionRow, waiting_promotions
from airflow_detection.ui.api.shapes import Answer, Instant, VersionRef, ref_of

router = APIRouter()
STRIP_HOURS = 24
KINDS = {kind.value: kind for kind in VerdictKind}


class Trouble(Answer):
    """A champion whose last verdict is bad: which, why, and since which hour it has been."""

    model_id: str
    cycle_id: str
    label: str
    kind: str
    reason: str
    since: Instant


class Headline(Answer):
    """The newest hourly report in one sentence; `snapshot_id` None where the user may not read all of it."""

    text: str
    status: Status
    start: Instant
    end: Instant
    snapshot_id: int | None


class HeadlineAnswer(Answer):
    """The headline, None before the first report, and the champions in trouble."""

    headline: Headline | None
    troubles: list[Trouble]


class StripMark(Answer):
    """The worst verdict of an hour; `kind` is empty where no report says."""

    at: Instant
    kind: str
    is_bad: bool


class CycleLine(Answer):
    """A cycle, its newest instance, and how long the one after that has been due (None: it is not known)."""

    cycle_id: str
    dag_id: str
    is_enabled: bool
    schedule: str
    description: str
    newest: Instant | None
    lateness_s: float | None
    is_late: bool
    outcomes: dict[str, int]


class ModelLine(Answer):
    """A model, the versions that hold a role now, and a day of its champion's verdicts, hour by hour."""

    model_id: str
    cycle_id: str
    champion: VersionRef | None
    others: list[VersionRef]
    strip: list[StripMark]


class OverviewAnswer(Answer):
    """The page Detection."""

    now: Instant
    headline: Headline | None
    cycles: list[CycleLine]
    models: list[ModelLine]
    events: list[EventRow]
    open_events: int
    promotions: list[PromotionRow]
    troubles: list[Trouble]
    may_edit: list[str]


@router.get("/headline")
def headline(access: Reader, db: Registry) -> HeadlineAnswer:
    """Return the headline and the champions in trouble."""
    report, hours = _hours(db)
    return HeadlineAnswer(headline=_headline(access, report), troubles=_troubles(access, report, hours))


@router.get("/overview")
def overview(access: Reader, db: Registry) -> OverviewAnswer:
    """Return the page Detection."""
    report, hours = _hours(db)
    now = registry.clock(db)
    events, count = open_events(db, access)
    return OverviewAnswer(
        now=now,
        headline=_headline(access, report),
        cycles=_cycles(db, access, now),
        models=_models(db, access, hours),
        events=events,
        open_events=count,
        promotions=waiting_promotions(db, access),
        troubles=_troubles(access, report, hours),
        may_edit=sorted(access.editable()),
    )


def _hours(db: Database) -> tuple[Row | None, list[Row]]:
    """Return the newest hourly report, and the standings of the day up to it."""
    report = pages.newest_report(db)
    if report is None:
        return None, []
    return report, pages.standings(db, report["until"] - timedelta(hours=STRIP_HOURS), report["until"])


def _own(access: UserAccess, standings: Sequence[Row] | None) -> list[Standing]:
    """Return the standings of the versions that the user may read."""
    fields = Standing.__dataclass_fields__
    return [
        Standing(**{name: s[name] for name in fields})
        for s in standings or ()
        if access.models.get(s["model_id"]) in access.cycle_ids
    ]


def _headline(access: UserAccess, report: Row | None) -> Headline | None:
    """Return the report's own headline, or that of the versions that the user may read."""
    if report is None:
        return None
    if access.reads_all:
        text = report["headline"]
        statuses = [Status(status) for status in report["statuses"]]
        status = worst([*statuses, Status.ATTENTION if report["missed"] else None])
    else:
        own = _own(access, report["standings"])
        text = headline_of((), own)
        status = Status.ATTENTION if any(s.is_bad for s in own) else Status.OK
    return Headline(
        text=text,
        status=status,
        start=report["start"],
        end=report["until"],
        snapshot_id=report["snapshot_id"] if access.reads_all else None,
    )


def _troubles(access: UserAccess, report: Row | None, hours: Sequence[Row]) -> list[Trouble]:
    if report is None:
        return []
    reasons = {row[0]: str(row[-1] or "") for row in report["verdicts"] or () if row}
    bad = [s for s in _own(access, report["standings"]) if s.role == Role.PRIMARY and KINDS[s.last].is_bad]
    return [
        Trouble(
            model_id=s.model_id,
            cycle_id=access.models[s.model_id],
            label=s.label,
            kind=s.last,
            reason=reasons.get(s.label, ""),
            since=_bad_since(s, hours) or report["start"],
        )
        for s in bad
    ]


def _bad_since(standing: Standing, hours: Sequence[Row]) -> datetime | None:
    """Return the start of the first of the latest hours in a row in which the version was bad."""
    since: datetime | None = None
    for hour in reversed(hours):
        mine = [
            s
            for s in hour["standings"] or ()
            if (s["model_id"], s["version"]) == (standing.model_id, standing.version)
        ]
        if mine and not mine[0]["is_bad"]:
            break
        since = hour["start"] if mine else since
    return since


def _cycles(db: Database, access: UserAccess, now: datetime) -> list[CycleLine]:
    newest = pages.newest_cycles(db, sorted(access.cycle_ids))
    specs = [spec for spec in registry.cycle_specs(db) if spec.cycle_id in access.cycle_ids]
    return [_cycle(access, spec, newest[spec.cycle_id], now) for spec in specs]


def _cycle(access: UserAccess, spec: CycleSpec, newest: Row, now: datetime) -> CycleLine:
    lateness_s, is_late = None, False
    if spec.is_enabled and newest["at"] is not None and cron_problem(spec.schedule) is None:
        step = interval(spec.schedule, newest["at"])
        late = now - (newest["at"] + step)
        lateness_s, is_late = max(0.0, late.total_seconds()), late > step
    return CycleLine(
        cycle_id=spec.cycle_id,
        dag_id=access.dag_ids[spec.cycle_id],
        is_enabled=spec.is_enabled,
        schedule=spec.schedule,
        description=spec.description,
        newest=newest["at"],
        lateness_s=lateness_s,
        is_late=is_late,
        outcomes=newest["outcomes"] or {},
    )


def _models(db: Database, access: UserAccess, hours: Sequence[Row]) -> list[ModelLine]:
    by_model = defaultdict(list)
    for version in registry.versions(db):
        if version.role is not None:
            by_model[version.model_id].append(version)
    lines = []
    for model_id in access.readable_models():
        versions = by_model[model_id]
        champion = next((v for v in versions if v.role is Role.PRIMARY), None)
        lines.append(
            ModelLine(
                model_id=model_id,
                cycle_id=access.models[model_id],
                champion=ref_of(champion) if champion else None,
                others=[ref_of(v) for v in versions if v is not champion],
                strip=_strip(model_id, hours),
            )
        )
    return lines


def _strip(model_id: str, hours: Sequence[Row]) -> list[StripMark]:
    """Return the worst verdict of a model's champions in each hour of the day up to the newest report."""
    if not hours:
        return []
    end: datetime = hours[-1]["until"]
    worst_of: dict[datetime, str] = {}
    for hour in hours:
        own = [
            s["worst"]
            for s in hour["standings"] or ()
            if s["model_id"] == model_id and s["role"] == Role.PRIMARY
        ]
        if own:
            worst_of[hour["start"]] = min(own, key=lambda kind: KINDS[kind].rank)
    starts = [end - timedelta(hours=n) for n in range(STRIP_HOURS, 0, -1)]
    return [
        StripMark(at=at, kind=kind, is_bad=bool(kind) and KINDS[kind].is_bad)
        for at in starts
        for kind in [worst_of.get(at, "")]
    ]
