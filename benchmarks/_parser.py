"""Parses Dag files the way Airflow's Dag processor does: in a fresh fork of a process that imported Airflow.

Reads JSON lines `{"file", "how": "cold" | "warm" | "task", "env"}` and answers each with a JSON line:
milliseconds (by the clock, and of this process's CPU), bytes of the serialised Dags, and their number.
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
    """What the Dag processor does with a file: find its Dags, serialise each."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = BundleDagBag(
        dag_folder=file, bundle_path=Path(file).parent, bundle_name="bench", load_op_links=False
    )
    if bag.import_errors:
        raise RuntimeError(str(bag.import_errors))
    return [DagSerialization.to_dict(dag) for dag in bag.dags.values()]


def start_task(file: str) -> int:
    """What a worker has to do of the file for one task: import it, the package being imported already."""
    spec = importlib.util.spec_from_file_location("bench_dags", file)
    if spec is None or spec.loader is None:
        raise RuntimeError(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return sum(1 for name in vars(module) if name.startswith("detection_"))


def measure(file: str, how: str) -> Answer:
    """One measurement, in this process."""
    if how == "task":
        import airflow_detection.dags.cycles  # noqa: F401

        gc.collect()
        clock = perf_counter()
        dags = start_task(file)
        return {"ms": (perf_counter() - clock) * 1000, "dags": dags}
    if how == "warm":
        parse(file)
    gc.collect()
    known = set(sys.modules)
    clock, used = perf_counter(), process_time()
    found = parse(file)
    ms, cpu_ms = (perf_counter() - clock) * 1000, (process_time() - used) * 1000
    loaded = sorted({"psycopg", "airflow.providers.postgres.hooks.postgres"} & (set(sys.modules) - known))
    size = sum(len(json.dumps(d, separators=(",", ":"))) for d in found)
    return {"ms": ms, "cpu_ms": cpu_ms, "dags": len(found), "bytes": size, "drivers": ",".join(loaded)}


def in_fork(request: dict[str, Any]) -> Answer:
    """The same in a fork of this process."""
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
        found: Answer = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return found


def main() -> None:
    """Import what the Dag processor has imported when it forks, plugins' listeners included, and answer."""
    logging.disable(logging.WARNING)
    import structlog
    from airflow.dag_processing import processor
    from airflow.jobs.job import Job

    Job()  # type: ignore[no-untyped-call]  # as `airflow dag-processor` starts: listeners hear of it

    imported: set[str] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request["file"] not in imported:
            processor._pre_import_airflow_modules(request["file"], structlog.get_logger())  # noqa: SLF001 - as Airflow
            imported.add(request["file"])
        print(json.dumps(in_fork(request)), flush=True)


if __name__ == "__main__":
    main()
