"""Text of the registry in Airflow's own task runner: it is never rendered, nor kept as a rendered field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry

from airflow_detection.domain.specs import Role

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles

pytestmark = pytest.mark.e2e

FAILS = "{{1//0}}"
"""Rendering it fails the task."""
CONSTRAINTS = {
    "detection_cycles": "cycle_id",
    "detection_models": "model_id",
    "detection_model_dependencies": "depends_on",
    "detection_model_versions": "version",
}


def _as_before_plain_ids(database: Any) -> None:
    for table, column in CONSTRAINTS.items():
        name = f"{column}_has_no_braces_or_control_characters"
        database.execute(f"alter table detection.{table} drop constraint if exists {name}".encode())


def _put_model(database: Any, model_id: str, version: str, role: Role, **values: Any) -> None:
    """Register as an older version of the package, or anybody with the right to write, has done it."""
    row = {"cycle": "fleet", "params": '{"ids": ["a"]}', "options": "{}"} | values
    row |= {"model": model_id, "version": version, "role": role.value}
    database.execute(
        "insert into detection.detection_models (model_id, cycle_id, entrypoint, score_key, entity_key,"
        " task_options) values (%(model)s, %(cycle)s, 'tests.sample_registry:Echo', 'score', 'id',"
        " %(options)s) on conflict do nothing",
        row,
    )
    database.execute(
        "with v as (insert into detection.detection_model_versions (model_id, version, params, notes)"
        " values (%(model)s, %(version)s, %(params)s, '{{1//0}}') returning version_id)"
        " insert into detection.detection_model_roles"
        " (version_id, model_id, model_no, role, valid, is_founding, actor, reason)"
        " select v.version_id, m.model_id, m.model_no, %(role)s::detection.detection_role,"
        " '[2026-01-01 00:00Z,)', true, '{{1//0}}', '{{1//0}}' from v, detection.detection_models m"
        " where m.model_id = %(model)s",
        row,
    )


def test_the_name_of_a_version_runs_no_code(database: Any, cycles: Cycles, tmp_path: Path) -> None:
    _as_before_plain_ids(database)
    sample_registry.register(database)
    written = tmp_path / "written"
    sample_registry.put_cycle(database, description=f"open({str(written)!r}, 'w').write('x')")
    version = "{{macros.json.codecs.builtins.eval(dag.description)}}"
    _put_model(database, "tracks", version, Role.SHADOW)
    (run,) = cycles({})
    task_id = "tracks____macros.json.codecs.builtins.eval_dag.description___"
    assert not written.exists()
    assert (run["state"], run["tasks"][task_id]) == ("success", "success")
    assert set(run["rendered"].values()) == {None}
    assert sample_registry.outcomes(database)[f"tracks@{version}"] == "SUCCEEDED"


def test_no_text_of_the_registry_is_rendered_and_only_a_refusals_reason_is_kept(
    database: Any, cycles: Cycles
) -> None:
    _as_before_plain_ids(database)
    cycle, model, below, version = f"c{FAILS}", f"m{FAILS}", f"n{FAILS}", f"v{FAILS}"
    database.execute(
        "insert into detection.detection_cycles"
        " (cycle_id, schedule, lookback, start_date, description, legacy_entrypoint, input_query)"
        " values (%s, '*/5 * * * *', '1 hour', '2026-01-01Z', '{{1//0}}', '{{1//0}}', 'select ''{{1//0}}'''),"
        " ('bay', '{{1//0}}', '1 hour', '2026-01-01Z', '', null, null)",
        (cycle,),
    )
    hostile = {"cycle": cycle, "params": '{"ids": ["{{1//0}}"]}', "options": '{"queue": "{{1//0}}"}'}
    for model_id in (model, below):
        _put_model(database, model_id, version, Role.PRIMARY, **hostile)
    _put_model(database, model, f"s{FAILS}", Role.SHADOW, **hostile)
    _put_model(database, "odd", "1", Role.PRIMARY, cycle=cycle, options='{"{{1//0}}": 1}')
    database.execute(
        "insert into detection.detection_model_dependencies (model_id, depends_on, is_founding)"
        " values (%s, %s, true)",
        (below, model),
    )
    ran, refused = cycles({"cycle": "c__1__0__"}, {"cycle": "bay"})
    tasks = ran["tasks"]
    assert {task: tasks[task] for task in ("m__1__0__", "n__1__0__", "m__1__0____s__1__0__")} == {
        "m__1__0__": "success",
        "n__1__0__": "success",
        "m__1__0____s__1__0__": "success",
    }
    assert (tasks["open_cycle"], tasks["odd"]) == ("success", "failed")
    assert set(ran["rendered"].values()) == {None}
    assert refused["tasks"] == {"registration_error": "failed"}
    assert f"'{FAILS}' is not a cron expression" in refused["rendered"]["registration_error"]["reason"]
    entities = database.execute("select distinct entity_id from detection.detection_model_run_outputs")
    assert entities.fetchall() == [(FAILS,)]
