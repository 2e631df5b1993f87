"""Values that answers of several subjects share, and how the parameters of a request are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict

from airflow_detection.domain.specs import Role, VersionSpec
from airflow_detection.store.registry import RegisteredVersion

Json = dict[str, Any]  # Any: a JSON object
Item = TypeVar("Item")
MAX_ROWS, DEFAULT_ROWS = 200, 50


def _utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_utc)]
"""An instant; without a time zone it is UTC."""
Limit = Annotated[int, Query(ge=1, le=MAX_ROWS)]


class Answer(BaseModel):
    """The base of every answer: it has the fields that it says, and no others."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class PageOf(Answer, Generic[Item]):
    """Some rows of a list, and what to ask for the following ones: `after=<next>`, None at its end."""

    items: list[Item]
    next: str | None


class VersionRef(Answer):
    """A version and the role that it has, or had."""

    label: str
    model_id: str
    version: str
    role: Role | None


def ref_of(version: VersionSpec | RegisteredVersion) -> VersionRef:
    """Return how an answer names a version."""
    return VersionRef(
        label=version.label, model_id=version.model_id, version=version.version, role=version.role
    )


def ref(model_id: str, version: str, role: str | None) -> VersionRef:
    """Return how an answer names the version of a row."""
    return VersionRef(
        label=f"{model_id}@{version}",
        model_id=model_id,
        version=version,
        role=Role(role) if role else None,
    )


def key_text(*values: object) -> str:
    """Return the key of a list's last row as the text that asks for the rows behind it."""
    return json.dumps([v.isoformat() if isinstance(v, datetime) else v for v in values])


def key_values(text: str | None, *kinds: type) -> list[Any] | None:  # Any: of these kinds
    """Return the values of `key_text`; 400 if it is something else."""
    if text is None:
        return None
    try:
        values = json.loads(text)
        if not isinstance(values, list) or len(values) != len(kinds):
            raise ValueError
        return [
            _utc(datetime.fromisoformat(value))
            if kind is datetime
            else float(value)
            if kind is float and value is not None
            else _checked(value, kind)
            for value, kind in zip(values, kinds, strict=True)
        ]
    except (ValueError, TypeError, RecursionError) as error:
        raise HTTPException(400, "after is not the `next` of an answer") from error


def _checked(value: Any, kind: type) -> Any:  # Any: a JSON value
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise TypeError
    return value


def fixed(request: Request, answer: BaseModel | Mapping[str, Any]) -> Response:  # Any: JSON values
    """Return an answer with an ETag, or 304 where the browser has it: of what can hardly change."""
    content = (
        answer.model_dump_json().encode()
        if isinstance(answer, BaseModel)
        else JSONResponse(dict(answer)).body
    )
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)
