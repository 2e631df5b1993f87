"""Parsing: the generated Dags on a fresh plan file, the same Dags written by hand, and those of dag-factory.

Fork-cold is what the Dag processor does (a fork of a process that imported Airflow, bytecode compiled), warm
the second parse in one process; both with serialisation. `task` is a worker's parse for one task.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import CycleSpec, ModelSpec, Role, VersionSpec
from airflow_detection.plan_cache import file as plan_file
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry

ROOT = Path(__file__).resolve().parents[1]
START = datetime(2026, 1, 1, tzinfo=UTC)
SIZES = (10, 100, 1000)
REPEATS = {10: 25, 100: 15, 1000: 7}
CYCLES, MODELS_EACH = 100, 10
OURS = (
    '"""Airflow dags."""\nfrom airflow_detection.dags.cycles import cycle_dags\n'
    "globals().update(cycle_dags())\n"
)
FACTORY = (
    '"""Airflow dags."""\nfrom airflow.sdk import DAG\nfrom dagfactory import load_yaml_dags\n'
    "load_yaml_dags(globals_dict=globals(), config_filepath={path!r})\n"
)

Json = dict[str, Any]  # Any: a JSON object


@dataclass(frozen=True, slots=True)
class Shape:
    """Number of cycles, and of models in each, with the models' dependencies: a chain or a tree."""

    name: str
    cycles: int
    models: int

    def upstreams(self, number: int) -> list[int]:
        """Return the upstreams of a model: the one before it in a chain, its parent in a ternary tree."""
        if number == 0:
            return []
        return [number - 1] if self.name == "chain" else [(number - 1) // 3]


def shapes() -> list[Shape]:
    """Return the shapes to parse."""
    single = [Shape(name, 1, n) for n in SIZES for name in ("chain", "tree")]
    return [*single, Shape("cycles", CYCLES, MODELS_EACH)]


def registry_of(shape: Shape) -> KnownRegistry:
    """Return the registry that the plan file holds."""

    def model(number: int) -> ModelSpec:
        name = f"model_{number:04}"
        champion = VersionSpec(model_id=name, version="1.0", role=Role.PRIMARY, params={"limit": number})
        return ModelSpec(
            model_id=name,
            depends_on=tuple(f"model_{u:04}" for u in shape.upstreams(number)),
            entrypoint="acme.models:Model",
            versions=(champion,),
        )

    def cycle(number: int) -> KnownCycle:
        spec = CycleSpec(
            cycle_id=f"cycle_{number:03}",
            schedule="*/5 * * * *",
            lookback=timedelta(hours=1),
            start_date=START,
        )
        return KnownCycle(spec=spec, models=tuple(model(n) for n in range(shape.models)))

    return KnownRegistry(read_at=time.time(), cycles=tuple(cycle(n) for n in range(shape.cycles)))


def edges(shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the (upstream, downstream) task ids of one cycle's generated Dag."""
    for number in range(shape.models):
        name = f"model_{number:04}"
        ups = [f"model_{u:04}" for u in shape.upstreams(number)] or ["open_cycle"]
        yield from ((up, name) for up in ups)
        yield from ((name, "close_cycle"), (name, "other_versions"))
    yield from (("open_cycle", "other_versions"), ("other_versions", "close_cycle"))


def by_hand(shape: Shape, *, has_assets: bool = True) -> str:
    """Return the same Dags as written by hand: one PythonOperator a task, in a loop.

    Without assets no other Dag can be scheduled on the outputs; the generated Dags have assets.
    """
    outlets = 'Asset(f"x-detection://cycle_{number:03}/{name}")' if has_assets else ""
    return f'''"""Airflow dags."""
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset


def detect(model_id, version=None):
    pass


MODELS = {[f"model_{n:04}" for n in range(shape.models)]!r}
EDGES = {list(edges(shape))!r}
for number in range({shape.cycles}):
    with DAG(
        f"by_hand_{{number:03}}",
        schedule="*/5 * * * *",
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        tags=["detection"],
        default_args={{"retries": 2, "retry_delay": timedelta(seconds=30)}},
    ) as dag:
        tasks = {{
            name: PythonOperator(
                task_id=name,
                python_callable=detect,
                op_kwargs={{"model_id": name}},
                outlets=[{outlets}] if name in MODELS else [],
            )
            for name in ["open_cycle", *MODELS, "other_versions", "close_cycle"]
        }}
        for up, down in EDGES:
            tasks[up] >> tasks[down]
    globals()[dag.dag_id] = dag
del dag
'''


def as_yaml(shape: Shape) -> str:
    """Return the same Dags as YAML for dag-factory."""
    ups: dict[str, list[str]] = {}
    for up, down in edges(shape):
        ups.setdefault(down, []).append(up)
    names = ["open_cycle", *(f"model_{n:04}" for n in range(shape.models)), "other_versions", "close_cycle"]
    lines = []
    for number in range(shape.cycles):
        lines += [
            f"factory_{number:03}:",
            '  schedule: "*/5 * * * *"',
            "  start_date: 2026-01-01",
            "  catchup: false",
            "  tags: [detection]",
            "  default_args: {retries: 2}",
            "  tasks:",
        ]
        for name in names:
            lines += [
                f"  - task_id: {name}",
                "    operator: airflow.providers.standard.operators.python.PythonOperator",
                "    python_callable: builtins.print",
                f"    op_kwargs: {{model_id: {name}}}",
                f"    dependencies: [{', '.join(ups.get(name, []))}]",
            ]
    return "\n".join(lines) + "\n"


class Parser:
    """Process that parses in forks of itself."""

    def __init__(self, python: str, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / "_parser.py")],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, file: Path, how: str, **env: str) -> Json:
        """Return one measurement."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"file": str(file), "how": how, "env": env}) + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            assert line, "the parser ended"
            if line.startswith("{"):
                break
        answer: Json = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@contextmanager
def dag_factory_environment(folder: Path) -> Iterator[str | None]:
    """Python with dag-factory, in its own environment that sees Airflow; None if uv is missing or fails."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        yield None
        return
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    site = next((folder / "lib").glob("python3*/site-packages"))
    (site / "airflow.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    install = subprocess.run(
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            "--compile-bytecode",
            "--no-deps",
            "dag-factory==1.1.0",
        ],
        check=False,
    )
    yield str(python) if install.returncode == 0 else None


def environment(home: Path) -> dict[str, str]:
    """Return the environment of an Airflow whose registry is unreachable: a parse that reads it fails."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "_AIRFLOW"))}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DETECTION__PLAN_TTL": "86400",
        "AIRFLOW_CONN_DETECTION_DEFAULT": '{"conn_type": "postgres", "host": "127.0.0.1", "port": 9}',
        "PYTHONPATH": str(ROOT),
    }


def _files(folder: Path, shape: Shape, settings: Settings) -> dict[str, Path]:
    shape_folder = folder / f"{shape.name}_{shape.cycles}_{shape.models}"
    shape_folder.mkdir()
    assert plan_file.write(plan_file.path_of(settings), registry_of(shape))
    texts = {
        "ours": OURS,
        "handwritten": by_hand(shape),
        "without_assets": by_hand(shape, has_assets=False),
    }
    (shape_folder / "dags.yaml").write_text(as_yaml(shape))
    texts["dagfactory"] = FACTORY.format(path=str(shape_folder / "dags.yaml"))
    for name, text in texts.items():
        (shape_folder / f"{name}.py").write_text(text)
    return {name: shape_folder / f"{name}.py" for name in texts}


def _compare(
    parsers: dict[str, Parser], files: dict[str, Path], how: str, repeats: int
) -> dict[str, list[Json]]:
    """Return the answers of each parser; the parsers take turns, and the first round warms up."""
    answers: dict[str, list[Json]] = {name: [] for name in parsers}
    for number in range(repeats + 1):
        for name, parser in parsers.items():
            answer = parser.ask(files[name], how)
            if number:
                answers[name].append(answer)
    return answers


def _line(shape: Shape, how: str, answers: dict[str, list[Json]]) -> Json:
    times = {name: [a["ms"] for a in measured] for name, measured in answers.items()}
    medians = {name: statistics.median(ms) for name, ms in times.items()}
    assert not any(a.get("drivers") for a in answers["ours"]), "a fresh plan file needs no database driver"
    line: Json = {
        "bench": "parse",
        "case": f"{shape.name} {how}",
        "n": shape.models * shape.cycles,
        "ours_ms": round(medians["ours"], 1),
    }
    for name in ("handwritten", "without_assets", "dagfactory"):
        if name in medians:
            line[f"{name}_ms"] = round(medians[name], 1)
            line[f"speedup_vs_{name}"] = round(medians[name] / medians["ours"], 3)
    for name, measured in answers.items():  # CPU time depends least on the load of the machine
        line[f"{name}_cpu_ms"] = round(statistics.median(a["cpu_ms"] for a in measured), 1)
    sizes = {name: measured[0]["bytes"] for name, measured in answers.items()}
    line |= {f"{name}_bytes": size for name, size in sizes.items()}
    line["size_ratio"] = round(sizes["ours"] / sizes["handwritten"], 3)
    ours = sorted(times["ours"])
    return line | {"repeats": len(ours), "spread_ms": [round(ours[0], 1), round(ours[-1], 1)]}


def _task_line(parser: Parser, file: Path) -> Json:
    """Return the line of a worker's parse for one task of 100 cycles with 10 models."""
    env = {
        "_AIRFLOW_PARSING_CONTEXT_DAG_ID": "detection_cycle_050",
        "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "model_0005",
    }
    answers = [parser.ask(file, "task", **env) for _ in range(31)][1:]
    assert {a["dags"] for a in answers} == {1}
    times = sorted(a["ms"] for a in answers)
    ours = statistics.median(times)
    return {
        "bench": "parse",
        "case": "one task",
        "n": CYCLES * MODELS_EACH,
        "ours_ms": round(ours, 2),
        "limit_ms": 10.0,
        "speedup_vs_limit": round(10.0 / ours, 2),
        "repeats": len(times),
        "spread_ms": [round(times[0], 2), round(times[-1], 2)],
    }


def run() -> Iterator[Json]:
    """Yield a line for each shape, cold and warm, and one for a worker's parse."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detection-parse-")))
        env = environment(folder / "airflow")
        settings = Settings(state_dir=folder / "airflow" / "detection")
        parsers = {name: Parser(sys.executable, env) for name in ("ours", "handwritten", "without_assets")}
        python = stack.enter_context(dag_factory_environment(folder / "dagfactory"))
        if python:
            parsers["dagfactory"] = Parser(python, env)
        for parser in parsers.values():
            stack.callback(parser.close)
        for shape in shapes():
            files = _files(folder, shape, settings)
            for how in ("cold", "warm"):
                repeats = REPEATS[min(1000, shape.models * shape.cycles)]
                yield _line(shape, how, _compare(parsers, files, how, repeats))
        yield _task_line(parsers["ours"], files["ours"])
