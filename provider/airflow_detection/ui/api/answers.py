"""The routes that change something: what a person says of an event, and a label. Each needs the right to edit
the Dag of the cycle, and stands in Airflow's audit log.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from pydantic import AfterValidator, Field

from airflow_detection.store import events
from airflow_detection.store.labels import Label, add_labels
from airflow_detection.ui.access import Configuration, Reader, Registry, User
from airflow_detection.ui.api.events import EventRow, readable_event
from airflow_detection.ui.api.shapes import Answer, Instant
from airflow_detection.ui.changes import audited, same_origin

router = APIRouter(dependencies=[Depends(same_origin)])
MAX_REASON = 2000


def _storable(text: str) -> str:
    if "\0" in text or (not text.isascii() and text != text.encode(errors="replace").decode()):
        raise ValueError("must be text without NUL characters and lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_storable)]


class EventReason(Answer):
    """Why; an event that is closed has a reason."""

    reason: Annotated[Text, Field(max_length=MAX_REASON)] = ""


class NewLabel(Answer):
    """What turned out to be true of an entity in [start, end); `is_positive` None withdraws it."""

    cycle_id: Text
    model_id: Text | None = None
    entity_id: Annotated[Text, Field(min_length=1, max_length=500)]
    is_positive: bool | None
    start: Instant
    end: Instant | None = None
    source: Annotated[Text, Field(min_length=1, max_length=MAX_REASON)]
    note: Annotated[Text, Field(max_length=MAX_REASON)] = ""


class LabelsAdded(Answer):
    """How many labels say something new: none where the same was known already."""

    added: int


@router.post("/events/{event_id}/acknowledge")
def acknowledge_event(
    event_id: int, body: EventReason, access: Reader, db: Registry, user: User, section: Configuration
) -> EventRow:
    """Record that the user has seen an event."""
    event = readable_event(db, access, event_id)
    dag_id = access.require_edit(event.cycle_id)
    details = {"event_id": event_id, "reason": body.reason}
    with audited(section, user, "detection_acknowledge_event", dag_id=dag_id, details=details) as writer:
        events.acknowledge(writer, event_id, actor=user.get_name(), reason=body.reason)
    return readable_event(db, access, event_id)


@router.post("/events/{event_id}/close")
def close_event(
    event_id: int, body: EventReason, access: Reader, db: Registry, user: User, section: Configuration
) -> EventRow:
    """Close an event, with a reason."""
    event = readable_event(db, access, event_id)
    dag_id = access.require_edit(event.cycle_id)
    if not body.reason.strip():
        raise HTTPException(400, "reason is empty: an event is closed with a reason")
    details = {"event_id": event_id, "reason": body.reason}
    with audited(section, user, "detection_close_event", dag_id=dag_id, details=details) as writer:
        events.close(writer, event_id, actor=user.get_name(), reason=body.reason)
    return readable_event(db, access, event_id)


@router.post("/labels")
def add_label(body: NewLabel, access: Reader, user: User, section: Configuration) -> LabelsAdded:
    """Add a label."""
    if body.model_id is not None and access.require_model(body.model_id) != body.cycle_id:
        raise HTTPException(400, f"model {body.model_id!r} is none of cycle {body.cycle_id!r}")
    dag_id = access.require_edit(body.cycle_id)
    label = Label(
        cycle_id=body.cycle_id,
        model_id=body.model_id,
        entity_id=body.entity_id,
        is_positive=body.is_positive,
        valid_from=body.start,
        valid_to=body.end,
        source=body.source,
        note=body.note,
    )
    details = body.model_dump(mode="json")
    try:
        with audited(section, user, "detection_add_label", dag_id=dag_id, details=details) as writer:
            return LabelsAdded(added=add_labels(writer, [label], actor=user.get_name()))
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
