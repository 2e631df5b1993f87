"""What guards a route that changes something: where the browser says it comes from, and the audit log.

Another port of the same host is the same site to a browser: the cookie goes along, only the origin differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.models.log import Log
from airflow.utils.session import create_session
from fastapi import HTTPException, Request

from airflow_detection.domain.settings import Settings
from airflow_detection.store.database import Database
from airflow_detection.ui.sessions import write_session

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser


def same_origin(request: Request) -> None:
    """Refuse a request that a page of this very server has not made: 403."""
    origin = request.headers.get("origin", "")
    own = {request.headers.get("host", ""), urlsplit(conf.get("api", "base_url", fallback="") or "").netloc}
    if request.headers.get("sec-fetch-site") != "same-origin" or urlsplit(origin).netloc not in own - {""}:
        raise HTTPException(403, "a change must come from a page of this server: its origin is another one")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(400, "the body must be of type application/json")


@contextmanager
def audited(
    section: Settings, user: BaseUser, event: str, *, dag_id: str, details: Mapping[str, Any]
) -> Iterator[Database]:  # Any: JSON values
    """A transaction of the registry for one change; Airflow's audit log has it before it is committed."""
    with write_session(section) as db, db.conn.transaction():
        yield db
        with create_session() as session:
            session.add(
                Log(
                    event=event,
                    owner=user.get_name(),
                    owner_display_name=user.get_name(),
                    dag_id=dag_id,
                    extra=json.dumps(dict(details)),
                )
            )
