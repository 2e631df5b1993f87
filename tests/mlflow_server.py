"""A real `mlflow server` for tests, in a folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

START_S = 300.0
ATTEMPTS = 3
"""Another program may take a port between its choice and the start of the server."""


@contextmanager
def mlflow_server(python: str | Path, folder: Path) -> Iterator[str]:
    """Run the server of the environment of a Python; return its address.

    It has one worker, and its database, files and log are in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    for _ in range(ATTEMPTS):
        process, address = _start(python, folder, log)
        try:
            if _answers(process, address):
                yield address
                return
        finally:
            _end(process)
    raise AssertionError(f"mlflow server did not start:\n{log.read_text()[-4000:]}")


def _start(python: str | Path, folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store, files = f"sqlite:///{folder}/mlflow.db", str(folder / "files")
    command = [
        str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", store, "--artifacts-destination", files,
    ]  # fmt: skip
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    return process, f"http://127.0.0.1:{port}"


def _answers(process: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the server is healthy; tell whether it is, and has not ended."""
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urlopen(f"{address}/health", timeout=5) as answer:  # noqa: S310 - of this machine
                if answer.status == 200 and process.poll() is None:
                    return True
        except OSError:
            time.sleep(0.2)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server with its workers, which outlive it otherwise."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
