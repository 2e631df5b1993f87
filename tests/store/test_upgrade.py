"""A database of the release before: made and filled by its own code, brought up by this one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import check, migrate

ROOT = Path(__file__).parents[2]
FILL = """
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from airflow_detection.cycle import inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from payments import generate

dsn, examples, hour = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with connect(dsn) as conn:
    db = Database(conn)
    migrate(db)
    apply_file(db, examples / "payments" / "registry.yaml")
    generate.load(dsn, generate.week(date(2026, 1, 11))[0])
    opened = planning.open_cycle(db, "payments", datetime(2026, 1, 11, hour, tzinfo=UTC), mode=Mode.AS_OF)
    settings = Settings(allowed_prefixes=("payments",))
    for report in inline.run_steps(db, settings, opened, opened.steps):
        assert report.error is None, report.error
"""
RUNS = "select model_id, version, outcome, input_count, output_count from detection.detection_run_results"
READ = (
    f"{RUNS} order by 1, 2",
    "select entity_id, model_id, score from detection.detection_output_scores order by 1, 2, 3",
    "select model_id, version, role from detection.detection_current_roles order by 1, 2",
)
COUNTS = (
    "select cycle_started_at, count(*), count(distinct outcome)"
    " from detection.detection_run_results group by cycle_started_at"
)


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def newest_release(repository: Path) -> str | None:
    """Return the tag of the newest release, `v1.2.3`; None without one."""
    return next(
        iter(git(repository, "tag", "--list", "v[0-9]*", "--sort=-version:refname").splitlines()), None
    )


def unpack(repository: Path, tag: str, folder: Path) -> Path:
    """Unpack what a tag has of the package, its statements and its examples."""
    archive = subprocess.run(
        ["git", "-C", str(repository), "archive", tag, "provider", "sql", "examples"],
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def fill(tree: Path, dsn: str, hour: int) -> None:
    """Migrate and run a cycle of the payments example by the code of a tree."""
    path = os.pathsep.join([str(tree / "provider"), str(tree / "examples")])
    done = subprocess.run(
        [sys.executable, "-c", FILL, dsn, str(tree / "examples"), str(hour)],
        env=os.environ | {"PYTHONPATH": path}, cwd=tree, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def assert_upgrade(repository: Path, tag: str, folder: Path, dsn: str) -> int:
    """Make a database by a release, bring it up, run a cycle; return how many migrations it took."""
    fill(unpack(repository, tag, folder), dsn, hour=12)
    with connect(dsn) as conn:
        before = [conn.execute(query.encode()).fetchall() for query in READ]
        assert all(before)
        applied = migrate(Database(conn))
        assert [conn.execute(query.encode()).fetchall() for query in READ] == before
        check(Database(conn))
        fill(ROOT, dsn, hour=13)
        counts = conn.execute(COUNTS.encode()).fetchall()
        assert len(counts) == 2
        assert {row[1:] for row in counts} == {(len(before[0]), 1)}
    return len(applied)


@pytest.mark.long
@pytest.mark.matrix
def test_a_database_of_the_release_before_is_brought_up_and_runs(empty_dsn: str, tmp_path: Path) -> None:
    tag = newest_release(ROOT)
    if tag is None:
        pytest.skip("no release is tagged yet")
    assert_upgrade(ROOT, tag, tmp_path, empty_dsn)


@pytest.mark.long
def test_the_newest_tag_is_found_and_a_database_of_fewer_migrations_is_brought_up(
    empty_dsn: str, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    git(ROOT, "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(clone))
    last = git(clone, "log", "-1", "--format=%H", "--diff-filter=A", "--", "sql/migrations/*.sql")
    if git(clone, "rev-list", "--count", last) == "1":
        pytest.skip("the checkout has no history")
    for tag, commit in (("v0.0.9", last), ("v0.0.10", f"{last}^"), ("nightly", last)):
        git(clone, "tag", tag, commit)
    assert newest_release(clone) == "v0.0.10"
    assert assert_upgrade(clone, "v0.0.10", tmp_path / "release", empty_dsn) > 0
