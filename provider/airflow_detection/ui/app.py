"""The ASGI application behind the pages, made with the first request: a plugin is imported everywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

Scope = MutableMapping[str, Any]  # Any: as ASGI has it
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LazyApp:
    """An ASGI application that imports FastAPI and the rest of this room with its first request."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "the pages of detection"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._app is None:
            await asyncio.to_thread(self.load)
        if self._app is not None:
            await self._app(scope, receive, send)

    def load(self) -> FastAPI:
        """Make the application, unless it has been made."""
        with self._lock:
            if self._app is None:
                from airflow_detection.ui.service import create_app

                self._app = create_app()
        return self._app
