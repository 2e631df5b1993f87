"""A process that has a module loaded and forks one process of its own for each request.

Loading Airflow is most of the time of a test that needs it in a fresh process. The module has `load()`, which
runs once, and `answer(request)`, which runs in the forked process; requests and answers are JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from tempfile import TemporaryFile
from types import ModuleType
from typing import IO, Any

TIMEOUT_S = 240


class ForkServer:
    """The loaded process, seen from the tests."""

    def __init__(self, module: str, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", module],
            env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, request: Any) -> Any:  # Any: JSON
        """Return the answer of a process forked for this request, and print what it wrote."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        ended = json.loads(self._process.stdout.readline())
        print(ended["written"])  # pytest shows it when the test fails
        assert ended["status"] == 0, ended["status"]
        return ended["answer"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=TIMEOUT_S)


def serve(module: ModuleType) -> None:
    """Answer each line of standard input with a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module.load()
    for line in sys.stdin:
        with TemporaryFile("w+") as answer, TemporaryFile("w+", errors="replace") as written:
            if (child := os.fork()) == 0:
                _answer(module, json.loads(line), answer, written)
            _, status = os.waitpid(child, 0)
            for file in (answer, written):
                file.seek(0)
            ended = {"answer": json.load(answer) if status == 0 else None, "written": written.read()}
        print(json.dumps({**ended, "status": status}), file=answers, flush=True)
    os._exit(0)  # what is loaded is not put away


def _answer(module: ModuleType, request: Any, answer: IO[str], written: IO[str]) -> None:
    """Write the answer and whatever else this process writes to the files, and end it."""
    signal.alarm(TIMEOUT_S)
    for descriptor in (1, 2):
        os.dup2(written.fileno(), descriptor)
    status = 1
    try:
        json.dump(module.answer(request), answer)
        answer.flush()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(import_module(sys.argv[1]))
