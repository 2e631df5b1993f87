"""The demo's work in the registry: schema, models, positions, the cycles to run, and their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from airflow_detection.errors import DetectionError
from airflow_detection.maritime.ais.load import LoadReport, load_file
from airflow_detection.maritime.simulation import day
from airflow_detection.registration.apply import apply_file
from airflow_detection.snapshot.report import Standing, from_json
from airflow_detection.store import grants, migrations, promotions, snapshots
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from demo import postgres
from demo.errors import DemoError
from demo.postgres import Databases
from demo.settings import CHECKOUT

CYCLE_ID = "maritime"
DAG_ID = f"detection_{CYCLE_ID}"
SCHEMA = "detection"
MODELS = CHECKOUT / "dags" / "registry" / "maritime.yaml"
INTERVAL = timedelta(minutes=5)
SIMULATED_DAY = datetime(2025, 1, 1, tzinfo=UTC)
SEED = 7
HOUR = 12
"""Cycles of an hour."""
MIN_CYCLES = "min_cycles: {}"
QUERIES = Path(__file__).with_name("queries.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of one version in one cycle; None where it left no manifest.

    `is_new`: the manifest is of this demo. `error`: the error of a failure, of a failed rerun, or the reason
    of a skip.
    """

    cycle_started_at: datetime
    model_id: str
    version: str
    role: str
    outcome: str | None
    input_count: int | None
    output_count: int | None
    duration_ms: float | None
    is_new: bool | None
    error: str | None

    @property
    def is_good(self) -> bool:
        """Tell whether the version ran in this demo and succeeded."""
        return self.outcome == "SUCCEEDED" and bool(self.is_new)


def statements() -> Mapping[str, str]:
    """Return the named statements of `queries.sql`."""
    sections = QUERIES.read_text().split("-- name: ")[1:]
    return {section.split("\n", 1)[0].strip(): section.split("\n", 1)[1] for section in sections}


def metadata_revision(dsn: str) -> str:
    """Return the migration that Airflow's metadata is at, or nothing when there is none."""
    with psycopg.connect(dsn) as conn:
        try:
            row = conn.execute(statement("metadata_revision")).fetchone()
        except psycopg.errors.UndefinedTable:
            return ""
    return str(row[0]) if row else ""


def migrate(dsn: str) -> str:
    """Bring the registry's schema up to date; return a few words about it."""
    with connection(dsn) as conn:
        applied = migrations.migrate(Database(conn, SCHEMA), packs=("maritime",))
    return f"{len(applied)} migrations applied" if applied else "up to date"


def grant_logins(databases: Databases) -> str:
    """Make the logins of Airflow and of the models where the server is the demo's own; tell who reads."""
    if databases.models is None:
        return "models read with the rights of DSN"
    with connection(databases.owner) as conn:
        db = Database(conn, SCHEMA)
        grants.grant(db)
        for dsn, roles in ((databases.registry, grants.ROLES), (databases.models, grants.ROLES[:1])):
            login = conninfo_to_dict(dsn)
            grants.grant_login(db, str(login["user"]), roles, password=str(login["password"]))
    return f"models read as {postgres.MODELS_LOGIN}"


def apply_models(dsn: str, state: Path, cycles: int) -> str:
    """Apply the maritime registry file; return a few words about it.

    Its policy asks for an hour of cycles, or for as many as the demo runs. A promotion that was approved in
    an earlier demo stays.
    """
    path = state / MODELS.name
    path.write_text(MODELS.read_text().replace(MIN_CYCLES.format(HOUR), MIN_CYCLES.format(min(HOUR, cycles))))
    with connection(dsn) as conn:
        db = Database(conn, SCHEMA)
        if promoted := promotions.promoted_champions(db):
            labels = ", ".join(f"{p.model_id}@{p.version}" for p in promoted.values())
            return f"as an earlier demo left them: {labels} by promotion"
        changes = apply_file(db, path)
    return f"{MODELS.relative_to(CHECKOUT)}, {f'{len(changes)} changes' if changes else 'nothing new'}"


def simulate(state: Path) -> Path:
    """Return the file of the simulated day, which is written the first time."""
    path = state / f"simulated-{SIMULATED_DAY:%Y-%m-%d}.csv"
    if not path.exists():
        part = path.with_name("part.csv")
        day.write_day(part, start=SIMULATED_DAY, hours=24, seed=SEED)
        day.truth_path(part).replace(day.truth_path(path))
        part.replace(path)
    return path


def load(dsn: str, path: Path) -> LoadReport:
    """Load a positions file."""
    with connection(dsn) as conn:
        return load_file(conn, path, schema=SCHEMA)


@contextmanager
def connection(dsn: str) -> Iterator[Connection]:
    """Connection in UTC and in autocommit mode; an error inside becomes a DemoError of one line."""
    try:
        with connect(dsn) as conn:
            yield conn
    except (DetectionError, psycopg.Error) as exc:
        raise DemoError(" ".join(str(exc).split())) from exc


def last_cycles(last_position: datetime, count: int, *, now: datetime) -> list[datetime]:
    """Return the last `count` cycles whose window ends at or before `last_position`, rounded up.

    None lies after `now`: Airflow makes no run of the future.
    """
    epoch = datetime.fromtimestamp(0, UTC)
    last = epoch + min(-(-(last_position - epoch) // INTERVAL), (now - epoch) // INTERVAL) * INTERVAL
    return [last - INTERVAL * back for back in reversed(range(count))]


def last_position(dsn: str) -> datetime:
    """Return the time of the newest position up to now, UTC.

    Raises:
        DemoError: there is none.
    """
    with connection(dsn) as conn:
        row = conn.execute(statement("last_position")).fetchone()
    if row is None or row[0] is None:
        raise DemoError("no position was loaded, so there is no cycle to run")
    position_at: datetime = row[0]
    return position_at.astimezone(UTC)


def results(dsn: str, cycles: Sequence[datetime], *, since: datetime) -> list[Result]:
    """Return the result of each version with a role in each cycle; `since` is the start of this demo."""
    params = {"cycles": list(cycles), "cycle_id": CYCLE_ID, "since": since}
    with connection(dsn) as conn, conn.cursor(row_factory=class_row(Result)) as cursor:
        return cursor.execute(statement("results"), params).fetchall()


def report(dsn: str, end: datetime) -> tuple[str, tuple[Standing, ...]] | None:
    """Return the headline and the standings of the stored report of the hour that ends at `end`, if any."""
    with connection(dsn) as conn:
        stored = snapshots.hourly(Database(conn, SCHEMA), end - snapshots.HOUR)
        if stored is None:
            return None
        parsed = from_json(stored.report)
    return parsed.headline, parsed.standings


def statement(name: str) -> bytes:
    return statements()[name].encode()
