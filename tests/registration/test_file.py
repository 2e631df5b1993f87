"""Registration files: what they change, and how every problem is reported."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.sample_registry import note_run

from airflow_detection.domain.specs import CycleSpec, Execution, Mode, ModelSpec, Role
from airflow_detection.errors import InputFileError, RegistrationError
from airflow_detection.registration.apply import apply_file
from airflow_detection.registration.file import parse
from airflow_detection.store import cycle_runs, registry, roles
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database

Connection = psycopg.Connection[tuple[Any, ...]]
SCHEMA = "detection"
START = datetime(2020, 1, 1, tzinfo=UTC)
MARITIME = Path(__file__).parents[2] / "dags" / "registry" / "maritime.yaml"

GOOD = """\
cycles:
  sea:
    schedule: "*/5 * * * *"
    lookback: 60m
    start_date: 2020-01-01T00:00:00Z
    execution: inline
models:
  tracks:
    cycle: sea
    entrypoint: acme.tracks:Tracks
    versions:
      "1.0": {role: PRIMARY, since: 2020-01-01T00:00:00Z}
  jumps:
    cycle: sea
    entrypoint: jumps
    depends_on: [tracks]
    score_key: score
    task_options: {pool: fast, retries: 2}
    versions:
      "1.0": {role: PRIMARY, since: 2020-01-01T00:00:00Z, params: {v_max_kn: 50}}
      "1.1": {role: SHADOW, since: 2020-01-01T00:00:00Z, params: {v_max_kn: 30}, notes: finds more}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registry.yaml"
    path.write_text(GOOD)
    return path


def everything(conn: Connection) -> list[Any]:
    tables = ("cycles", "models", "model_dependencies", "model_versions", "model_roles")
    return [
        conn.execute(
            psycopg.sql.SQL("select * from detection.{} t order by t::text").format(
                psycopg.sql.Identifier(f"detection_{table}")
            )
        ).fetchall()
        for table in tables
    ]


def problems_of(text: str, **known: Any) -> list[str]:
    with pytest.raises(RegistrationError) as caught:
        parse(text, "f.yaml", **known)
    return str(caught.value).splitlines()


def test_applying_twice_changes_nothing(database: Connection, file: Path) -> None:
    first = apply_file(Database(database, SCHEMA), file)
    assert len(first) == 9
    rows = everything(database)
    assert apply_file(Database(database, SCHEMA), file) == []
    assert everything(database) == rows


def test_what_the_file_says_is_what_the_plan_is_made_of(database: Connection, file: Path) -> None:
    apply_file(Database(database, SCHEMA), file)
    (cycle,) = registry.cycle_specs(Database(database, SCHEMA))
    assert (cycle.lookback, cycle.start_date, cycle.execution) == (
        timedelta(hours=1),
        START,
        Execution.INLINE,
    )
    jumps, tracks = registry.models_at(Database(database, SCHEMA), "sea", START)
    assert (jumps.depends_on, jumps.score_key, jumps.task_options) == (
        ("tracks",),
        "score",
        {"pool": "fast", "retries": 2},
    )
    assert [(v.label, v.role, v.params) for v in jumps.versions] == [
        ("jumps@1.0", Role.PRIMARY, {"v_max_kn": 50}),
        ("jumps@1.1", Role.SHADOW, {"v_max_kn": 30}),
    ]
    assert tracks.primary is not None
    assert tracks.primary.entrypoint == "acme.tracks:Tracks"


def test_a_dry_run_tells_the_same_lines_and_keeps_nothing(database: Connection, file: Path) -> None:
    before = everything(database)
    lines = apply_file(Database(database, SCHEMA), file, dry_run=True)
    assert everything(database) == before
    assert lines == apply_file(Database(database, SCHEMA), file)
    file.write_text(GOOD.replace("lookback: 60m", "lookback: 2h"))
    assert apply_file(Database(database, SCHEMA), file, dry_run=True) == [
        "~ cycle sea: lookback 1:00:00 -> 2:00:00"
    ]


def test_a_promotion_in_the_file_leaves_no_instant_without_a_champion(
    database: Connection, file: Path
) -> None:
    apply_file(Database(database, SCHEMA), file)
    file.write_text(
        GOOD.replace("PRIMARY, since: 2020-01-01T00:00:00Z, params", "SHADOW, params").replace(
            "{role: SHADOW, since: 2020-01-01T00:00:00Z, params", "{role: PRIMARY, params"
        )
    )
    assert apply_file(Database(database, SCHEMA), file) == [
        "~ role jumps@1.1: SHADOW -> PRIMARY from now",
        "~ role jumps@1.0: PRIMARY -> SHADOW from now",
    ]
    bounds = database.execute(
        "select upper(old.valid) = lower(new.valid) from detection.detection_model_roles old,"
        " detection.detection_model_roles new where old.model_id = 'jumps' and new.model_id = 'jumps'"
        " and old.role = 'PRIMARY' and new.role = 'PRIMARY' and old.role_id < new.role_id"
    ).fetchall()
    assert bounds == [(True,)]


def test_a_version_without_a_role_loses_it_and_one_that_is_left_out_keeps_it(
    database: Connection, file: Path
) -> None:
    apply_file(Database(database, SCHEMA), file)
    shadow = GOOD.splitlines(keepends=True)[-1]
    file.write_text(GOOD.replace(shadow, ""))
    assert apply_file(Database(database, SCHEMA), file) == []
    file.write_text(GOOD.replace("role: SHADOW, since: 2020-01-01T00:00:00Z, ", ""))
    assert apply_file(Database(database, SCHEMA), file) == ["~ role jumps@1.1: SHADOW -> none from now"]


def test_what_the_registry_refuses_names_its_line_and_nothing_is_kept(
    database: Connection, file: Path
) -> None:
    apply_file(Database(database, SCHEMA), file)
    note_run(database, "jumps@1.0")
    before = everything(database)
    file.write_text(
        GOOD.replace("v_max_kn: 50", "v_max_kn: 60")
        .replace("inline", "task")
        .replace("{role: SHADOW", "{role: CHALLENGER")
    )
    with pytest.raises(RegistrationError) as caught:
        apply_file(Database(database, SCHEMA), file)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        f"{file}:20: models.jumps.versions.1.0: version 1.0 of model jumps has run, its params cannot"
    )
    assert lines[1].startswith(
        f"{file}:21: models.jumps.versions.1.1: jumps@1.1 cannot be CHALLENGER since 2020"
    )
    assert everything(database) == before


def test_a_file_can_be_mended_until_it_has_run(database: Connection, file: Path) -> None:
    db = Database(database, SCHEMA)
    apply_file(db, file)
    mended = (
        GOOD.replace("entrypoint: jumps", "entrypoint: acme.jumps:Jumps")
        .replace("score_key: score", "score_key: risk")
        .replace("v_max_kn: 50", "v_max_kn: 55")
        .replace("since: 2020-01-01T00:00:00Z, params", "since: 2019-01-01T00:00:00Z, params")
    )
    file.write_text(mended)
    changes = apply_file(db, file)
    assert changes == [
        "~ model jumps: entrypoint 'jumps' -> 'acme.jumps:Jumps', score_key 'score' -> 'risk'",
        "~ version jumps@1.0: params {'v_max_kn': 50} -> {'v_max_kn': 55}",
        "~ role jumps@1.0: since 2020-01-01T00:00:00+00:00 -> 2019-01-01T00:00:00+00:00",
        "~ role jumps@1.1: since 2020-01-01T00:00:00+00:00 -> 2019-01-01T00:00:00+00:00",
    ]
    assert apply_file(db, file) == []
    (jumps,) = (
        spec for spec in registry.models_at(db, "sea", START - timedelta(days=9)) if spec.model_id == "jumps"
    )
    assert jumps.primary is not None
    assert (jumps.primary.entrypoint, dict(jumps.primary.params)) == ("acme.jumps:Jumps", {"v_max_kn": 55})


def test_of_a_long_text_a_change_shows_the_part_that_differs(database: Connection, file: Path) -> None:
    db, query = Database(database, SCHEMA), "select card, merchant, country, amount, paid_at from shop.{} x"
    for table in ("payment", "payments"):
        file.write_text(
            'cycles:\n  shop: {schedule: "0 * * * *", lookback: 1h, start_date: 2026-01-01, input_query: "'
            + query.format(table)
            + '"}\n'
        )
        changes = apply_file(db, file)
    was, now = "...try, amount, paid_at from shop.payment x", "...ry, amount, paid_at from shop.payments x"
    assert changes == [f"~ cycle shop: input_query '{was}' -> '{now}'"]


@pytest.mark.parametrize("reason", ["a result", "a planned cycle", "an ended role"])
def test_a_first_role_keeps_its_start_once_something_rests_on_it(
    database: Connection, file: Path, reason: str
) -> None:
    db = Database(database, SCHEMA)
    apply_file(db, file)
    if reason == "a result":
        note_run(database, "jumps@1.1")
    elif reason == "a planned cycle":
        cycle_runs.record_plan(db, registry.cycle_spec(db, "sea").at(START), Mode.AS_OF, {}, "0" * 64, None)
    else:
        roles.assign_role(db, model_id="jumps", version="1.1", role=None)
        roles.assign_role(db, model_id="jumps", version="1.1", role=Role.SHADOW)
    file.write_text(
        GOOD.replace("since: 2020-01-01T00:00:00Z, params", "since: 2019-01-01T00:00:00Z, params")
    )
    assert apply_file(db, file) == []


def test_a_role_from_now_on_may_be_given_the_start_that_was_forgotten(
    database: Connection, file: Path
) -> None:
    db = Database(database, SCHEMA)
    file.write_text(GOOD.replace(", since: 2020-01-01T00:00:00Z, params", ", params"))
    apply_file(db, file)
    assert not [m for m in registry.models_at(db, "sea", START) if m.model_id == "jumps"]
    file.write_text(GOOD)
    assert len(apply_file(db, file)) == 2
    assert [m.primary for m in registry.models_at(db, "sea", START) if m.model_id == "jumps" and m.primary]


@pytest.mark.parametrize(
    "scalar",
    [
        "1e-3",
        "1.5e3",
        "NO",
        "yes",
        "on",
        "Off",
        "22:30",
        "1:20:30.15",
        "0257",
        "-017",
        "0o17",
        "0b1",
        "1_0",
        "1_0.5",
    ],
)
def test_a_plain_scalar_that_yaml_1_1_and_1_2_read_differently_is_refused(scalar: str) -> None:
    file = GOOD.replace("v_max_kn: 50", f"limit: {scalar}")
    reason = f"YAML 1.1 and 1.2 differ on {scalar}: write it in quotes, or as 0.001, 257, true"
    assert problems_of(file) == [f"f.yaml:20: models.jumps.versions.1.0.params.limit: {reason}"]
    parse(GOOD.replace("v_max_kn: 50", f"limit: '{scalar}'"), "f")
    for place in ("notes: finds more", "score_key: score"):
        name = place.partition(":")[0]
        (line,) = problems_of(GOOD.replace(place, f"{name}: {scalar}"))
        assert line.endswith("must be text; write it in quotes")
    assert len(problems_of(GOOD.replace("v_max_kn: 50", f"{scalar}: 1"))) == 1


@pytest.mark.parametrize(
    "scalar", ["0", "-7", "0.001", "1.5e+3", "0x1F", ".5", "true", "null", "~", ".inf0", "1e", "y"]
)
def test_a_plain_scalar_that_both_read_alike_is_taken(scalar: str) -> None:
    parse(GOOD.replace("v_max_kn: 50", f"limit: {scalar}"), "f")


def test_a_switch_is_true_or_false_and_nothing_else() -> None:
    for scalar in ("yes", "ON", "1"):
        (line,) = problems_of(GOOD.replace("score_key: score", f"is_enabled: {scalar}"))
        assert line.endswith("is_enabled: must be true or false")


def test_anchors_and_merge_keys_stand_for_what_they_name() -> None:
    text = (
        "cycles:\n  sea: {schedule: '* * * * *', lookback: 1h, start_date: 2026-01-01}\n"
        "models:\n"
        "  a: &base {cycle: sea, entrypoint: m:A, score_key: s,\n"
        "     versions: {'1': {params: &p {v: 1, w: [2]}}}}\n"
        "  b: {<<: *base, entrypoint: m:B, versions: {'1': {params: {<<: [{v: 9, x: 3}, *p], w: []}}}}\n"
        "  c: {<<: *base, depends_on: [b]}\n"
    )
    a, b, c = parse(text, "f").models
    assert (b.spec.entrypoint, b.spec.score_key, b.spec.cycle_id) == ("m:B", "s", "sea")
    assert b.versions[0].params == {"v": 9, "x": 3, "w": []}
    assert c.versions[0].params == a.versions[0].params == {"v": 1, "w": [2]}
    assert problems_of(text.replace("*base, depends", "7, depends")) == [
        "f.yaml:7: YAML: a merge key needs a mapping, or a list of mappings"
    ]


@pytest.mark.parametrize("model_id", ["jumps@2", "Jumps", "jümps", "a b", "a/b", "a,b"])
def test_a_model_id_has_plain_characters(model_id: str) -> None:
    (line,) = problems_of(GOOD.replace("  jumps:\n", f"  '{model_id}':\n"))
    assert line == f"f.yaml:13: models.{model_id}: a model id is of the characters a-z, 0-9, '_', '.' and '-'"


def test_every_problem_of_a_file_is_told_at_once_with_its_line() -> None:
    lines = problems_of(
        """\
cycles:
  sea:
    schedul: "*/5 * * * *"
    schedule: "*/5 * * * 9"
    lookback: 60
    start_date: 2020-01-01T00:00:00
    max_active_runs: 0
    execution: tasks
    is_enabled: "no"
modles: {}
models:
  a:
    cycle: see
    entrypoint: "acme..A"
    depends_on: b
    versions:
      1.0: {role: primary}
      "1.1": {role: PRIMARY}
      "1.2": {role: PRIMARY, params: {day: 2020-01-01, x: .nan, 3: 4}}
      "1 3": {since: 2020-01-01, rol: SHADOW}
"""
    )
    assert [line.split(" ")[0:2] for line in lines] == [
        ["f.yaml:3:", "cycles.sea.schedul:"],
        ["f.yaml:4:", "cycles.sea.schedule:"],
        ["f.yaml:5:", "cycles.sea.lookback:"],
        ["f.yaml:6:", "cycles.sea.start_date:"],
        ["f.yaml:7:", "cycles.sea.max_active_runs:"],
        ["f.yaml:8:", "cycles.sea.execution:"],
        ["f.yaml:9:", "cycles.sea.is_enabled:"],
        ["f.yaml:10:", "file.modles:"],
        ["f.yaml:13:", "models.a.cycle:"],
        ["f.yaml:14:", "models.a.entrypoint:"],
        ["f.yaml:15:", "models.a.depends_on:"],
        ["f.yaml:17:", "models.a.versions.1.0:"],
        ["f.yaml:17:", "models.a.versions.1.0.role:"],
        ["f.yaml:19:", "models.a.versions.1.2.params.3:"],
        ["f.yaml:19:", "models.a.versions.1.2.params.day:"],
        ["f.yaml:19:", "models.a.versions.1.2.params.x:"],
        ["f.yaml:19:", "models.a.versions.1.2.role:"],
        ["f.yaml:20:", "models.a.versions.1"],
        ["f.yaml:20:", "models.a.versions.1"],
        ["f.yaml:20:", "models.a.versions.1"],
    ]
    text = "\n".join(lines)
    for reason in (
        "unknown field; the nearest name is 'schedule'",
        "not a cron expression",
        "'tasks' is not one of task, inline; the nearest name is 'task'",
        "unknown field; the nearest name is 'models'",
        "'see' is not registered; the nearest name is 'sea'",
        'a version is text: write it in quotes, "1.0"',
        "the nearest name is 'PRIMARY'",
        "a second PRIMARY: '1.1' (line 18) is PRIMARY already",
        "has no time zone: write 2020-01-01T00:00:00Z",
        "unknown field; the nearest name is 'role'",
    ):
        assert reason in text


MODELS = """\
models:
  a: {cycle: sea, entrypoint: m, depends_on: [c]}
  b: {cycle: sea, entrypoint: m, depends_on: [a]}
  c: {cycle: sea, entrypoint: m, depends_on: [b, bb]}
"""


def test_a_loop_is_told_once_with_its_path_and_an_unknown_upstream_with_the_nearest() -> None:
    assert problems_of(MODELS, cycles=["sea"]) == [
        "f.yaml:2: models.a.depends_on: dependency loop: a -> c -> b -> a",
        "f.yaml:4: models.c.depends_on: 'bb' is not registered; the nearest name is 'b'",
    ]


def test_a_loop_through_a_registered_model_is_found(database: Connection, file: Path) -> None:
    apply_file(Database(database, SCHEMA), file)
    file.write_text(
        "models:\n  tracks: {cycle: sea, entrypoint: 'acme.tracks:Tracks', depends_on: [jumps]}\n"
    )
    with pytest.raises(
        RegistrationError, match=r":2: models\.tracks\.depends_on: .*tracks -> jumps -> tracks"
    ):
        apply_file(Database(database, SCHEMA), file)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "f.yaml:1: file: is empty"),
        ("- a", "f.yaml:1: file: must be a mapping"),
        ("cycles: {\nmodels: [", "f.yaml:2: YAML: "),
        ("cycles: &a\n  sea: *b", "f.yaml:2: YAML: found undefined alias 'b'"),
        ("cycles:\n  sea: {}\n  sea: {}", "f.yaml:3: cycles.sea: stands at line 2 already"),
        ("cycles:\n  sea: {schedule: x}", "f.yaml:2: cycles.sea.lookback: is missing"),
        (f"models:\n  {'m' * 65}: {{}}", f"f.yaml:2: models.{'m' * 65}: the id must have 1 to 64 characters"),
    ],
)
def test_a_malformed_file_names_the_line(text: str, line: str) -> None:
    assert any(problem.startswith(line) for problem in problems_of(text)), problems_of(text)


def test_a_file_that_cannot_be_read_is_one_clear_line(database: Connection, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"none\.yaml: No such file or directory"):
        apply_file(Database(database, SCHEMA), tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputFileError, match="is not UTF-8 text"):
        apply_file(Database(database, SCHEMA), tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    ("text", "length"),
    [("90s", 90), ("60m", 3600), ("2h", 7200), ("1d", 86400), ("1w", 604800)],
)
def test_lookbacks_read_as_lengths_of_time(text: str, length: int) -> None:
    registration = parse(GOOD.replace("60m", text), "f.yaml")
    assert registration.cycles[0].spec.lookback.total_seconds() == length


def test_the_maritime_registry_applies(database: Connection) -> None:
    assert apply_file(Database(database, SCHEMA), MARITIME)
    assert apply_file(Database(database, SCHEMA), MARITIME) == []


def test_a_file_is_read_and_checked_before_the_registry_is_locked(
    database: Connection, dsn: str, file: Path
) -> None:
    file.write_text(GOOD.replace("cycle: sea", "cycle: see"))
    with (
        registry.with_exclusive_lock(Database(database)),
        connect(dsn) as other,
        pytest.raises(RegistrationError, match="see"),
    ):
        apply_file(Database(other), file)


def test_a_file_is_checked_again_if_the_registry_has_changed_meanwhile(
    database: Connection, dsn: str, file: Path
) -> None:
    apply_file(Database(database), file)
    file.write_text(
        GOOD.replace("entrypoint: acme.tracks:Tracks", "entrypoint: tracks\n    depends_on: [late]")
    )
    late = ModelSpec(model_id="late", cycle_id="sea", entrypoint="late")
    registry.put_model(Database(database), late)
    errors: list[Exception] = []

    def apply() -> None:
        with connect(dsn) as other:
            try:
                apply_file(Database(other), file)
            except RegistrationError as error:
                errors.append(error)

    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    with registry.with_exclusive_lock(Database(database)):
        thread = threading.Thread(target=apply)
        thread.start()
        while database.execute(waiting).fetchone() == (0,):
            thread.join(0.02)
        registry.put_model(Database(database), replace(late, depends_on=("tracks",)))
    thread.join()
    assert "dependency loop" in str(errors[0])


@pytest.mark.parametrize("kind", ["list", "mapping"])
def test_aliases_that_stand_for_billions_of_values_are_refused_at_once(
    database: Connection, file: Path, kind: str
) -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 10):
        aliases = [f"*a{n - 1}"] * 9
        values = ", ".join(aliases if kind == "list" else [f"k{i}: {a}" for i, a in enumerate(aliases)])
        bomb.append(f"a{n}: &a{n} " + (f"[{values}]" if kind == "list" else f"{{{values}}}"))
    params = "{" + ", ".join(bomb) + "}"
    file.write_text(GOOD.replace("params: {v_max_kn: 50}", f"params: {params}"))
    began = time.process_time()
    with pytest.raises(RegistrationError, match=r"aliases repeat .* values: must be at most 100000"):
        apply_file(Database(database), file)
    assert time.process_time() - began < 5


def test_an_alias_within_its_own_anchor_is_refused(database: Connection, file: Path) -> None:
    file.write_text(GOOD.replace("params: {v_max_kn: 50}", "params: &p {own: [*p, *p]}"))
    with pytest.raises(RegistrationError):
        apply_file(Database(database), file)


def test_aliases_within_the_bound_are_read(database: Connection, file: Path) -> None:
    text = GOOD.replace("params: {v_max_kn: 50}", "params: &p {v_max_kn: 50}")
    file.write_text(text.replace("params: {v_max_kn: 30}", "params: *p"))
    apply_file(Database(database), file)
    assert {v.params["v_max_kn"] for v in registry.versions(Database(database), "jumps")} == {50}


@pytest.mark.parametrize("character", ["{", "}", "\x1b", "\n", "\x7f", "\x9b", "\u2028"])
def test_a_name_with_a_brace_or_a_control_character_is_refused_with_its_line(
    database: Connection, character: str
) -> None:
    name = f"a{character}b"
    quoted = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in name)
    text = f'cycles:\n  "{quoted}": {{}}\nmodels:\n  "{quoted}": {{versions: {{"{quoted}": {{}}}}}}\n'
    lines = problems_of(text)
    reason = f"is {name!r}: must have no braces and no control characters"
    where = [line.split(": ")[0] for line in lines if line.endswith(reason)]
    assert where == ["f.yaml:2", "f.yaml:4", "f.yaml:4"]
    assert all(line.startswith("f.yaml:") and line.isprintable() for line in lines), "one line each"
    db, spec = Database(database, SCHEMA), ModelSpec(model_id="m", cycle_id="c", depends_on=(name,))
    for put in (
        lambda: registry.put_cycle(
            db, CycleSpec(cycle_id=name, schedule="", lookback=timedelta(1), start_date=START)
        ),
        lambda: registry.put_model(db, spec),
        lambda: registry.put_model(db, ModelSpec(model_id=name, cycle_id="c")),
        lambda: registry.put_version(db, model_id="m", version=name, params={}),
    ):
        with pytest.raises(ValueError, match="must have no braces and no control characters"):
            put()
