"""The few calls of Airflow's REST API that the demo makes."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from demo.errors import DemoError

CALL_TIMEOUT_S = 20.0
ATTEMPTS = 5
POLL_S = 0.4


class ApiError(DemoError):
    """Failed call of the API; `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(slots=True)
class Airflow:
    """Airflow's API at `address`; every method raises ApiError when a call does not work.

    Without a user it signs in as the one that an Airflow has in which all are administrators.
    """

    address: str
    user: str = ""
    password: str = field(default="", repr=False)
    _token: str = field(default="", repr=False)

    def healthy(self) -> bool:
        """Tell whether every component reports that it is healthy; False while the server does not answer."""
        try:
            health = self._once("GET", "/api/v2/monitor/health")
        except ApiError:
            return False
        components = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(name) or {}).get("status") == "healthy" for name in components)

    def has_dag(self, dag_id: str) -> bool:
        """Tell whether the Dag was parsed and is not stale."""
        try:
            dag = self._call("GET", f"/api/v2/dags/{dag_id}")
        except ApiError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:  # not parsed yet
                return False
            raise
        return not dag["is_stale"] and dag["last_parsed_time"] is not None

    def import_errors(self) -> list[str]:
        """Return the last line of every Dag file's import error, behind the name of the file."""
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in errors]

    def unpause(self, dag_id: str) -> None:
        """Let the Dag run."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Let the Dag start no further runs."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", {"is_paused": True})

    def end_leftovers(self, dag_id: str, first: datetime, last: datetime) -> int:
        """Cancel open backfills and fail unfinished runs of [first, last]; return how many there were.

        A demo that was interrupted leaves them, and Airflow starts no second backfill beside an open one.
        """
        ended = 0
        newest = self._call("GET", f"/api/v2/backfills?dag_id={dag_id}&order_by=-id&limit=20")
        for backfill in newest["backfills"]:
            if backfill["completed_at"] is None:
                with _conflict_ignored():
                    self._call("PUT", f"/api/v2/backfills/{backfill['id']}/cancel")
                ended += 1
        for run in self.runs(dag_id, first, last):
            if run["state"] in {"queued", "running"}:
                path = f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}?update_mask=state"
                self._call("PATCH", path, {"state": "failed"})
                ended += 1
        return ended

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, object]) -> None:
        """Start a run by hand, without a logical date."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        with _conflict_ignored():
            self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)

    def end_running(self, dag_id: str) -> None:
        """Fail the runs that have not ended."""
        query = "state=running&state=queued&limit=100"
        for run in self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{query}")["dag_runs"]:
            path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run['dag_run_id'], safe='')}?update_mask=state"
            self._call("PATCH", path, {"state": "failed"})

    def run_states(self, dag_id: str, first: datetime, last: datetime) -> Counter[str]:
        """Return how many backfill runs of the cycles in [first, last] are in which state."""
        runs = self.runs(dag_id, first, last)
        return Counter(run["state"] for run in runs if run["run_type"] == "backfill")

    def backfill(self, dag_id: str, first: datetime, last: datetime, *, max_active_runs: int) -> None:
        """Run every tick of [first, last] as a backfill, also those that ran before."""
        body = {"dag_id": dag_id, "from_date": first.isoformat(), "to_date": last.isoformat()}
        with _conflict_ignored():
            self._call(
                "POST", "/api/v2/backfills",
                {**body, "max_active_runs": max_active_runs, "reprocess_behavior": "completed"},
            )  # fmt: skip

    def task_states(self, dag_id: str, run_id: str) -> tuple[tuple[str, str], ...]:
        """Return each task of a run with its state, in the order of their names."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        tasks = self._call("GET", path)["task_instances"]
        return tuple(sorted((task["task_id"], task["state"] or "none") for task in tasks))

    def runs(self, dag_id: str, first: datetime, last: datetime | None) -> list[dict[str, Any]]:
        """Return the runs of the ticks in [first, last], or from `first` on."""
        # Any: a run as Airflow's API describes it; a few of its fields are read
        runs: list[dict[str, Any]] = []
        span = {"logical_date_gte": first.isoformat()}
        if last is not None:
            span["logical_date_lte"] = last.isoformat()
        while True:
            query = urlencode({**span, "limit": 100, "offset": len(runs)})
            answer = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{query}")
            runs += answer["dag_runs"]
            if len(runs) >= answer["total_entries"] or not answer["dag_runs"]:
                return runs

    def _call(self, method: str, path: str, body: object = None) -> Any:  # Any: JSON, read right away
        """Make a call, up to ATTEMPTS times while there is no answer; every call here may be repeated."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._once(method, path, body, token=self._sign_in())
            except ApiError as exc:
                if exc.status:
                    raise
                time.sleep(POLL_S)
        return self._once(method, path, body, token=self._sign_in())

    def _once(self, method: str, path: str, body: object = None, *, token: str = "") -> Any:  # Any: JSON
        request = urllib.request.Request(self.address + path, method=method)  # noqa: S310  # always http, loopback
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with _OPENER.open(request, timeout=CALL_TIMEOUT_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as exc:
            with exc:
                text = " ".join(exc.read().decode(errors="replace").split())[:300]
            raise ApiError(f"Airflow refused {method} {path} ({exc.code}): {text}", exc.code) from exc
        except (OSError, HTTPException) as exc:
            raise ApiError(f"Airflow did not answer {method} {path}: {exc}") from exc

    def _sign_in(self) -> str:
        if not self._token:
            login = {"username": self.user, "password": self.password} if self.user else None
            answer = self._once("POST" if login else "GET", "/auth/token", login)
            self._token = answer["access_token"]
        return self._token


@contextmanager
def _conflict_ignored() -> Iterator[None]:
    """Pass over a CONFLICT: an earlier call that got no answer has done the same already."""
    try:
        yield
    except ApiError as exc:
        if exc.status != HTTPStatus.CONFLICT:
            raise


# Airflow is on this machine: a proxy that the environment names is not used.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_until(
    event: str, has_happened: Callable[[], bool], *, check: Callable[[], None], timeout_s: float
) -> None:
    """Poll until `has_happened()`; `check()` is called in between and may raise.

    Raises:
        DemoError: it did not happen within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while not has_happened():
        check()
        if time.monotonic() > deadline:
            raise DemoError(f"{event} did not happen within {timeout_s:.0f} seconds")
        time.sleep(POLL_S)
