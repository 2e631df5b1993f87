"""The reference, the JSON Schema and the reader say the same of a registration file."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from airflow_detection.errors import RegistrationError
from airflow_detection.registration.file import parse
from airflow_detection.registration.keys import CYCLE_KEYS, MODEL_KEYS, VERSION_KEYS
from airflow_detection.registration.schema import json_schema

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
CYCLE = {"schedule": '"*/5 * * * *"', "lookback": "60m", "start_date": "2026-01-01"}
MODEL = {"cycle": "maritime", "entrypoint": "acme.models:Ships"}
VALUES = (
    "true", "0", "7", "-1", "0.5", "2147483648", "x", "ä b", '""', '" "', "[]", "[x]", "[7]",
    "[x, null]", "{}", "{x: 1}", "{x: {y: [1, null]}}", "task", "PRIMARY", "primary", "a:b", "a.b:C",
    "60m", "0m", "60 m", "60x", "99999999999m", '"* * * * *"', '"* * * *"', '"@hourly"', '"@ hourly"',
    "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "1800-01-01",
    "2026-01-01T00:00:00+02:00", "2026-W01", "{retries: 2}", "{retries: 101}", "{retries: x}",
    "{retrys: 2}", "{pool: heavy}", '{pool: ""}', "{memory_limit: 0.5}", "{min_cycles: 12}",
    "{min_cycles: 0}", "{alpha: 0.6}", "{alpha: 0.01}", "{rollback_on: [FAILED]}", "{rollback_on: [OK]}",
    "{rollback_on: []}", "{unknown_is_enough: 1}", '{"1.0": {role: PRIMARY}}',
    '{"1.0": {since: 2026-01-01}}', '{"1.0": {role: PRIMARY, since: 2026-01-01}}', '{"1@0": {}}',
    '{"1.0": null}', '{"1.0": []}', '{"1.0": {rolle: PRIMARY}}', "false", "{above: 0.8}", "{above: 0.2}",
    "{above: x}", "{below: 0.8}", "{a: https://x.org}", "{a: ftp://x.org}", "{a: javascript:x}",
    "{a: mailto:b@x.org}", "{a: 1}", "{retry_delay: 5}", "{retry_delay: -1}", "{execution_timeout: 0}",
    "{after: 4m, callback: a.b:c}", "{after: 4m}", "{callback: a.b:c}", "{after: 0m, callback: a.b:c}",
    "{after: 4m, callback: a}", "{after: 4m, callback: null}",
    "{severity: {CRITICAL: 0.95}}", "{severity: {LOW: 0.1}}", "{severity: 1}",
    "{resources: {limits: {nvidia.com/gpu: 1, cpu: 0.5, memory: 4Gi}}}", "{resources: {limits: {cpu: -1}}}",
    "{resources: {limits: {cpu: x}}}", "{resources: {limit: {cpu: 1}}}", "{resources: {limits: {a/: 1}}}",
    "{resources: {limits: 1}}", "{pod_template_file: /a.yaml}", "{pod_template_file: a.yaml}",
    "{executor_config: {a: 1}}", "{executor_config: {pod_override: 1}}", "{executor_config: 1}",
    "{roles: {SHADOW: {queue: q}}}", "{roles: {SHADOW: {quue: q}}}", "{roles: {shadow: {queue: q}}}",
    "{roles: {SHADOW: {memory_limit: 1}}}", "{roles: {SHADOW: 1}}", "{roles: 1}",
)  # fmt: skip
"""What people may write behind a key, right or wrong."""
DIGEST = "a" * 64
ARTIFACTS = tuple(
    f"{{{fields}}}"
    for fields in (
        "uri: /m, sha256: 5", "uri: /m", f"sha256: {DIGEST}", f"uri: m, sha256: {DIGEST}",
        f"uri: 's3://c@b/k', sha256: {DIGEST}", f"uri: 's3://k:p@b/k', sha256: {DIGEST}",
        f"uri: /m, sha256: {DIGEST}", "uri: /m, sha256: AB",
        f"uri: '/{{m}}', sha256: {DIGEST}", f"uri: /m, sha256: {DIGEST}, at: 1", f"uri: '', sha256: {DIGEST}",
    )
)  # fmt: skip


READER_ALONE = (
    "not registered",
    "YAML 1.1",
    "cron expression",
    "is not a time zone",
    "must be text; write it in quotes",  # of a date, which is text to an editor
    "is not a JSON value: write it in quotes",
)
"""Reasons that no schema can have."""


class TextLoader(yaml.SafeLoader):
    """Reads YAML as an editor's schema check sees it: an instant is text."""


TextLoader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("registration", ROOT / "docs" / "registration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema_problem(text: str) -> str | None:
    content = yaml.load(text, TextLoader)  # noqa: S506 - a SafeLoader
    error = next(VALIDATOR.iter_errors(content), None)
    return None if error is None else error.message


def reader_problem(text: str) -> str | None:
    try:
        parse(text, "f.yaml", cycles=["maritime", "payments"])
    except RegistrationError as error:
        return str(error)
    return None


def registration(cycle: str = "", model: str = "", version: str = "") -> str:
    """Return a file; each argument is a line that takes the place of that key, or is added."""

    def entry(fields: dict[str, str], line: str) -> str:
        key = line.partition(":")[0]
        lines = [f"{name}: {value}" for name, value in fields.items() if name != key]
        return "".join(f"\n    {text}" for text in [*lines, line] if text)

    versions = "" if model.startswith("versions") else f"\n    versions:\n      '1':\n        {version}"
    return (
        f"cycles:\n  maritime:{entry(CYCLE, cycle)}\nmodels:\n"
        f"  up: {{cycle: maritime, entrypoint: up}}\n  x: {{cycle: maritime, entrypoint: up}}\n"
        f"  ships:{entry(MODEL, model)}{versions}\n"
    )


PLACES = (("cycle", CYCLE_KEYS), ("model", MODEL_KEYS), ("version", VERSION_KEYS))
KEYS = [(place, key) for place, keys in PLACES for key in keys]


def test_the_reference_is_that_of_the_code(generator: ModuleType) -> None:
    assert generator.PAGE.read_text() == generator.page(), "run: python docs/registration.py"
    assert generator.SCHEMA.read_text() == generator.schema.json_schema_text(), (
        "run: python docs/registration.py"
    )
    for _, key in KEYS:
        assert f"| `{key.name}` | {key.kind.bounds.replace('|', '')}" in generator.page()


def test_the_schema_is_one_of_draft_2020_12() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"].endswith("2020-12/schema")


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    from airflow.cli import cli_parser  # after the configuration of the test

    args = cli_parser.get_parser().parse_args(["detection", "schema"])
    args.func(args)
    assert json.loads(capsys.readouterr().out) == json_schema()


@pytest.mark.parametrize(("place", "key"), KEYS, ids=lambda value: getattr(value, "name", value))
def test_each_example_of_the_reference_is_taken_by_the_reader_and_the_schema(place: str, key: Any) -> None:
    example = {"track_quality": "up"}.get(key.example.strip("[]"), key.example.strip("[]"))
    line = f"{key.name}: {f'[{example}]' if key.example.startswith('[') else example}"
    if key.name == "since":
        line = f"role: PRIMARY\n        {line}"
    text = registration(**{place: line})
    assert (reader_problem(text), schema_problem(text)) == (None, None)


@pytest.mark.parametrize(("place", "key"), KEYS, ids=lambda value: getattr(value, "name", value))
def test_reader_and_schema_refuse_the_same_values(place: str, key: Any) -> None:
    differences = []
    for value in (*VALUES, *(ARTIFACTS if key.name == "artifact" else ())):
        text = registration(**{place: f"{key.name}: {value}"})
        said, told = reader_problem(text), schema_problem(text)
        if bool(said) != bool(told) and not any(reason in (said or "") for reason in READER_ALONE):
            differences.append((value, said, told))
    assert differences == []


BROKEN = {
    "an unknown key of the file": ("modells: {}", "unknown field"),
    "an unknown key of a cycle": (registration(cycle="shedule: x"), "unknown field"),
    "an unknown key of a model": (registration(model="entity_kye: id"), "unknown field"),
    "an unknown key of a version": (registration(version="rol: PRIMARY"), "unknown field"),
    "no schedule": ("cycles: {a: {lookback: 1h, start_date: 2026-01-01}}", "is missing"),
    "no entry point": ("models: {a: {cycle: maritime}}", "is missing"),
    "a model id with capitals": ("models: {Ships: {cycle: maritime, entrypoint: m}}", "characters a-z"),
    "an id that is too long": (f"models: {{{'a' * 65}: {{cycle: maritime, entrypoint: m}}}}", "64 char"),
    "a cycle id with a brace": (
        'cycles: {"{a": {schedule: "@daily", lookback: 1h, start_date: 2026-01-01}}', "brace",
    ),
    "a list of cycles": ("cycles: [a]", "must be a mapping"),
    "a number of minutes": (registration(cycle="lookback: 60"), "length of time"),
    "a start of no role": (registration(version="since: 2026-01-01"), "no role"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_by_reader_and_schema(text: str, reason: str) -> None:
    assert reason in (reader_problem(text) or "")
    assert schema_problem(text)


def yaml_blocks(page: Path) -> list[str]:
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    return [block for block in blocks if re.search(r"^(cycles|models):", block, re.MULTILINE)]


def texts_of_tests() -> dict[str, str]:
    """Return every text in the tests that the reader takes."""
    texts = {}
    for source in (file.read_text() for file in (ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(source)) if "cycles:" in source else ():
            text = node.value if isinstance(node, ast.Constant) else None
            is_file = isinstance(text, str) and re.search(r"^(cycles|models):", text, re.MULTILINE)
            if is_file and reader_problem(text) is None:
                texts[f"test_{len(texts)}"] = text
    return texts


PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
WRITTEN = {
    **{file.name: file.read_text() for file in (ROOT / "dags" / "registry").glob("*.yaml")},
    **{file.parent.name: file.read_text() for file in (ROOT / "examples").glob("*/registry.yaml")},
    **{f"{page.name} {n}": text for page in PAGES for n, text in enumerate(yaml_blocks(page))},
    **texts_of_tests(),
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_every_registration_file_of_the_checkout_fits_the_schema(text: str) -> None:
    assert schema_problem(text) is None
    assert reader_problem(text) is None


def test_the_samples_are_those_of_demo_readme_and_tests() -> None:
    assert {"maritime.yaml", "payments", "README.md 0", "registration.md 0"} <= WRITTEN.keys()
    assert sum(name.startswith("test_") for name in WRITTEN) > 5
