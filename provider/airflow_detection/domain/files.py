"""Files that others read while they are replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any
from uuid import uuid4


@contextmanager
def replacing(path: Any, *, mode: int = 0o600) -> Iterator[IO[bytes]]:  # Any: see `path`
    """Give a file beside `path`, and move it there at the end: a reader sees the old one or the new one.

    After an error nothing is left of it, and `path` is as it was.

    Args:
        path: a local path, or one of an object store.
        mode: the rights of a local file, less the umask.

    Raises:
        OSError: it cannot be written; client libraries of object stores raise others.
    """
    part = path.parent / f".part-{uuid4().hex}"
    is_local = isinstance(part, Path)
    try:
        with open(part, "xb", opener=partial(os.open, mode=mode)) if is_local else part.open("wb") as file:
            yield file
        part.replace(path) if is_local else part.rename(path)
    except BaseException:
        with suppress(Exception):
            part.unlink()
        raise
