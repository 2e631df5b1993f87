"""Folder of a version's process, below that of temporary files: removed at its end, whatever that is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "detection-version-"
_SETTLED_S = 60.0
_BLOCK_BYTES = 4096


class Folder:
    """Folder that is locked as long as the task that made it lives."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def takes_more_than(self, max_bytes: int) -> bool:
        """Tell whether its files together are larger; each counts for one block at least."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(OSError):  # removed meanwhile
                    total += max(_BLOCK_BYTES, os.lstat(os.path.join(folder, name)).st_size)  # noqa: PTH118
                if total > max_bytes:
                    return True
        return False

    def remove(self) -> None:
        """Remove it with all that it holds; nothing happens if it has been removed."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


def remove_leftovers() -> None:
    """Remove the folders of tasks that were killed: no process holds their lock."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or another task removes it
            status = path.lstat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _SETTLED_S:
                continue  # one that was just made is not locked yet
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
