"""The demo from beginning to end."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from demo import detection, maintenance, postgres
from demo.airflow_env import (
    BIN,
    COMPONENTS,
    airflow_program,
    airflow_version,
    process_environment,
    shared_environment,
)
from demo.api import Airflow, wait_until
from demo.clean import end_leftovers
from demo.console import Screen
from demo.errors import DemoError
from demo.programs import Supervisor
from demo.settings import Settings, keep_or_pick_port
from demo.state import Remembered, only_one, open_state, remember, write_env

HEALTH_TIMEOUT_S = 240.0
PARSE_TIMEOUT_S = 90.0
STALL_TIMEOUT_S = 300.0
UPKEEP_TIMEOUT_S = 120.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What every step of a running demo needs."""

    settings: Settings
    screen: Screen
    keeper: Supervisor
    databases: postgres.Databases
    env: Mapping[str, str]

    @property
    def address(self) -> str:
        """The address of the Airflow UI."""
        return f"http://127.0.0.1:{self.settings.port}"


def play(settings: Settings, screen: Screen) -> bool:
    """Run the demo; return whether every run and every version ended as it should.

    Raises:
        DemoError: it cannot go on. Whatever was started has been ended.
    """
    remembered = open_state(settings.state)
    with only_one(settings.state):
        end_leftovers(settings.state)
        with Supervisor(settings.logs, settings.state / "pids") as keeper:
            try:
                return _perform(settings, screen, keeper, remembered)
            finally:
                screen.say("[dim]ending Airflow and the database[/]")


def _perform(settings: Settings, screen: Screen, keeper: Supervisor, remembered: Remembered) -> bool:
    began = datetime.now(UTC)
    clock = time.monotonic()
    databases, remembered = _start_databases(settings, screen, keeper, remembered)
    shared = shared_environment(settings, remembered, databases)
    stage = Stage(
        settings=settings, screen=screen, keeper=keeper, databases=databases, env=process_environment(shared)
    )
    write_env(settings.state, shared, BIN)
    cycles = _prepare(stage, remembered)
    airflow = _start_airflow(stage)
    good = _run_cycles(stage, airflow, cycles, began)
    screen.say(f"[bold]{'all ended as they should' if good else '[red]not all ended as they should[/]'}[/]")
    screen.say(f"[dim]{time.monotonic() - clock:.0f} s in all, logs in {settings.logs}[/]")
    if not settings.once:
        _stay_up(stage)
    return good


def _start_databases(
    settings: Settings, screen: Screen, keeper: Supervisor, remembered: Remembered
) -> tuple[postgres.Databases, Remembered]:
    with screen.step("PostgreSQL") as step:
        if settings.dsn:
            databases = postgres.existing(settings.dsn)
        else:
            port = keep_or_pick_port(remembered.postgres_port)
            remembered = remember(settings.state, replace(remembered, postgres_port=port))
            databases = postgres.embedded(
                keeper, settings.state, port=port, password=remembered.postgres_password
            )
        step.detail = databases.where
    return databases, remembered


def _prepare(stage: Stage, remembered: Remembered) -> list[datetime]:
    """Migrate Airflow's metadata and, at the same time, prepare the registry; return the cycles to run."""
    migration = airflow_program("db-migrate", "db", "migrate", settings=stage.settings, env=stage.env)
    metadata = stage.databases.metadata
    is_current = _metadata_state(metadata) == remembered.metadata_at
    if not is_current:
        stage.keeper.start(migration)
    newest, remembered = _prepare_registry(stage, remembered)
    with stage.screen.step("Airflow's metadata") as step:
        if not is_current:
            stage.keeper.finish(migration)
            remember(stage.settings.state, replace(remembered, metadata_at=_metadata_state(metadata)))
        step.detail = f"Airflow {airflow_version()}, {'up to date' if is_current else 'migrated'}"
    return detection.last_cycles(newest, stage.settings.cycles)


def _metadata_state(dsn: str) -> str:
    return f"{airflow_version()} {detection.metadata_revision(dsn)}"


def _prepare_registry(stage: Stage, remembered: Remembered) -> tuple[datetime, Remembered]:
    """Migrate, apply and load; return the time of the newest position of the file."""
    dsn, state = stage.databases.registry, stage.settings.state
    with stage.screen.step("registry: schema") as step:
        step.detail = detection.migrate(dsn)
    with stage.screen.step("registry: models") as step:
        step.detail = detection.apply_models(dsn)
    with stage.screen.step("AIS positions") as step:
        path = stage.settings.ais or detection.simulate(state)
        report = detection.load(dsn, path)
        step.detail = f"{path.name}: {report}"
    if report.last_observed_at is not None:
        newest = {**remembered.newest, str(path): report.last_observed_at.isoformat()}
        return report.last_observed_at, remember(state, replace(remembered, newest=newest))
    if known := remembered.newest.get(str(path)):
        return datetime.fromisoformat(known), remembered
    return detection.last_position(dsn), remembered


def _start_airflow(stage: Stage) -> Airflow:
    airflow = Airflow(stage.address)
    shutil.rmtree(
        stage.settings.state / "airflow" / "detection", ignore_errors=True
    )  # plans of the last time
    with stage.screen.step("Airflow") as step:
        for name, words in COMPONENTS.items():
            stage.keeper.start(airflow_program(name, *words, settings=stage.settings, env=stage.env))
        wait_until("a healthy Airflow", airflow.healthy, check=stage.keeper.check, timeout_s=HEALTH_TIMEOUT_S)
        step.detail = f"{len(COMPONENTS)} servers, {stage.address}"
    with stage.screen.step("Dags") as step:

        def check() -> None:
            stage.keeper.check()
            if broken := airflow.import_errors():
                raise DemoError(f"a Dag file cannot be imported: {broken[0]}")

        dags = (detection.DAG_ID, maintenance.DAG_ID)
        for dag_id in dags:
            wait_until(
                f"the Dag {dag_id}",
                lambda dag_id=dag_id: airflow.has_dag(dag_id),  # type: ignore[misc]  # a bound default
                check=check,
                timeout_s=PARSE_TIMEOUT_S,
            )
        step.detail = ", ".join(dags)
    return airflow


def _run_cycles(stage: Stage, airflow: Airflow, cycles: list[datetime], began: datetime) -> bool:
    first, last = cycles[0], cycles[-1]
    with stage.screen.step("upkeep, every hour") as step:
        hours = maintenance.hours_of(cycles)
        maintenance.start(airflow, hours)
        step.detail = f"{maintenance.DAG_ID}, {len(hours)} hours: the first beside the cycles"
    with stage.screen.step("backfill") as step:
        airflow.end_leftovers(detection.DAG_ID, first, last)
        airflow.unpause(detection.DAG_ID)
        airflow.backfill(detection.DAG_ID, first, last, max_active_runs=_active_runs())
        step.detail = f"{len(cycles)} cycles, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"

    def results() -> list[detection.Result]:
        return detection.results(stage.databases.registry, cycles, since=began)

    states = stage.screen.follow(
        len(cycles),
        _watched(
            stage,
            lambda: airflow.run_states(detection.DAG_ID, first, last),
            lambda: sum(
                bool(r.is_new) for r in detection.results(stage.databases.registry, cycles, since=began)
            ),
        ),
    )
    found = results()
    stage.screen.results(found)
    is_kept = _follow_upkeep(stage, airflow, hours, began)
    if stored := detection.report(stage.databases.registry, hours[-1]):
        stage.screen.report(*stored, at=hours[-1])
    return is_kept and states["success"] == len(cycles) and bool(found) and all(r.is_good for r in found)


def _follow_upkeep(stage: Stage, airflow: Airflow, hours: list[datetime], began: datetime) -> bool:
    """Have the maintenance Dag run for the hours left, show its runs, and return whether all succeeded."""
    with stage.screen.step("upkeep, to its end") as step:
        _await_upkeep(stage, airflow, hours[:1])
        maintenance.go_on(airflow, hours)
        _await_upkeep(stage, airflow, hours)
        runs = maintenance.runs(airflow, hours, since=began)
        step.detail = f"{len(runs)} runs"
    stage.screen.upkeep(runs)
    return all(run.is_good for run in runs if run.kind == "backfill")


def _await_upkeep(stage: Stage, airflow: Airflow, hours: list[datetime]) -> None:
    deadline = time.monotonic() + UPKEEP_TIMEOUT_S * len(hours)
    while not maintenance.has_ended(airflow, hours) and time.monotonic() < deadline:
        stage.keeper.check()
        time.sleep(POLL_S)


def _active_runs() -> int:
    return max(4, 2 * (os.cpu_count() or 1))


def _watched(
    stage: Stage, states: Callable[[], Counter[str]], manifests: Callable[[], int]
) -> Callable[[], Counter[str]]:
    """Return `states` with the servers watched at each call.

    DemoError when nothing moves any more: neither a run nor, within the runs, the number of manifests.
    """
    before: Counter[str] = Counter()
    done = 0
    changed_at = time.monotonic()

    def watched() -> Counter[str]:
        nonlocal before, done, changed_at
        stage.keeper.check()
        now = states()
        if now != before:
            before, changed_at = now, time.monotonic()
        elif time.monotonic() - changed_at > STALL_TIMEOUT_S:
            if (found := manifests()) == done:
                raise DemoError(f"no cycle has moved for {STALL_TIMEOUT_S:.0f} seconds: {dict(now)}")
            done, changed_at = found, time.monotonic()
        return now

    return watched


def _stay_up(stage: Stage) -> None:
    """Keep the servers up until Ctrl-C."""
    say = stage.screen.say
    say()
    say(f"  open      [bold cyan]{stage.address}/dags/{detection.DAG_ID}[/]")
    say("  sign in   not needed: whoever reaches this address on this machine is admin")
    say(f'  registry  source {os.path.relpath(stage.settings.state)}/env, then psql "$DETECTION_DSN"')
    say(f"  Airflow   source {os.path.relpath(stage.settings.state)}/env, then airflow dags list")
    say("  end       Ctrl-C")
    with suppress(KeyboardInterrupt):
        while True:
            stage.keeper.check()
            time.sleep(POLL_S)
    say()
