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
from pathlib import Path

from demo import detection, evidence, maintenance, postgres
from demo.airflow_env import (
    APPROVER,
    BIN,
    COMPONENTS,
    REQUESTER,
    airflow_program,
    airflow_version,
    process_environment,
    shared_environment,
    users_environment,
)
from demo.api import Airflow, wait_until
from demo.clean import end_leftovers
from demo.console import Screen
from demo.errors import DemoError
from demo.programs import Supervisor
from demo.settings import Settings, keep_or_pick_port
from demo.state import SavedState, locked, open_state, save_state, write_env

HEALTH_TIMEOUT_S = 240.0
PARSE_TIMEOUT_S = 90.0
STALL_TIMEOUT_S = 300.0
MAINTENANCE_TIMEOUT_S = 120.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A running demo, as its steps need it."""

    settings: Settings
    screen: Screen
    supervisor: Supervisor
    databases: postgres.Databases
    env: Mapping[str, str]

    @property
    def address(self) -> str:
        """The address of the Airflow UI."""
        return f"http://127.0.0.1:{self.settings.port}"


def run(settings: Settings, screen: Screen) -> bool:
    """Run the demo; return whether every run and every version ended as it should.

    Raises:
        DemoError: it cannot go on. Every process that was started has been ended.
    """
    saved = open_state(settings.state)
    with locked(settings.state):
        end_leftovers(settings.state)
        with Supervisor(settings.logs, settings.state / "pids") as supervisor:
            try:
                return _run_steps(settings, screen, supervisor, saved)
            finally:
                screen.print("[dim]ending Airflow and the database[/]")


def _run_steps(settings: Settings, screen: Screen, supervisor: Supervisor, saved: SavedState) -> bool:
    started_at = datetime.now(UTC)
    start_s = time.monotonic()
    databases, saved = _start_databases(settings, screen, supervisor, saved)
    shared = shared_environment(settings, saved, databases)
    shared |= users_environment(settings.state, saved.user_password)
    demo = Demo(
        settings=settings,
        screen=screen,
        supervisor=supervisor,
        databases=databases,
        env=process_environment(shared),
    )
    write_env(settings.state, shared, BIN)
    cycles = _prepare(demo, saved)
    airflow = _start_airflow(demo, saved.user_password)
    is_good = _run_cycles(demo, airflow, cycles, started_at)
    has_passed = _judge(demo)
    screen.print(
        f"[bold]{'all ended as they should' if is_good else '[red]not all ended as they should[/]'}[/]"
    )
    screen.print(f"[dim]{time.monotonic() - start_s:.0f} s in all, logs in {settings.logs}[/]")
    for dag_id in (detection.DAG_ID, maintenance.DAG_ID):
        airflow.pause(
            dag_id
        )  # its positions are of the past: live cycles would say NO_INPUT and end all events
    if not settings.once:
        request = _ask(demo, airflow) if has_passed else None
        _stay_up(demo, saved.user_password, request)
    return is_good


def _start_databases(
    settings: Settings, screen: Screen, supervisor: Supervisor, saved: SavedState
) -> tuple[postgres.Databases, SavedState]:
    with screen.step("PostgreSQL") as step:
        if settings.dsn:
            databases = postgres.existing(settings.dsn)
        else:
            port = keep_or_pick_port(saved.postgres_port)
            saved = save_state(settings.state, replace(saved, postgres_port=port))
            databases = postgres.embedded(
                supervisor,
                settings.state,
                port=port,
                password=saved.postgres_password,
                login_password=saved.login_password,
            )
        step.detail = databases.where
    return databases, saved


def _prepare(demo: Demo, saved: SavedState) -> list[datetime]:
    """Migrate Airflow's metadata and, at the same time, prepare the registry; return the cycles to run."""
    migration = airflow_program("db-migrate", "db", "migrate", settings=demo.settings, env=demo.env)
    metadata = demo.databases.metadata
    is_current = _metadata_version(metadata) == saved.metadata_at
    if not is_current:
        demo.supervisor.start(migration)
    cycles, saved = _prepare_registry(demo, saved)
    with demo.screen.step("Airflow's metadata") as step:
        if not is_current:
            demo.supervisor.finish(migration)
            save_state(demo.settings.state, replace(saved, metadata_at=_metadata_version(metadata)))
        step.detail = f"Airflow {airflow_version()}, {'up to date' if is_current else 'migrated'}"
    return cycles


def _metadata_version(dsn: str) -> str:
    return f"{airflow_version()} {detection.metadata_revision(dsn)}"


def _prepare_registry(demo: Demo, saved: SavedState) -> tuple[list[datetime], SavedState]:
    """Migrate, apply, load and label; return the cycles to run."""
    newest, path, saved = _load(demo, saved)
    cycles = detection.last_cycles(newest, demo.settings.cycles, now=datetime.now(UTC))
    with demo.screen.step("labels") as step:
        step.detail = evidence.plant_labels(demo.databases.registry, path, cycles)
    return cycles, saved


def _load(demo: Demo, saved: SavedState) -> tuple[datetime, Path, SavedState]:
    """Migrate, apply and load; return the time of the newest position of the file, and the file."""
    dsn, state = demo.databases.registry, demo.settings.state
    with demo.screen.step("registry: schema") as step:
        step.detail = f"{detection.migrate(demo.databases.owner)}; {detection.grant_logins(demo.databases)}"
    with demo.screen.step("registry: models") as step:
        step.detail = detection.apply_models(dsn, state, demo.settings.cycles)
    with demo.screen.step("AIS positions") as step:
        path = demo.settings.ais or detection.simulate(state)
        report = detection.load(dsn, path)
        step.detail = f"{path.name}: {report}"
    if report.last_observed_at is not None:
        newest = {**saved.newest, str(path): report.last_observed_at.isoformat()}
        return report.last_observed_at, path, save_state(state, replace(saved, newest=newest))
    if newest_at := saved.newest.get(str(path)):
        return datetime.fromisoformat(newest_at), path, saved
    return detection.last_position(dsn), path, saved


def _start_airflow(demo: Demo, password: str) -> Airflow:
    airflow = Airflow(demo.address, REQUESTER, password)
    cached_plans = demo.settings.state / "airflow" / "detection"  # of the last demo
    shutil.rmtree(cached_plans, ignore_errors=True)
    with demo.screen.step("Airflow") as step:
        for name, arguments in COMPONENTS.items():
            demo.supervisor.start(airflow_program(name, *arguments, settings=demo.settings, env=demo.env))
        wait_until(
            "a healthy Airflow", airflow.healthy, check=demo.supervisor.check, timeout_s=HEALTH_TIMEOUT_S
        )
        step.detail = f"{len(COMPONENTS)} servers, {demo.address}"
    with demo.screen.step("Dags") as step:

        def check() -> None:
            demo.supervisor.check()
            if errors := airflow.import_errors():
                raise DemoError(f"a Dag file cannot be imported: {errors[0]}")

        dags = (detection.DAG_ID, maintenance.DAG_ID, evidence.DAG_ID)
        for dag_id in dags:
            wait_until(
                f"the Dag {dag_id}",
                lambda dag_id=dag_id: airflow.has_dag(dag_id),  # type: ignore[misc]  # a bound default
                check=check,
                timeout_s=PARSE_TIMEOUT_S,
            )
        step.detail = ", ".join(dags)
    return airflow


def _run_cycles(demo: Demo, airflow: Airflow, cycles: list[datetime], started_at: datetime) -> bool:
    first, last = cycles[0], cycles[-1]
    with demo.screen.step("maintenance, every hour") as step:
        hours = maintenance.hours_of(cycles)
        maintenance.start(airflow, hours)
        step.detail = f"{maintenance.DAG_ID}, {len(hours)} hours: the first beside the cycles"
    with demo.screen.step("backfill") as step:
        airflow.end_leftovers(detection.DAG_ID, first, last)
        airflow.backfill(detection.DAG_ID, first, last, max_active_runs=_max_active_runs())
        airflow.unpause(detection.DAG_ID)
        step.detail = f"{len(cycles)} cycles, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"

    def results() -> list[detection.Result]:
        return detection.results(demo.databases.registry, cycles, since=started_at)

    states = demo.screen.follow(
        len(cycles),
        _with_stall_check(
            demo,
            lambda: airflow.run_states(detection.DAG_ID, first, last),
            lambda: sum(bool(result.is_new) for result in results()),
        ),
    )
    final = results()
    demo.screen.results(final)
    is_maintained = _follow_maintenance(demo, airflow, hours, started_at)
    if stored := detection.report(demo.databases.registry, hours[-1]):
        demo.screen.report(*stored, at=hours[-1])
    return (
        is_maintained
        and states["success"] == len(cycles)
        and bool(final)
        and all(result.is_good for result in final)
    )


def _follow_maintenance(demo: Demo, airflow: Airflow, hours: list[datetime], started_at: datetime) -> bool:
    """Run the maintenance Dag for the hours left, show its runs, and return whether all is well with them."""
    with demo.screen.step("maintenance, to its end") as step:
        _wait_for_maintenance(demo, airflow, hours[:1])
        maintenance.start_others(airflow, hours)
        _wait_for_maintenance(demo, airflow, hours)
        runs = maintenance.runs(airflow, hours, since=started_at)
        step.detail = f"{len(runs)} runs"
    demo.screen.maintenance(runs)
    return all(run.is_good for run in runs)


def _wait_for_maintenance(demo: Demo, airflow: Airflow, hours: list[datetime]) -> None:
    deadline = time.monotonic() + MAINTENANCE_TIMEOUT_S * len(hours)
    while not maintenance.has_ended(airflow, hours) and time.monotonic() < deadline:
        demo.supervisor.check()
        time.sleep(POLL_S)


def _max_active_runs() -> int:
    return max(4, 2 * (os.cpu_count() or 1))


def _with_stall_check(
    demo: Demo, states: Callable[[], Counter[str]], manifests: Callable[[], int]
) -> Callable[[], Counter[str]]:
    """Return `states` with a check of the servers, and of progress, at each call.

    Raises DemoError when neither the states of the runs nor the number of manifests has changed for
    STALL_TIMEOUT_S seconds.
    """
    before: Counter[str] = Counter()
    manifest_count = 0
    changed_at = time.monotonic()

    def checked_states() -> Counter[str]:
        nonlocal before, manifest_count, changed_at
        demo.supervisor.check()
        now = states()
        if now != before:
            before, changed_at = now, time.monotonic()
        elif time.monotonic() - changed_at > STALL_TIMEOUT_S:
            if (count := manifests()) == manifest_count:
                raise DemoError(f"no cycle has moved for {STALL_TIMEOUT_S:.0f} seconds: {dict(now)}")
            manifest_count, changed_at = count, time.monotonic()
        return now

    return checked_states


def _judge(demo: Demo) -> bool:
    """Show the challenger beside the champion; return whether its model's policy lets it be promoted."""
    with demo.screen.step("comparison") as step:
        judgement = evidence.challenger(demo.databases.registry)
        step.detail = evidence.summary(judgement)
    if judgement is None:
        return False
    demo.screen.judgement(judgement)
    return judgement.is_passed


def _ask(demo: Demo, airflow: Airflow) -> str:
    """Ask for the promotion of the challenger; return the page on which it is answered."""
    with demo.screen.step("promotion") as step:
        run_id = evidence.ask(demo.databases.registry, airflow)
        wait_until(
            "a request that waits for a person",
            lambda: evidence.waits(airflow, run_id),
            check=demo.supervisor.check,
            timeout_s=PARSE_TIMEOUT_S,
        )
        step.detail = f"{evidence.CHALLENGER}, asked for by {REQUESTER}: waits for {APPROVER}"
    return evidence.page(demo.address, run_id)


def _stay_up(demo: Demo, password: str, request: str | None) -> None:
    """Keep the servers up until Ctrl-C."""
    show = demo.screen.print
    show()
    show(f"  sign in   {APPROVER} or {REQUESTER}, password {password}")
    if request:
        show(f"  approve   sign in as {APPROVER} and choose Approve ({REQUESTER} asked for it, and cannot):")
        show(f"            [bold cyan]{request}[/]")
    show(f"  the Dag   {demo.address}/dags/{detection.DAG_ID}, paused: no positions of today arrive")
    show(f'  registry  source {os.path.relpath(demo.settings.state)}/env, then psql "$DETECTION_DSN"')
    show(f"  Airflow   source {os.path.relpath(demo.settings.state)}/env, then airflow dags list")
    show("  end       Ctrl-C")
    show(f"  open      [bold cyan]{demo.address}/plugin/detection[/]")
    with suppress(KeyboardInterrupt):
        while True:
            demo.supervisor.check()
            time.sleep(POLL_S)
    show()
