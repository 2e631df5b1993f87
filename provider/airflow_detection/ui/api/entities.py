"""`entities/...`: everything that is known of one id."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, HTTPException, Query, Request, Response

from airflow_detection.domain.drawings import DrawnEntity
from airflow_detection.domain.links import API
from airflow_detection.domain.specs import Role
from airflow_detection.store import events, pages, registry
from airflow_detection.store.database import Database
from airflow_detection.store.events import EventFilter
from airflow_detection.store.labels import Label, known_labels
from airflow_detection.store.pages import EntityPeriod
from airflow_detection.store.registry import Row
from airflow_detection.ui.access import Reader, Registry, UserAccess, not_found
from airflow_detection.ui.api.events import EventRow, event_rows
from airflow_detection.ui.api.shapes import Answer, Instant, Limit
from airflow_detection.ui.drawings.packs import drawings
from airflow_detection.ui.drawings.svg import svg_answer

log = logging.getLogger(__name__)
router = APIRouter()
DEFAULT_PERIOD, MAX_PERIOD = timedelta(hours=24), timedelta(days=31)
MAX_POINTS, MAX_LATEST, MAX_EVENTS, MAX_LABELS = 20_000, 200, 200, 200
FOUND = 20
EntityId = Annotated[str, Query(min_length=1, max_length=2000)]


class EntityLine(Answer):
    """The scores of an entity by one version over time, in one role, its replays apart."""

    label: str
    model_id: str
    role: Role
    is_replay: bool
    at: list[Instant]
    score: list[float | None]


class LatestOutput(Answer):
    """The latest output of one version for an entity."""

    label: str
    model_id: str
    at: Instant
    is_replay: bool
    score: float | None
    outputs: dict[str, Any]  # Any: JSON values


class LabelAnswer(Answer):
    """A label that holds now; `end` None: it has none."""

    cycle_id: str
    model_id: str | None
    is_positive: bool | None
    start: Instant
    end: Instant | None
    known_at: Instant | None
    source: str
    actor: str
    note: str


class DrawingLink(Answer):
    """A drawing that a pack offers: an address of an image."""

    name: str
    title: str
    href: str


class EntityAnswer(Answer):
    """What is known of one entity in [start, end); `is_cut` tells that there are more scores than shown.

    Before `complete_from` only scores above 0.3 are there.
    """

    entity_id: str
    start: Instant
    end: Instant
    complete_from: Instant
    scores: list[EntityLine]
    is_cut: bool
    latest: list[LatestOutput]
    events: list[EventRow]
    labels: list[LabelAnswer]
    drawings: list[DrawingLink]


class EntityFound(Answer):
    """An entity of which something is known."""

    entity_id: str
    last_seen_at: Instant


class EntitiesFound(Answer):
    """The entities whose id begins with a text, the one that was seen last first."""

    items: list[EntityFound]


@router.get("/entities")
def search(
    access: Reader, db: Registry, q: EntityId, cycle_id: str | None = None, limit: Limit = FOUND
) -> EntitiesFound:
    """Return entities whose id begins with a text."""
    models, cycles = _scope(access, cycle_id)
    rows = pages.entities(db, q, model_ids=models, cycle_ids=cycles, limit=limit)
    return EntitiesFound(items=[EntityFound(**row) for row in rows])


@router.get("/drawings/{name}")
def drawing(
    name: str,
    access: Reader,
    db: Registry,
    request: Request,
    entity_id: EntityId,
    cycle_id: str | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
) -> Response:
    """Return a pack's drawing of an entity."""
    models, _ = _scope(access, cycle_id)
    period, _, rows = _outputs(db, entity_id, models, start, end)
    if name not in drawings() or not rows:
        raise not_found("drawing", name)
    return svg_answer(request, drawings()[name].draw(db, _drawn(period, rows)))


@router.get("/entities/{entity_id:path}")
def entity(
    entity_id: str,
    access: Reader,
    db: Registry,
    cycle_id: str | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
) -> EntityAnswer:
    """Return what is known of an entity: in the newest day, the last in which it was flagged, or a period.

    An entity of which nothing is known has an empty answer: an id that a user may not see is no other.
    """
    models, cycles = _scope(access, cycle_id)
    period, complete, rows = _outputs(db, entity_id, models, start, end)
    which = EventFilter(entity_id=entity_id)
    labels = [
        (known.recorded_at or known.valid_from, known)
        for cycle in cycles
        for known in known_labels(db, cycle, entity_id=entity_id, limit=MAX_LABELS)
    ]
    return EntityAnswer(
        entity_id=entity_id,
        start=period.start,
        end=period.end,
        complete_from=complete,
        scores=_lines(rows[:MAX_POINTS]),
        is_cut=len(rows) > MAX_POINTS,
        latest=_latest_outputs(rows[:MAX_POINTS])[:MAX_LATEST],
        events=event_rows(events.listed(db, models, which, limit=MAX_EVENTS)),
        labels=[_label(known) for _, known in sorted(labels, key=lambda e: e[0], reverse=True)][:MAX_LABELS],
        drawings=_links(db, period, rows, cycle_id),
    )


def _scope(access: UserAccess, cycle_id: str | None) -> tuple[list[str], list[str]]:
    """Return the models and cycles that are asked of: one cycle's, or all that the user may read."""
    if cycle_id is not None:
        access.require_cycle(cycle_id)
    cycles = sorted(access.cycle_ids) if cycle_id is None else [cycle_id]
    return [m for m in access.readable_models() if access.models[m] in cycles], cycles


def _outputs(
    db: Database, entity_id: str, models: list[str], start: datetime | None, end: datetime | None
) -> tuple[EntityPeriod, datetime, list[Row]]:
    """Return the period, from when on it is complete, and the outputs: one more than are shown if there is.

    The period: the one that is asked for; else the day up to the newest cycle, or, where that day has nothing
    of the entity, up to the last one in which it was flagged.
    """
    newest = end or _after(pages.newest_of_models(db, models)) or registry.clock(db)
    period = _period(entity_id, models, start or newest - DEFAULT_PERIOD, newest)
    complete = pages.complete_from(db, period)
    rows = pages.entity_outputs(db, period, complete, limit=MAX_POINTS + 1)
    if not rows and start is None and end is None:
        flagged = _after(pages.newest_flagged(db, entity_id, models))
        if flagged is not None:
            return _outputs(db, entity_id, models, flagged - DEFAULT_PERIOD, flagged)
    return period, complete, rows


def _after(at: datetime | None) -> datetime | None:
    return None if at is None else at + timedelta(seconds=1)


def _period(entity_id: str, models: list[str], start: datetime, end: datetime) -> EntityPeriod:
    if not timedelta() < end - start <= MAX_PERIOD:
        raise HTTPException(400, f"the period is {end - start}: must be above 0 and at most {MAX_PERIOD}")
    return EntityPeriod(entity_id=entity_id, model_ids=models, start=start, end=end)


def _lines(rows: list[Row]) -> list[EntityLine]:
    """Return a line for each version, role and replay: in each cycle the highest score of the entity."""
    by_line: dict[tuple[str, str, str, bool], dict[datetime, float | None]] = defaultdict(dict)
    for row in rows:
        line = by_line[row["model_id"], row["version"], row["role"], row["is_replay"]]
        scores = [score for score in (line.get(row["at"]), row["score"]) if score is not None]
        line[row["at"]] = max(scores, default=None)
    return [
        EntityLine(
            label=f"{model_id}@{version}",
            model_id=model_id,
            role=Role(role),
            is_replay=is_replay,
            at=list(line),
            score=list(line.values()),
        )
        for (model_id, version, role, is_replay), line in by_line.items()
    ]


def _latest_outputs(rows: list[Row]) -> list[LatestOutput]:
    """Return the latest output of each version, the highest score first: live before a replay, and of several
    of a cycle the highest.
    """
    latest: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["model_id"], row["version"]
        if key not in latest or _rank(row) > _rank(latest[key]):
            latest[key] = row
    return [
        LatestOutput(
            label=f"{row['model_id']}@{row['version']}",
            **{name: row[name] for name in ("model_id", "at", "is_replay", "score", "outputs")},
        )
        for row in sorted(latest.values(), key=_score, reverse=True)
    ]


def _rank(row: Row) -> tuple[datetime, bool, float]:
    return row["at"], not row["is_replay"], _score(row)


def _score(row: Row) -> float:
    return float("-inf") if row["score"] is None else row["score"]


def _label(known: Label) -> LabelAnswer:
    return LabelAnswer(
        start=known.valid_from,
        end=known.valid_to,
        known_at=known.recorded_at,
        **{
            name: getattr(known, name)
            for name in ("cycle_id", "model_id", "is_positive", "source", "actor", "note")
        },
    )


def _drawn(period: EntityPeriod, rows: list[Row]) -> DrawnEntity:
    """Return the entity as a pack draws it: with the highest live score of champions in each cycle."""
    highest: dict[datetime, float] = {}
    for row in rows:
        if row["score"] is not None and row["role"] == Role.PRIMARY and not row["is_replay"]:
            highest[row["at"]] = max(row["score"], highest.get(row["at"], 0.0))
    return DrawnEntity(
        entity_id=period.entity_id, start=period.start, end=period.end, scores=sorted(highest.items())
    )


def _links(db: Database, period: EntityPeriod, rows: list[Row], cycle_id: str | None) -> list[DrawingLink]:
    """Return the drawings that know the entity; none of one of which the user sees no output."""
    if not rows:
        return []
    drawn = _drawn(period, rows)
    links = []
    for name, offered in drawings().items():
        try:
            is_known = offered.is_known(db, drawn)
        except Exception:  # a pack that fails costs the page its drawing alone
            log.warning("the drawing %s failed", name, exc_info=True)
            continue
        if is_known:
            asked = {
                "entity_id": period.entity_id,
                "start": period.start.isoformat(),
                "end": period.end.isoformat(),
            }
            asked |= {} if cycle_id is None else {"cycle_id": cycle_id}
            href = f"{API}/drawings/{quote(name, safe='')}?{urlencode(asked)}"
            links.append(DrawingLink(name=name, title=offered.title, href=href))
    return links
