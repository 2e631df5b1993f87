"""The built pages: files of `ui/static` with their types, and 304 for what has not changed."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".map": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
router = APIRouter()


@router.get("/static/{name:path}")
def static_file(name: str, request: Request) -> Response:
    """Return a file of the built pages."""
    path = (FOLDER / name).resolve()
    if FOLDER not in path.parents or path.suffix not in TYPES or not path.is_file():
        raise HTTPException(404, f"there is no file {name!r}")
    content = path.read_bytes()
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=TYPES[path.suffix], headers=headers)
