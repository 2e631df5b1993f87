"""What a release is made of: the same bytes from the same commit, types that a user's checker sees."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSUMER = """
from datetime import datetime

from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.hooks.detection import DetectionHook
from airflow_detection.sensors.output import DetectionOutputSensor


class Fast(BaseDetectionModel):
    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(outputs_per_input=[({"id": "a"}, {"score": 0.5})], metrics={"n": len(ctx.inputs)})


def champion(at: datetime) -> str:
    plan = DetectionHook().plan("fleet", at)
    return plan.primaries["fast"].version


sensor = DetectionOutputSensor(task_id="wait", model_id="fast")
"""
WRONG = {
    "len(ctx.inputs)": 'ctx.inputs + ["a"]',
    'return plan.primaries["fast"].version': "return plan.primaries",
    'model_id="fast")': "model_id=1)",
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What `make dist` gives in two clones of the last commit, made with other rights and times."""
    folders = []
    for name, umask in (("first", 0o022), ("second", 0o077)):
        clone = tmp_path_factory.mktemp("release") / name
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True, umask=umask)
        (clone / ".venv").symlink_to(Path(sys.prefix))
        subprocess.run([".ci/dist"], cwd=clone, check=True, capture_output=True, umask=umask)
        folders.append(clone / "dist")
    return folders


def test_a_release_has_the_same_bytes_from_the_same_commit(releases: list[Path]) -> None:
    first, second = (
        {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in r.iterdir()} for r in releases
    )
    assert first == second
    assert {Path(name).suffix for name in first} == {".whl", ".gz", ".json", ""}
    sums = dict(line.split()[::-1] for line in (releases[0] / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: digest for name, digest in first.items() if name != "SHA256SUMS"}


def test_the_bill_of_materials_has_what_the_wheel_needs_and_nothing_of_the_tests(
    releases: list[Path],
) -> None:
    (path,) = releases[0].glob("*.cdx.json")
    bill = json.loads(path.read_text())
    assert bill["metadata"]["component"]["name"] == "airflow-provider-detection"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {tuple(line.partition(";")[0].strip().split("==")) for line in lines}
    components = {c["name"]: c["version"] for c in bill["components"]}
    assert {"apache-airflow", "apache-airflow-core", "psycopg", "psycopg-binary", "numpy", "scipy"} <= {
        *components
    }
    assert not {"pytest", "mypy", "matplotlib", "sphinx"} & {*components}
    assert {*components.items()} <= pins
    known = {d["ref"] for d in bill["dependencies"]}
    assert {needed for d in bill["dependencies"] for needed in d.get("dependsOn", ())} <= known


@pytest.fixture(scope="module")
def consumer_python(releases: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the built wheel, and what it needs from here."""
    env = tmp_path_factory.mktemp("consumer") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = env / "lib" / version / "site-packages"
    (wheel,) = releases[0].glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return env / "bin" / "python"


def type_check(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "consumer.py").write_text(code)
    command = ["mypy", "--strict", "--python-executable", str(python), "--cache-dir", str(folder / "cache")]
    env = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    return subprocess.run(
        [sys.executable, "-m", *command, "consumer.py"],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.long  # the types of Airflow are read, too
def test_a_consumers_type_checker_sees_the_types_of_the_wheel(consumer_python: Path, tmp_path: Path) -> None:
    done = type_check(consumer_python, CONSUMER, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    code = CONSUMER
    for right, wrong in WRONG.items():
        assert right in code
        code = code.replace(right, wrong)
    done = type_check(consumer_python, code, tmp_path)
    assert done.stdout.count("error:") == len(WRONG), done.stdout
