"""Parse Dag files the way Airflow's Dag processor does: in a fresh fork of a process that imported Airflow.

The process reads JSON lines `{"file", "how": "cold" | "warm" | "task", "env"}` and answers each with a JSON
line: milliseconds (by the clock, and of this process's CPU), bytes of the serialised Dags, and their number.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

Answer = dict[str, float | int | str]


def parse(file: str) -> list[Any]:  # Any: serialised Dags, JSON objects
    """Do what the Dag processor does with a file: find its Dags and serialise each."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = BundleDagBag(
        dag_folder=file, bundle_path=Path(file).parent, bundle_name="bench", load_op_links=False
    )
    if bag.import_errors:
        raise RuntimeError(str(bag.import_errors))
    return [DagSerialization.to_dict(dag) for dag in bag.dags.values()]


def start_task(file: str) -> int:
    """Import the file as a worker with the package loaded does for a task; return the number of its Dags."""
    spec = importlib.util.spec_from_file_location("bench_dags", file)
    if spec is None or spec.loader is None:
        raise RuntimeError(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return sum(1 for name in vars(module) if name.startswith("detection_"))


def measure(file: str, how: str) -> Answer:
    """Return one measurement, made in this process."""
    if how == "task":
        import airflow_detection.dags.cycles  # noqa: F401

        gc.collect()
        start_s = perf_counter()
        count = start_task(file)
        return {"ms": (perf_counter() - start_s) * 1000, "dags": count}
    if how == "warm":
        parse(file)
    gc.collect()
    loaded_before = set(sys.modules)
    start_s, cpu_start_s = perf_counter(), process_time()
    dags = parse(file)
    ms, cpu_ms = (perf_counter() - start_s) * 1000, (process_time() - cpu_start_s) * 1000
    drivers = sorted(
        {"psycopg", "airflow.providers.postgres.hooks.postgres"} & (set(sys.modules) - loaded_before)
    )
    size = sum(len(json.dumps(d, separators=(",", ":"))) for d in dags)
    return {"ms": ms, "cpu_ms": cpu_ms, "dags": len(dags), "bytes": size, "drivers": ",".join(drivers)}


def in_fork(request: dict[str, Any]) -> Answer:
    """Return one measurement, made in a fork of this process."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.environ.update(request.get("env", {}))
        try:
            answer = measure(request["file"], request["how"])
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        received: Answer = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return received


def main() -> None:
    """Import what the Dag processor has imported when it forks, listeners of plugins too; then answer."""
    logging.disable(logging.WARNING)
    import structlog
    from airflow.dag_processing import processor
    from airflow.jobs.job import Job

    Job()  # type: ignore[no-untyped-call]  # as `airflow dag-processor` does; it loads the listeners

    imported: set[str] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request["file"] not in imported:
            processor._pre_import_airflow_modules(request["file"], structlog.get_logger())  # noqa: SLF001 - as Airflow
            imported.add(request["file"])
        print(json.dumps(in_fork(request)), flush=True)


if __name__ == "__main__":
    main()
