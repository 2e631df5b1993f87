"""The application: one router with one access rule, and errors as one sentence each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from airflow_detection.domain.text import visible
from airflow_detection.errors import (
    ConfigurationError,
    DetectionError,
    EventError,
    MigrationError,
    PlanError,
    RegistrationError,
    RegistryUnavailable,
    StorageError,
)
from airflow_detection.ui import static
from airflow_detection.ui.access import signed_in
from airflow_detection.ui.api.subjects import ROUTERS

log = logging.getLogger(__name__)
MAX_SESSIONS = 8
"""Sessions of the database that one process has at a time; further requests wait."""
NUL = "a value of the request has a NUL character, which no text here has"
REFUSED = (PlanError, RegistrationError, EventError)
"""What was asked for cannot be: the caller's own mistake."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"
    ),
}
"""What an answer may do if somebody opens it by itself: nothing. A script is not bound by its own header."""


def create_app() -> FastAPI:
    """Make the application."""
    app = FastAPI(title="Detection", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.slots = asyncio.Semaphore(MAX_SESSIONS)
    router = APIRouter(dependencies=[Depends(signed_in)])
    for subject in ROUTERS:
        router.include_router(subject, prefix="/api")
    router.include_router(static.router)
    app.include_router(router)
    app.middleware("http")(_secure)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(DetectionError)(_failed)
    app.exception_handler(psycopg.Error)(_failed)
    app.exception_handler(Exception)(_unexpected)
    return app


async def _secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    answer = sentence(400, NUL) if _has_nul(request) else await call_next(request)
    for name, value in SECURITY_HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers.setdefault("Cache-Control", "private, no-cache")
    return answer


def _has_nul(request: Request) -> bool:
    """Tell whether a value of the request has a character that no text in Postgres can have."""
    return "\0" in request.url.path or "%00" in request.url.query


def sentence(status: int, text: str) -> JSONResponse:
    """An error as the app shows it."""
    return JSONResponse({"detail": visible(text)}, status)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what the handler is registered for
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return sentence(400, f"{place}: {first['msg']}")


def _failed(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, psycopg.errors.QueryCanceled) or isinstance(
        error.__cause__, psycopg.errors.QueryCanceled
    ):
        return sentence(503, "the answer took too long: ask for a shorter period, or try again")
    if isinstance(error, REFUSED):
        return sentence(400, str(error))
    if isinstance(error, psycopg.DataError):
        return sentence(400, f"a value cannot be asked for: {error.diag.message_primary or error}")
    if isinstance(error, RegistryUnavailable):
        return sentence(503, f"the registry's database does not answer: {error}")
    if isinstance(error, MigrationError | ConfigurationError):
        return sentence(503, str(error))
    log.error("a page could not be answered", exc_info=error)
    if isinstance(error, StorageError | psycopg.Error):
        return sentence(503, f"the registry's database refused: {error}")
    return sentence(503, str(error))


def _unexpected(_request: Request, error: Exception) -> JSONResponse:
    log.error("a page could not be answered", exc_info=error)
    return sentence(500, f"the answer failed: {type(error).__name__}; the log of the API server says more")
