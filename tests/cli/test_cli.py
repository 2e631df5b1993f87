"""`airflow detection ...` in the real Airflow CLI, against a real Postgres."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.sql import SQL, Identifier
from tests import sample_registry
from tests.cli.commands import Cli, environment
from tests.sample_registry import AT, SCHEMA

from airflow_detection.cycle import planning
from airflow_detection.domain.specs import Mode
from airflow_detection.store.database import Database

if TYPE_CHECKING:
    import pytest

Connection = psycopg.Connection[tuple[Any, ...]]
ROOT = Path(__file__).parents[2]
MARITIME = str(ROOT / "dags" / "registry" / "maritime.yaml")

SUPERUSER = (
    "a superuser: a query may read files of the server and change its settings; "
    "airflow detection grants --reader LOGIN makes a login for [detection] reader_conn_id\n"
)
NO_DAG = "warning: Airflow has no Dag detection_maritime yet: is there a Dag file that calls cycle_dags()?\n"


def test_the_installed_command_answers_in_one_line_without_a_traceback(
    tmp_path: Path, empty_dsn: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "detection", "plan", "sea"],
        env=environment(tmp_path, empty_dsn),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1]
        == "the database has no registry, or an older one: run 'airflow detection db migrate'"
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_database_is_migrated_once_and_checked(cli: Cli, empty_dsn: str) -> None:
    check, dry, migrate, repeated, checked = cli(
        ["db", "migrate", "--check"],
        ["db", "migrate", "--dry-run"],
        ["db", "migrate"],
        ["db", "migrate"],
        ["db", "migrate", "--check"],
        dsn=empty_dsn,
    )
    assert check.code == 1
    assert "0001_registry" in check.err
    assert dry.code == migrate.code == repeated.code == checked.code == 0
    assert dry.out.splitlines() == [line.replace("applied", "pending") for line in migrate.out.splitlines()]
    assert migrate.out.startswith("applied 0001_registry\n")
    assert repeated.out == checked.out == "up to date\n"


def test_the_tables_of_a_pack_are_made_by_name(cli: Cli, empty_dsn: str, tmp_path: Path) -> None:
    bare, load, unknown, pack, repeated = cli(
        ["db", "migrate"],
        ["ais", "load", str(tmp_path / "none.csv")],
        ["db", "migrate", "--pack", "ships"],
        ["db", "migrate", "--pack", "maritime"],
        ["db", "migrate"],
        dsn=empty_dsn,
    )
    assert "maritime" not in bare.out
    assert load.err == (
        "schema 'detection' has no tables of the pack 'maritime': run 'airflow detection db migrate --pack"
        " maritime'\n"
    )
    assert unknown.err == "there is no pack 'ships' with tables of its own\n"
    assert pack.out.startswith("applied 0004_maritime\n")
    assert repeated.out == "up to date\n"


def test_an_example_is_copied_once(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copied, repeated = cli(["example", "payments"], ["example", "payments"])
    assert copied.out == "payments/ was made: payments/README.md says how to begin\n"
    assert {"models.py", "registry.yaml", "labels.csv", "dags"} <= {
        p.name for p in Path("payments").iterdir()
    }
    assert not list(Path("payments").rglob("__pycache__"))
    assert (repeated.code, repeated.err) == (1, "payments: exists here already, and is left as it is\n")


def test_a_registry_is_applied_planned_promoted_and_checked(cli: Cli) -> None:
    dry, first, second, past, before, refused, promoted, twice, now, check = cli(
        ["apply", MARITIME, "--dry-run"],
        ["apply", MARITIME],
        ["apply", MARITIME],
        ["plan", "maritime", "--at", "2021-01-01T00:00:00Z", "--output", "json"],
        ["plan", "maritime", "--at", "2019-01-01T00:00:00Z"],
        ["promote", "spoofing@1.1"],
        ["promote", "spoofing@1.1", "--force", "--reason", "it is needed", "--actor", "ana"],
        ["promote", "spoofing@1.1"],
        ["plan", "maritime"],
        ["check"],
        PREDICTION_USE_MODEL_REGISTRY="1",
    )
    assert dry.out.splitlines() == [f"would: {line}" for line in first.out.splitlines()]
    assert "+ version spoofing@1.1\n" in first.out
    assert second.out == "nothing to change\n"
    plan = json.loads(past.out)
    assert (plan["topo_order"][0], plan["topo_order"][-1]) == ("track_quality", "risk_score")
    assert plan["digest"]
    assert (plan["settings"]["lookback_s"], plan["settings"]["time_key"]) == (3600.0, "observed_s")
    assert before.out.startswith("no version held a role then: nothing runs\n")
    assert refused.code == 1
    assert refused.err.startswith("spoofing@1.1 is not promoted: cycles: 0 cycles were completed by both")
    assert refused.err.endswith("; --force promotes it all the same\n")
    assert "  failed   cycles: 0 cycles were completed by both" in promoted.out
    assert promoted.out.splitlines()[-1] == (
        "spoofing@1.1 is PRIMARY from now on in place of spoofing@1.0, which is a SHADOW"
    )
    assert twice.out == "spoofing@1.1 is PRIMARY already\n"
    assert "spoofing  after track_quality\n  PRIMARY    1.1  spoofing\n" in now.out
    assert "  CHALLENGER 2.0  spoofing" in now.out
    assert "  SHADOW     1.0  spoofing" in now.out
    assert (check.code, check.err) == (0, f"warning: models read as 'postgres', {SUPERUSER}{NO_DAG}")


def test_a_plan_shows_what_its_cycle_read_then(cli: Cli, database: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, input_query="select 1 as n\n")
    planning.open_cycle(Database(database, SCHEMA), "fleet", AT, mode=Mode.AS_OF)
    sample_registry.put_cycle(database, lookback=timedelta(days=2), input_query="select 2 as t", time_key="t")
    past, now = cli(["plan", "fleet", "--at", AT.isoformat()], ["plan", "fleet"])
    assert past.out.splitlines()[-4:-1] == ["lookback 1:00:00", "input_query", "  select 1 as n"]
    assert now.out.splitlines()[-5:-1] == [
        "lookback 2 days, 0:00:00",
        "time_key t",
        "input_query",
        "  select 2 as t",
    ]
    (digest,) = database.execute("select plan_digest from detection.detection_cycle_runs").fetchone()
    assert past.out.endswith(f"\ndigest {digest}\n")


def test_a_correction_is_seen_by_those_who_ask_for_it(cli: Cli) -> None:
    span = ["--from", "2021-01-01T00:00:00Z", "--to", "2021-02-01T00:00:00Z"]
    asked = ["plan", "maritime", "--at", "2021-01-15T00:00:00Z"]
    later = datetime.now(UTC) + timedelta(days=1)
    _, refused, done, repeated, as_known_then, as_known_now, not_yet = cli(
        ["apply", MARITIME],
        ["correct", "spoofing@1.1", "PRIMARY", *span, "--reason", " "],
        ["correct", "spoofing@1.1", "PRIMARY", *span, "--reason", "swapped by mistake", "--actor", "ana"],
        ["correct", "spoofing@1.1", "PRIMARY", *span, "--reason", "swapped by mistake"],
        asked,
        [*asked, "--known-at", "now"],
        [*asked, "--known-at", later.isoformat()],
    )
    assert (refused.code, refused.err) == (1, "a correction of spoofing@1.1 needs a reason\n")
    assert done.out == (
        "spoofing@1.1 had PRIMARY from 2021-01-01T00:00:00+00:00 to 2021-02-01T00:00:00+00:00\n"
    )
    assert repeated.out.startswith("spoofing@1.1 had already PRIMARY ")
    assert "PRIMARY    1.0  spoofing" in as_known_then.out
    assert "PRIMARY    1.1  spoofing" in as_known_now.out
    assert not_yet.code == 1
    assert "cannot be told yet" in not_yet.err


def test_confirm_names_what_a_cycle_is_left_with_and_is_kept(cli: Cli, database: Connection) -> None:
    _, meant, empty = cli(
        ["apply", MARITIME],
        ["confirm", "maritime", "--reason", "the others moved"],
        ["confirm", "no_such_cycle"],
    )
    assert meant.code == empty.code == 0
    assert meant.out.startswith("cycle maritime is meant to have ")
    assert "risk_score, " in meant.out
    assert empty.out == "cycle no_such_cycle is meant to have 0 models: none\n"
    rows = database.execute(
        "select cycle_id, reason from detection.detection_confirmations order by confirmed_at"
    ).fetchall()
    assert rows == [("maritime", "the others moved"), ("no_such_cycle", "")]


def test_grants_makes_the_roles_again_and_again_and_says_what_is_wrong(
    cli: Cli, empty_dsn: str, database: Connection
) -> None:
    once, twice = cli(["grants"], ["grants"])
    line = "granted in schema detection: detection_reader, detection_writer, detection_admin\n"
    assert [(ran.code, ran.out) for ran in (once, twice)] == [(0, line)] * 2
    may = "select has_table_privilege('detection_reader', 'detection.detection_models', %s)"
    assert [database.execute(may, (right,)).fetchone() for right in ("select", "insert")] == [
        (True,),
        (False,),
    ]
    (refused,) = cli(["grants"], dsn=empty_dsn)
    assert refused.code == 1
    assert refused.err.startswith("the roles could not be granted: ")
    assert "Traceback" not in refused.err


def test_a_login_for_models_is_made_once_and_check_is_content_with_it(
    cli: Cli, database: Connection, server: str
) -> None:
    login = f"models_{uuid.uuid4().hex[:8]}"
    try:
        made, again = cli(["grants", "--reader", login], ["grants", "--reader", login])
        uri = made.out.rpartition("shown this once: ")[2].strip()
        assert made.out.splitlines()[1].startswith(f"{login} was made, a member of detection_reader; ")
        assert again.out.splitlines()[1:] == [f"{login} is a member of detection_reader"]
        reader = uri.replace("postgresql://", "postgres://")
        options = {"AIRFLOW_CONN_READER": reader, "AIRFLOW__DETECTION__READER_CONN_ID": "reader"}
        options["PREDICTION_USE_MODEL_REGISTRY"] = "1"
        _, check = cli(["apply", MARITIME], ["check"], **options)
        assert (check.code, check.err) == (0, NO_DAG)
        for role in ("detection_admin", "pg_read_server_files"):
            database.execute(SQL("grant {} to {}").format(Identifier(role), Identifier(login)))
        (warned,) = cli(["check"], **options)
        assert warned.code == 0
        assert f"models read as '{login}', which may use files or programs of the server" in warned.err
        assert f"models read as '{login}', which owns " in warned.err
        wrong = {**options, "AIRFLOW_CONN_READER": "postgres://127.0.0.1:1/none"}
        (unreachable,) = cli(["check"], **wrong)
        assert unreachable.code == 1
        assert "the connection that models read through: no connection to the registry: " in unreachable.err
        database.execute("create schema bank")
        database.execute("create table bank.payments (paid_at timestamptz)")
        query = "select paid_at from bank.payments where paid_at >= :window_start"
        sample_registry.put_cycle(database, input_query=query)
        (own,), (forbidden,) = cli(["check"], PREDICTION_USE_MODEL_REGISTRY="1"), cli(["check"], **options)
        assert "payments" not in own.err
        assert forbidden.code == 1
        assert "cycle fleet: input_query: " in forbidden.err
        assert "permission denied for schema bank" in forbidden.err
    finally:
        database.execute(SQL("drop role if exists {}").format(Identifier(login)))


def test_plan_diff_exits_3_when_the_next_parse_makes_a_new_dag_version(cli: Cli) -> None:
    first, alone, odd = cli(["plan", "--diff", "--file", MARITIME], ["plan"], ["plan", "sea", "--file", "x"])
    assert (first.code, first.err) == (3, "")
    assert first.out == "detection_maritime: new Dag version\n  + the Dag\n"
    assert alone.code == odd.code == 1
    assert alone.err == odd.err == "name a cycle, or ask for --diff, which alone takes --file\n"


def test_a_version_is_registered_from_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.skops").write_bytes(b"model")
    new = ["register-model", "spoofing@9", "--from", str(tmp_path / "m.skops"), "--role", "SHADOW"]
    params = ["--params", "{features: [sog_kn], entity_key: mmsi}"]
    _, dry, done, again, gone, malformed, listed = cli(
        ["apply", MARITIME],
        [*new, *params, "--dry-run"],
        [*new, *params],
        [*new, *params],
        ["register-model", "spoofing@10", "--from", str(tmp_path / "gone.onnx")],
        [*new, "--params", "[1"],
        ["versions", "--model", "spoofing", "--output", "json"],
    )
    lines = ["+ version spoofing@9", "~ role spoofing@9: none -> SHADOW from now"]
    assert dry.out.splitlines() == [f"would: {line}" for line in lines]
    assert done.out.splitlines() == lines
    assert (again.code, again.err) == (
        1, "version 'spoofing@9' is registered already: give the artefact a new one\n"
    )  # fmt: skip
    assert (gone.code, gone.err) == (1, f"artefact '{tmp_path}/gone.onnx' does not exist\n")
    assert "'[1' is not a mapping such as '{features: [a, b]}'" in malformed.err
    (version,) = [v for v in json.loads(listed.out) if v["version"] == "spoofing@9"]
    assert version["artifact"].startswith(f"{tmp_path}/m.skops (sha256 ")


def test_a_version_is_trained_and_tells_what_from(cli: Cli, database: Connection, tmp_path: Path) -> None:
    query = "select n from generate_series(1, 4) n where :window_end <= :opened_at"
    sample_registry.put_cycle(database, input_query=query)
    sample_registry.put_model(database, "m", entrypoint="tests.operators.test_training:Counts")
    sample_registry.put_version(database, "m@base")
    new = ["train", "m@2", "--base", "base", "--from", "2026-02-01", "--to-uri", str(tmp_path / "models")]
    end, as_of = ["--to", "2026-02-01T03:00:00Z"], ["--as-of", "2026-02-02"]
    empty, done, again, other, listed, views = cli(
        [*new, "--to", "2026-01-01"],
        [*new, *end, *as_of, "--actor", "ann"],
        [*new, *end, *as_of],
        [*new, *end, *as_of, "--seed", "2"],
        ["versions", "--output", "json"],
        ["export"],
        AIRFLOW__DETECTION__ALLOWED_MODULES="tests",
    )
    assert (empty.code, empty.err) == (
        1, "the data interval of m@2 is empty: [2026-02-01T00:00:00+00:00, 2026-01-01T00:00:00+00:00)\n"
    )  # fmt: skip
    assert done.code == 0, done.err
    lineage = (
        "from m@base, data of [2026-02-01T00:00:00+00:00, 2026-02-01T03:00:00+00:00), as of"
        " 2026-02-02T00:00:00+00:00: 12 rows, 0 labels"
    )
    first, second, third = done.out.splitlines()
    assert first == f"m@2 is registered as a CHALLENGER, trained {lineage}"
    name = r"m_2-[0-9a-f]{16}\.tar \(sha256 [0-9a-f]{12}\)"
    assert re.fullmatch(f"artefact {re.escape(str(tmp_path))}/models/{name}", second)
    assert third == "rows 12"
    assert again.out == done.out
    assert (other.code, other.err) == (
        1, f"version 'm@2' is registered already, trained {lineage}: give the trained one another name\n"
    )  # fmt: skip
    base, trained = json.loads(listed.out)
    assert (base["trained"], trained["trained"], trained["role"]) == (None, lineage, "CHALLENGER")
    assert "role: CHALLENGER" in views.out
    (row,) = database.execute(
        "select cycle_id, version, base_version, metrics, actor from detection.detection_trained_versions"
    )
    assert row == ("fleet", "2", "base", {"rows": 12.0}, "ann")


def test_check_tells_every_problem_and_exits_1(cli: Cli, database: Connection) -> None:
    cli(["apply", MARITIME])
    database.execute("update detection.detection_cycles set schedule = 'often'")
    database.execute(
        "insert into detection.detection_models (model_id, cycle_id, entrypoint)"
        " values ('lost', 'maritime', 'no_such_name'), ('foreign', 'maritime', 'os.path:join')"
    )
    database.execute(
        "insert into detection.detection_model_dependencies (model_id, depends_on)"
        " values ('track_quality', 'gone')"
    )
    database.execute("update detection.detection_models set task_options = '{\"retries\": 101}'"
                     " where model_id = 'lost'")  # fmt: skip
    database.execute(
        "update detection.detection_model_versions set artifact ="
        " jsonb_build_object('uri', '/no/such/file', 'sha256', repeat('0', 64)) where model_id = 'spoofing'"
    )
    database.execute("alter table detection.detection_cycles drop constraint start_date_is_in_our_time")
    database.execute("insert into detection.detection_cycles (cycle_id, schedule, lookback, start_date)"
                     " values ('endless', '* * * * *', '1h', 'infinity')")  # fmt: skip
    (check,) = cli(["check"])
    assert check.code == 1
    assert "Traceback" not in check.err
    for text in (
        "cycle endless: a row of detection_cycles cannot be read: ",
        "model lost: task_options.retries: must be a whole number from 0 to 100, not 101",
        "model lost: ",
        "model foreign: ",
        "cycle maritime: 'often' is not a cron expression",
        "'gone'",
        "version spoofing@1.0: artefact '/no/such/file' does not exist",
    ):
        assert text in check.err


def written(path: Path, **changes: str) -> str:
    """Write a registration of one cycle of payments with some of its values changed."""
    values = {
        "query": "select card, amount, paid_at from payments where paid_at < :window_end",
        "entrypoint": "tests.sample_registry:Echo",
        "options": "",
        "others": "",
    } | changes
    path.write_text(
        "cycles:\n  pay: {{schedule: '*/5 * * * *', lookback: 1h, start_date: 2026-01-01,"
        ' input_query: "{query}", time_key: paid_at}}\n'
        "models:\n  big: {{cycle: pay, entrypoint: '{entrypoint}', entity_key: card,{options}"
        " versions: {{'1': {{role: PRIMARY}}}}}}\n{others}".format(**values)
    )
    return str(path)


MISTAKES: list[tuple[dict[str, str], str]] = [
    ({"query": "select card from paymens"}, 'relation "paymens" does not exist'),
    ({"query": "select card from payments where paid_at < :window_ende"}, "window_ende"),
    (
        {"query": "select card from payments"},
        "time_key: 'paid_at' is none of the columns of input_query: card",
    ),
    ({"entrypoint": "tests.sample_registry:Ekho"}, "cannot be imported: AttributeError"),
    ({"entrypoint": "tests.sample_registry:legacy"}, "is not a BaseDetectionModel"),
    ({"entrypoint": "os:path"}, "module 'os' is under none of"),
    (
        {"entrypoint": "tests.sample_registry:ReadsTracks"},
        "ReadsTracks reads ctx.shared['tracks'], which depends_on of the model does not have",
    ),
]


def test_apply_and_check_tell_a_mistake_before_anything_runs(
    cli: Cli, database: Connection, tmp_path: Path
) -> None:
    database.execute("create table detection.payments (card text, amount numeric, paid_at timestamptz)")
    files = [written(tmp_path / f"{n}.yaml", **changes) for n, (changes, _) in enumerate(MISTAKES)]
    two = written(tmp_path / "two.yaml", **MISTAKES[0][0], **MISTAKES[3][0])
    *dry, strict, versions, applied, check, mended, well = cli(
        *(["apply", file, "--dry-run"] for file in files),
        ["apply", two, "--strict"], ["versions"],
        ["apply", two], ["check"],
        ["apply", written(tmp_path / "mended.yaml"), "--strict"], ["check"],
        PREDICTION_USE_MODEL_REGISTRY="1", AIRFLOW__DETECTION__ALLOWED_MODULES="tests", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    for file, ran, (changes, warning) in zip(files, dry, MISTAKES, strict=True):
        assert ran.code == 0
        line = 4 if "entrypoint" in changes else 2
        assert ran.err.startswith(f"warning: {file}:{line}: ")
        assert warning in ran.err
    assert (strict.code, versions.out) == (1, "No data found\n"), "nothing is registered"
    assert strict.out.startswith("would: + cycle pay")
    assert strict.err.endswith("--strict: nothing was changed, there are warnings: 2\n")
    assert (applied.code, check.code) == (0, 1)
    for _, problem in (MISTAKES[0], MISTAKES[3]):
        assert problem in applied.err
        assert problem in check.err
    assert (mended.code, mended.err, well.code) == (0, "", 0)


def test_apply_and_check_refuse_shards_of_a_class_that_does_not_declare_them(
    cli: Cli, database: Connection, tmp_path: Path
) -> None:
    database.execute("create table detection.payments (card text, amount numeric, paid_at timestamptz)")
    plain = written(tmp_path / "plain.yaml", options=" task_options: {shards: 1},")
    sharded = written(tmp_path / "sharded.yaml", options=" task_options: {shards: 8},")
    wrong = written(tmp_path / "wrong.yaml", options=" task_options: {shards: 257},")
    reason = (
        "model big: task_options.shards is 8: its class Echo has shard_by None: must be 'entity', or shards 1"
    )
    refused, versions, beyond, applied, well = cli(
        ["apply", sharded], ["versions"], ["apply", wrong], ["apply", plain], ["check"],
        PREDICTION_USE_MODEL_REGISTRY="1", AIRFLOW__DETECTION__ALLOWED_MODULES="tests", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert (refused.code, refused.err) == (1, f"{sharded}:4: {reason}\n")
    assert versions.out == "No data found\n", "nothing is registered"
    assert beyond.code == 1
    assert "task_options.shards: must be a whole number from 1 to 256, not 257" in beyond.err
    assert (applied.code, applied.err, well.code) == (0, "", 0)
    database.execute("""update detection.detection_models set task_options = '{"shards": 8}'""")
    (check,) = cli(
        ["check"],
        PREDICTION_USE_MODEL_REGISTRY="1", AIRFLOW__DETECTION__ALLOWED_MODULES="tests", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert check.code == 1
    assert reason in check.err


def test_check_tells_what_runs_nothing(cli: Cli, database: Connection, tmp_path: Path) -> None:
    database.execute("create table detection.payments (card text, amount numeric, paid_at timestamptz)")
    others = (
        "  idle: {cycle: night, entrypoint: no_such_name, versions: {'1': {}}}\n"
        "  trial: {cycle: night, entrypoint: no_such_name, versions: {'1': {role: CHALLENGER}}}\n"
    )
    options = "{pool: fast, pod_template_file: /no/gpu.yaml, roles: {SHADOW: {pool: spare}}}"
    file = written(tmp_path / "registry.yaml", options=f" task_options: {options},", others=others)
    night = (
        "cycles:\n  night: {schedule: '0 3 * * *', lookback: 1h, start_date: 2026-01-01,"
        " default_args: {pool: slow}, deadline: {after: 1h, callback: 'os:abort'}}\n"
    )
    Path(file).write_text(Path(file).read_text().replace("cycles:\n", night))
    migrate_airflow(tmp_path, "detection_pay")
    applied, check = cli(
        ["apply", file], ["check"], AIRFLOW__DETECTION__ALLOWED_MODULES="tests", PYTHONPATH=str(ROOT)
    )
    assert (applied.code, check.code) == (0, 1)
    assert "cycle night: deadline.callback: entry point 'os:abort' is not allowed" in applied.err
    for text in (
        "cycle 'pay' runs nothing: the model registry is off and it has no legacy_entrypoint; set PREDICTION",
        "cycle night: default_args.pool: there is no pool 'slow', its tasks would never run: airflow pools",
        "cycle night: deadline.callback: entry point 'os:abort' is not allowed: module 'os' is under none of",
        "model big: task_options.pool: there is no pool 'fast', its tasks would never run: airflow pools set",
        "model big: task_options.roles.SHADOW.pool: there is no pool 'spare', its tasks would never run:",
        "warning: model big: task_options.pod_template_file: /no/gpu.yaml is no file on this machine: Kubern",
        "warning: model idle: no version of it holds a role: it does not run",
        "warning: model trial: no version of it is PRIMARY: the others do not run without one",
        "warning: not in force: model idle: ",
        "warning: Dag detection_pay is paused: airflow dags unpause detection_pay",
        "warning: Airflow has no Dag detection_night yet",
        "warning: run manual__1 of Dag detection_pay is a success in which nothing ran: it is for 2025-12-31",
        ", before start_date 2026-01-01T00:00:00+00:00, where Airflow gives a manual run no task",
    ):
        assert text in check.err
    assert "manual__3" not in check.err, "its cycle is not before the start"


def migrate_airflow(home: Path, dag_id: str) -> None:
    """Migrate Airflow's metadata database in a home; store a paused Dag with two runs without a task."""
    code = (
        "import sys\nfrom datetime import UTC, datetime, timedelta\n"
        "from airflow.models.dagrun import DagRun\nfrom airflow.utils.state import DagRunState\n"
        "from airflow.utils.types import DagRunType\n"
        "from airflow.models.dag import DagModel\nfrom airflow.models.dagbundle import DagBundleModel\n"
        "from airflow.utils.db import initdb\nfrom airflow.utils.session import create_session\n"
        "initdb()\n"
        "with create_session() as session:\n"
        "    session.add(DagBundleModel(name='files'))\n"
        "    session.flush()\n"
        "    session.add(DagModel(dag_id=sys.argv[1], bundle_name='files', is_paused=True))\n"
        "    session.flush()\n"
        "    for day in (1, 3):\n"
        "        at = datetime(2025, 12, 30, tzinfo=UTC) + timedelta(days=day)\n"
        "        session.add(DagRun(dag_id=sys.argv[1], run_id=f'manual__{day}', logical_date=at,\n"
        "            run_after=at, run_type=DagRunType.MANUAL, state=DagRunState.SUCCESS))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, dag_id],
        env=environment(home, "host=127.0.0.1 dbname=none"), capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_each_command_says_what_a_database_without_a_registry_needs(cli: Cli, empty_dsn: str) -> None:
    for ran in cli(
        ["partitions", "plan"], ["partitions", "apply"], ["snapshot"], ["versions"], ["events"], ["export"],
        ["labels", "list", "x"], ["promotions", "list"], ["compare", "a@1", "a@2"], dsn=empty_dsn,
    ):  # fmt: skip
        assert (ran.code, ran.out) == (1, "")
        assert (
            ran.err == "the database has no registry, or an older one: run 'airflow detection db migrate'\n"
        )


def test_a_connection_of_another_database_is_refused(cli: Cli) -> None:
    for ran in cli(["check"], ["versions"], AIRFLOW_CONN_DETECTION_DEFAULT="mysql://root@127.0.0.1/x"):
        assert ran.code == 1
        assert ran.err.splitlines()[-1] == (
            "connection 'detection_default' is of type 'mysql': must be 'postgres'"
        )


def test_what_is_not_in_the_file_is_told_and_pruned(cli: Cli, database: Connection, tmp_path: Path) -> None:
    small = "  small: {cycle: pay, entrypoint: e, versions: {'1': {role: PRIMARY}, '2': {role: SHADOW}}}\n"
    whole = written(tmp_path / "whole.yaml", others=small)
    part = written(tmp_path / "part.yaml")
    database.execute("create table detection.payments (card text, amount numeric, paid_at timestamptz)")
    _, before, told, dry, pruned, again, after = cli(
        ["apply", whole], ["check"], ["apply", part], ["apply", part, "--prune", "--dry-run"],
        ["apply", part, "--prune"], ["apply", part, "--prune"], ["check"],
        AIRFLOW__DETECTION__ALLOWED_MODULES="tests", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert "model small: entry point 'e'" in before.err
    assert "small" not in after.err, "what is retired needs no class any more"
    assert told.out == "nothing to change\n"
    assert "warning: not in the file: small@1, still PRIMARY; --prune ends its role\n" in told.err
    assert "would: ~ role small@2: SHADOW -> none from now\n" in dry.out
    assert "~ role small@1: PRIMARY -> none from now\n" in pruned.out
    assert again.out == "nothing to change\n"
    rows = database.execute("select distinct reason from detection.detection_model_roles r"
                            " join detection.detection_model_versions using (version_id)"
                            " where r.model_id = 'small'").fetchall()  # fmt: skip
    assert rows


def test_errors_are_clear_lines_on_stderr(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("cycles:\n  sea: {schedule: often}\nmodel: {}\n")
    for ran, text in zip(
        cli(
            ["apply", str(broken)],
            ["apply", str(tmp_path / "none.yaml")],
            ["plan", "sea"],
            ["promote", "a@1"],
            ["promote", "a"],
            ["ais", "load", str(tmp_path / "none.csv")],
        ),
        (
            f"{broken}:3: file.model: unknown field; the nearest name is 'models'",
            "none.yaml: No such file or directory",
            "cycle 'sea' is not registered",
            "version 'a@1' is not registered",
            "'a' names no version: write model@version",
            "none.csv",
        ),
        strict=True,
    ):
        assert ran.code == 1
        assert text in ran.err
        assert "Traceback" not in ran.err


def test_a_database_that_does_not_answer_and_bad_settings_are_one_line_each(cli: Cli, dsn: str) -> None:
    (unreachable,) = cli(["check"], dsn="host=127.0.0.1 port=1 dbname=none user=none")
    assert unreachable.code == 1
    assert unreachable.err.startswith("no connection to the registry: ")
    (bad,) = cli(["check"], AIRFLOW__DETECTION__SCHEMA='x"y')
    assert (bad.code, bad.err) == (
        1,
        "[detection] schema is 'x\"y': must be 1 to 63 characters of a-z, 0-9 and _, the first not a digit\n",
    )
    (absent,) = cli(["check"], AIRFLOW__DETECTION__CONN_ID="elsewhere")
    assert absent.code == 1
    assert "Traceback" not in absent.err


def test_a_simulated_day_is_written_and_loaded_once(cli: Cli, tmp_path: Path, database: Connection) -> None:
    day = str(tmp_path / "day.csv")
    simulate, load, repeated = cli(
        ["ais", "simulate", day, "--start", "2025-01-01", "--hours", "1", "--seed", "3"],
        ["ais", "load", day],
        ["ais", "load", day],
    )
    assert (simulate.code, load.code, repeated.code) == (0, 0, 0), (simulate, load, repeated)
    count = database.execute("select count(*) from detection.ais_positions").fetchone()
    assert count is not None
    assert count[0] > 0


def test_the_provider_info_keeps_to_airflows_schema_and_importing_the_cli_stays_cheap() -> None:
    code = (
        "import json, pathlib, sys, jsonschema, airflow, airflow.cli.cli_config; old = set(sys.modules);"
        "from airflow_detection import provider_info as provider;"
        "from airflow_detection.cli import definition;"
        "definition.get_commands();"
        "new = {m for m in set(sys.modules) - old if not m.startswith('airflow_detection')};"
        "ours = {m for m in sys.modules if m.startswith('airflow_detection.')};"
        "schema = json.loads((pathlib.Path(airflow.__path__[0]) / 'provider_info.schema.json').read_text());"
        "jsonschema.validate(provider.get_provider_info(), schema);"
        "print(json.dumps([sorted(new), sorted(ours)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    new, ours = json.loads(done.stdout.splitlines()[-1])
    assert new == []
    names = (
        "ais",
        "check",
        "compare",
        "db",
        "example",
        "labels",
        "listings",
        "page",
        "partitions",
        "plan",
        "promotions",
        "registry",
        "replay",
        "snapshot",
    )
    commands = {f"cli.{name}" for name in names}
    assert {name.removeprefix("airflow_detection.") for name in ours} - commands == {
        *("cli", "cli.command", "cli.definition", "config", "errors", "provider_info"),
        *("domain", "domain.settings", "domain.thresholds"),  # their defaults are options
        "domain.text",  # what is written to the terminal goes through it
        "domain.links",
    }


def test_the_hook_gives_utc_autocommit_connections_and_the_registrys_operations(
    tmp_path: Path, dsn: str, cli: Cli
) -> None:
    cli(["apply", MARITIME])
    code = (
        "import psycopg\n"
        "from airflow_detection.hooks.detection import DetectionHook\n"
        "hook = DetectionHook()\n"
        "with hook.connect(read_only=True) as conn:\n"
        "    assert conn.autocommit\n"
        "    assert conn.execute('show timezone').fetchone() == ('UTC',)\n"
        "    try:\n"
        "        conn.execute('delete from detection.detection_cycles')\n"
        "    except psycopg.errors.ReadOnlySqlTransaction:\n"
        "        print('read only')\n"
        "print(hook.promote('spoofing@1.1'), hook.promote('spoofing@1.1'), hook.retire('spoofing@1.1'))\n"
        "print('spoofing' in hook.plan('maritime').primaries, len(hook.versions('spoofing')))\n"
        "print([cycle.cycle_id for cycle in hook.cycles()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, dsn),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        "read only",
        "True False True",
        "False 3",
        "['maritime']",
    ]
