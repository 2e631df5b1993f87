"""`reports`: the stored ones. Each speaks of every cycle: they are for who may read the Dags of all."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, JSONResponse

from airflow_detection.snapshot.changes import new_bad_verdicts
from airflow_detection.snapshot.rendering.html import render_html
from airflow_detection.snapshot.report import Status, UnknownFormat, from_json, worst
from airflow_detection.store import pages, snapshots
from airflow_detection.store.database import Database
from airflow_detection.store.registry import Row
from airflow_detection.ui.access import Reader, Registry, UserAccess, not_found
from airflow_detection.ui.api.shapes import (
    DEFAULT_ROWS,
    Answer,
    Instant,
    Json,
    Limit,
    PageOf,
    key_text,
    key_values,
)

router = APIRouter()
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"
"""The file for mail holds no script; whoever opens it here gets none that somebody put into it either."""


class ReportRow(Answer):
    """A stored report in a list."""

    snapshot_id: int
    kind: str
    start: Instant
    end: Instant
    taken_at: Instant
    headline: str
    status: Status


def status_of(row: Row) -> Status:
    """Return the status of a report from those of its sections."""
    statuses = [Status(status) for status in row["statuses"] or ()]
    return worst([*statuses, Status.ATTENTION if row["missed"] else None])


@router.get("/reports")
def list_reports(
    access: Reader,
    db: Registry,
    kind: str | None = None,
    after: str | None = None,
    limit: Limit = DEFAULT_ROWS,
) -> PageOf[ReportRow]:
    """Return the stored reports, the newest first; none to who may not read every cycle."""
    key = key_values(after, int)
    found = (
        pages.reports(db, kind=kind, before=key[0] if key else None, limit=limit + 1)
        if access.reads_all
        else []
    )
    items = [
        ReportRow(
            snapshot_id=row["snapshot_id"],
            kind=row["kind"],
            start=row["start"],
            end=row["until"],
            taken_at=row["taken_at"],
            headline=row["headline"] or "",
            status=status_of(row),
        )
        for row in found[:limit]
    ]
    return PageOf(items=items, next=key_text(items[-1].snapshot_id) if len(found) > limit else None)


@router.get("/reports/{snapshot_id}/html")
def report_page(snapshot_id: int, access: Reader, db: Registry) -> Response:
    """Return a report as the file for mail."""
    page = render_html(_stored(db, access, snapshot_id))
    return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})


@router.get("/reports/{snapshot_id}")
def one_report(snapshot_id: int, access: Reader, db: Registry) -> JSONResponse:
    """Return a report's JSON with its number, its status, and what has changed since the one before."""
    stored = _stored(db, access, snapshot_id)
    try:
        report = from_json(stored)
    except UnknownFormat as error:
        return JSONResponse({"detail": str(error)}, 503)
    before = snapshots.last_before(db, _start(stored)) if report.kind == "hourly" else None
    changes = new_bad_verdicts(report, before.report) if before else []
    return JSONResponse(
        {
            **stored,
            "snapshot_id": snapshot_id,
            "status": report.status,
            "before": before.snapshot_id if before else None,
            "changes": changes,
        }
    )


def _stored(db: Database, access: UserAccess, snapshot_id: int) -> Json:
    found = pages.report(db, snapshot_id) if access.reads_all else None
    if found is None:
        raise not_found("report", snapshot_id)
    stored: Json = found["report"]
    return stored


def _start(stored: Json) -> datetime:
    return datetime.fromisoformat(stored["start"])
