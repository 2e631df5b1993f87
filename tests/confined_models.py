"""Model that says what it finds: its standard streams, its environment, its folder."""

from __future__ import annotations

import ctypes
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import structlog

from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult

MIB = 2**20


class Confined(BaseDetectionModel):
    """Do what `params.does` names; one output with what it returns."""

    def run(self, ctx: ModelContext) -> ModelResult:
        found = DEEDS[ctx.params["does"]](ctx)
        return ModelResult(outputs_per_input=[({}, {"id": "found", "score": 0.5, "found": found})])


def prints(ctx: ModelContext) -> dict[str, Any]:
    """Write one line in each way that there is, and tell what the standard descriptors are."""
    found = {
        "descriptors": [_kind(fd) for fd in range(3)],
        "isatty": [s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__) if s is not None],
    }
    with tempfile.TemporaryFile() as file:
        print("line of print")
        print("line of stderr", file=sys.stderr)
        print("line of __stdout__", file=sys.__stdout__)
        os.write(1, b"line of os.write\n")
        ctypes.CDLL(None).puts(b"line of C")
        logging.getLogger("acme").warning("line of logging")
        structlog.get_logger("acme").warning("line of structlog", n=3)
        ctx.log.warning("line of the context")
        warnings.warn("line of warnings", stacklevel=1)
        subprocess.run(["sh", "-c", "echo line of a subprocess; cat"], check=True)
        found |= {"opened": file.fileno(), "in_file": os.fstat(file.fileno()).st_size}
    return found | {"read": sys.stdin.read()}


def _kind(fd: int) -> str:
    mode = os.fstat(fd).st_mode
    if stat.S_ISCHR(mode):
        return os.devnull if os.fstat(fd).st_rdev == Path(os.devnull).stat().st_rdev else "a terminal"
    return "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a file"


def looks_for_secrets(ctx: ModelContext) -> dict[str, Any]:
    """Collect the variables that Python, C, a subprocess and /proc show."""
    names = subprocess.run(["env", "-0"], check=True, capture_output=True).stdout
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    looked_for = ("AIRFLOW_CONN_DETECTION_DEFAULT", "AIRFLOW__API_AUTH__JWT_SECRET", "PGPASSWORD", "ACME_KEY")
    everything = "\0".join([
        *(f"{k}={v}" for k, v in os.environ.items()),
        names.decode(),
        Path("/proc/self/environ").read_bytes().decode(),
    ])  # fmt: skip
    assert ctx.database
    return {
        "names": sorted(os.environ),
        "getenv": [name for name in looked_for if getenv(name.encode()) is not None],
        "everything": everything.replace("\0", "\n"),
        "acme_key": os.environ.get("ACME_KEY"),
        "user": ctx.database.query("select session_user::text as who")["who"][0],
    }


def writes_files(ctx: ModelContext) -> dict[str, Any]:
    """Leave files where temporary files go, and where relative paths lead."""
    Path("relative").write_text("x")
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"x")
    return {"folder": tempfile.gettempdir(), "cwd": str(Path.cwd()), "files": len(list(Path().iterdir()))}


def fills_the_disk(ctx: ModelContext) -> dict[str, Any]:
    """Write 64 MiB into one file."""
    with Path("large").open("wb") as file:
        for _ in range(64):
            file.write(bytes(MIB))
    return {}


def allocates(ctx: ModelContext) -> dict[str, Any]:
    """Take 512 MiB."""
    return {"bytes": len(bytearray(512 * MIB))}


def swallows_everything(ctx: ModelContext) -> dict[str, Any]:
    """Go on for a minute whatever is raised."""
    end_at = time.monotonic() + 60
    while time.monotonic() < end_at:
        try:
            time.sleep(60)
        except BaseException:  # noqa: S112
            continue
    return {}


def dies(ctx: ModelContext) -> dict[str, Any]:
    """Leave a file, print where, and be killed."""
    Path("left").write_text("x")
    print(f"folder {Path.cwd()}")
    os.kill(os.getpid(), 9)
    return {}


def connects_by_itself(ctx: ModelContext) -> dict[str, Any]:
    """Connect with what the environment gives."""
    with psycopg.connect("") as conn:
        return {"user": conn.info.user}


DEEDS: dict[str, Callable[[ModelContext], dict[str, Any]]] = {
    "prints": prints,
    "looks_for_secrets": looks_for_secrets,
    "writes_files": writes_files,
    "fills_the_disk": fills_the_disk,
    "allocates": allocates,
    "swallows_everything": swallows_everything,
    "dies": dies,
    "connects_by_itself": connects_by_itself,
}
"""What the model may be told to do, by name."""
