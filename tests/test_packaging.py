"""The wheel and the checkout carry the same things; the pins name versions and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_every_statement_and_migration(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = {f"airflow_detection/sql/{p.relative_to(ROOT / 'sql')}" for p in (ROOT / "sql").rglob("*.sql")}
    assert ours
    assert ours <= inside
    assert "airflow_detection/py.typed" in inside
    assert "airflow_detection/registration/registration.schema.json" in inside


def test_the_wheel_carries_the_examples_as_they_are(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if "/examples/" in name}
    tracked = subprocess.check_output(["git", "ls-files", "examples"], cwd=ROOT, text=True).split()
    assert "examples/payments/registry.yaml" in tracked
    assert inside == {f"airflow_detection/{name}" for name in tracked}


def test_the_wheel_carries_the_built_pages_and_not_their_sources(wheel: Path) -> None:
    inside = zipfile.ZipFile(wheel).namelist()
    assert "airflow_detection/ui/static/detection.js" in inside
    assert [name for name in inside if "/www/" in name or "node_modules" in name] == []


def test_the_source_distribution_carries_the_sources_of_the_pages(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    names = subprocess.check_output(["tar", "tzf", next(tmp_path.glob("*.tar.gz"))], text=True).splitlines()
    inside = [name.partition("/")[2] for name in names]
    pages = ("www/package-lock.json", "www/src/main.tsx", "static/detection.js")
    assert {f"provider/airflow_detection/ui/{name}" for name in pages} <= {*inside}
    assert [name for name in inside if "node_modules" in name] == []


def test_the_wheel_carries_every_file_of_the_pages(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "provider" / "airflow_detection" / "ui" / "static"
    ours = {f"airflow_detection/ui/static/{p.relative_to(folder)}" for p in folder.rglob("*.*")}
    assert "airflow_detection/ui/static/icon.svg" in ours
    assert ours <= inside


def test_an_unpacked_wheel_reads_its_own_sql_and_a_checkout_reads_it_in_place(
    wheel: Path, tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    where = "from airflow_detection.store.queries import sql_root; print(sql_root())"
    for home, expected in ((tmp_path, tmp_path / "airflow_detection/sql"), (ROOT / "provider", ROOT / "sql")):
        process = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(home)!r}); {where}"],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert Path(process.stdout.strip()) == expected


def test_airflow_finds_the_module_that_it_derives_from_the_distributions_name(
    wheel: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.dag_processing.bundles import manager

    bundles: list[Any] = []
    manager._add_provider_example_dags_to_bundle(bundles)
    assert "airflow_provider_detection" not in caplog.text
    assert not [bundle for bundle in bundles if "detection" in bundle.name], "and there are no examples in it"
    assert "airflow_provider_detection/__init__.py" in zipfile.ZipFile(wheel).namelist()


def test_constraints_have_names_and_versions_and_no_addresses() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+( ; .+)?", line), line
        assert "://" not in line


def test_the_entry_points_load() -> None:
    (provider,) = (e for e in entry_points(group="apache_airflow_provider") if "airflow_detection" in e.value)
    assert provider.load()()["package-name"] == "airflow-provider-detection"
    models = {e.name: e.load() for e in entry_points(group="airflow_detection.models")}
    assert {"track_quality", "spoofing"} <= models.keys()
    drawings = {e.name: e.load() for e in entry_points(group="airflow_detection.drawings")}
    assert drawings["track"].title == "Track"
