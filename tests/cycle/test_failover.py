"""A primary server that goes down while a model computes: the standby that is promoted takes the result."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests import sample_registry
from tests.postgres import postgres
from tests.sample_registry import AT, SCHEMA
from tests.store.servers import standby

from airflow_detection.cycle import inline, planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import RegistryUnavailable
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

SETTINGS = Settings(allowed_prefixes=("tests.cycle.test_failover", "tests.sample_registry"))


class FailsOver(BaseDetectionModel):
    """Computes while the primary is killed and its standby promoted."""

    def run(self, ctx: ModelContext) -> ModelResult:
        promote(ctx.params["primary"], ctx.params["standby"])
        return ModelResult(outputs_per_input=[({}, {"id": "a", "score": 1.0})])


def promote(primary: str, copy: str) -> None:
    with connect(primary) as conn, connect(copy) as follower:
        end = time.monotonic() + 20
        written = conn.execute("select pg_current_wal_insert_lsn()").fetchone()
        while follower.execute("select pg_last_wal_replay_lsn() >= %s", written).fetchone() != (True,):
            assert time.monotonic() < end, "the standby does not follow"
            time.sleep(0.02)
        data = Path(str(conninfo_to_dict(primary)["host"]))
        os.kill(int((data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGQUIT)
        assert follower.execute("select pg_promote()").fetchone() == (True,)
    while is_up(primary):
        assert time.monotonic() < end, "the primary is still there"
        time.sleep(0.02)


def is_up(dsn: str) -> bool:
    try:
        connect(dsn).close()
    except RegistryUnavailable:
        return False
    return True


@dataclass(frozen=True)
class Pair:
    """Two servers, and a connection string that leads to whichever of them is the primary."""

    primary: str
    standby: str

    @property
    def both(self) -> str:
        hosts = [str(conninfo_to_dict(dsn)["host"]) for dsn in (self.primary, self.standby)]
        return make_conninfo(
            self.primary, host=",".join(hosts), target_session_attrs="read-write", keepalives_idle=7
        )


@pytest.fixture
def servers() -> Iterator[Pair]:
    if os.environ.get("DETECTION_TEST_DSN"):
        pytest.skip("DETECTION_TEST_DSN names the server: only an embedded one is killed")
    with postgres("DETECTION_NO_OTHER_DSN", is_durable=False) as primary:
        with connect(primary) as conn:
            migrate(Database(conn, SCHEMA))
        with standby(primary) as copy:
            yield Pair(primary, copy)


@pytest.mark.parametrize("is_inline", [True, False], ids=["inline", "task"])
def test_a_result_is_stored_on_the_server_that_was_promoted(servers: Pair, *, is_inline: bool) -> None:
    with connect(servers.both) as conn:
        sample_registry.put_cycle(conn)
        sample_registry.put_model(conn, "m", entrypoint="tests.cycle.test_failover:FailsOver")
        params: dict[str, Any] = {"primary": servers.primary, "standby": servers.standby}
        sample_registry.put_version(conn, "m@1", Role.PRIMARY, **params)
        db = Database(conn, SCHEMA)
        planning.open_cycle(db, "fleet", AT, mode=Mode.AS_OF)
        if is_inline:
            (report,) = inline.run_inline(db, SETTINGS, "fleet", AT, mode=Mode.AS_OF).reports
        else:
            request = VersionRequest(model_id="m", cycle_id="fleet", started_at=AT)
            report = run_task(db, SETTINGS, request)
        assert report.error is None
        assert report.outcome is Outcome.SUCCEEDED
    with connect(servers.standby) as conn:
        assert sample_registry.outcomes(conn) == {"m@1": "SUCCEEDED"}
