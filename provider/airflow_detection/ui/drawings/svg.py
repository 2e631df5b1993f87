"""Pictures as answers: with an ETag, and 304 where the browser has them."""

from __future__ import annotations

import hashlib

from fastapi import Request, Response


def svg_answer(request: Request, content: str) -> Response:
    """Return a picture with an ETag, or 304 where the browser has it."""
    tag = f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/svg+xml", headers=headers)
