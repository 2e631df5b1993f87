"""Write docs/reference/registration.md and the JSON Schema from the code that reads a registration file.

python docs/registration.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from airflow_detection.domain.specs import CycleSpec, ModelSpec
from airflow_detection.evidence.policy import BAD_VERDICTS, POLICY_OPTIONS, PromotionPolicy
from airflow_detection.registration import keys, schema
from airflow_detection.registration.entries import VersionEntry
from airflow_detection.registration.task_options import DEFAULT_ARGS, OPTIONS, Option

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "reference" / "registration.md"
SCHEMA = Path(schema.__file__).with_name("registration.schema.json")
HEAD = """\
# The registration file

What `airflow detection apply FILE` reads: YAML with the mappings `cycles` and `models`. This page and the
JSON Schema follow from the code that reads the file.

```yaml
# yaml-language-server: $schema=registration.schema.json
cycles:
  maritime:
    schedule: "*/5 * * * *"
    lookback: 60m
    start_date: 2026-01-01T00:00:00Z
    input_query: |
      select mmsi, sog_kn from ais_positions
       where observed_at >= :window_start and observed_at < :window_end
models:
  fast_ships:
    cycle: maritime
    entrypoint: your_package.models:FastShips
    entity_key: mmsi
    score_key: score
    versions:
      "1.0": {role: PRIMARY, since: 2026-01-01T00:00:00Z, params: {limit_kn: 40}}
```

With that first line editors complete the keys and mark mistakes, once the schema lies beside the file:

```console
$ airflow detection schema > registration.schema.json
```

`apply` refuses more than the schema can say: a cycle or an upstream that is not registered, a loop of
dependencies, a cron expression that never fires. Its messages name file, line and field:

```text
registry.yaml:8: models.fast_ships.entity_kye: unknown field; the nearest name is 'entity_key'
```

What may be right elsewhere is a warning with file and line, and registered all the same: an entry point that
this machine cannot import or that is not allowed here, an input query that the database cannot plan for the
login that models read as. With `--strict` there must be none: nothing is changed and the exit code is 1. Use
it where the code of the models is installed, such as in CI with `--dry-run --strict`.

Rules of all keys:

- A key that is null counts as left out. An unknown key is refused.
- A cycle, model or version that is not in the file stays as it is; `apply --prune` ends the roles of
  versions that the file leaves out.
- What YAML 1.1 and 1.2 read differently (`1e-3`, `NO`, `22:30`, `0257`) is refused: write it in quotes.
  Versions are text: `"1.0"`.
- Anchors and merge keys (`<<: *anchor`) work.
- Ids have no braces and no control characters; ids that were registered before this rule are kept.
"""


def page() -> str:
    """Return the reference of the registration file."""
    parts = [HEAD]
    parts += [f"## {name}\n\n{text}\n\n{''.join(_table(rows))}" for name, text, rows in _sections()]
    return "\n".join(parts)


Row = tuple[str, str, str, str, str]
"""Key, type and bound, default, meaning, example."""


def _sections() -> Iterator[tuple[str, str, Iterable[Row]]]:
    yield (
        "cycles",
        f"Each is one Airflow Dag. The key is its id: {keys.CYCLES.bounds}.",
        _rows(keys.CYCLE_KEYS, CycleSpec),
    )
    yield "default_args", "Of a cycle; each task of its Dag runs with them.", _option_rows(DEFAULT_ARGS)
    yield "deadline", "Of a cycle.", _rows(keys.DEADLINE_KEYS, CycleSpec)
    yield "models", f"The key is the model's id: {keys.MODELS.bounds}.", _rows(keys.MODEL_KEYS, ModelSpec)
    yield "versions", f"Of a model: {keys.VERSIONS.bounds}.", _rows(keys.VERSION_KEYS, VersionEntry)
    yield (
        "task_options",
        "Of a model; each version runs with them, or with what its role has under `roles`.",
        _option_rows(OPTIONS),
    )
    yield "promotion", "Of a model, see [the gate](../promotion.md).", _policy_rows()


def _rows(declared: Iterable[keys.Key], owner: type) -> Iterator[Row]:
    """Iterate over rows; `owner` is what the keys become, whose defaults are theirs."""
    defaults = {f.name: f.default for f in fields(owner)}
    for key in declared:
        default = key.default
        if key.is_required:
            default = "**required**"
        elif default is None:
            default = _written(defaults.get(key.name, MISSING))
        yield key.name, key.kind.bounds, default, key.means, f"{key.name}: {key.example}"


def _option_rows(options: Mapping[str, Option]) -> Iterator[Row]:
    for name, option in options.items():
        example = f"{name}: {option.example}"
        yield name, _sentence(str(option.bound)), option.default, option.means, example


def _policy_rows() -> Iterator[Row]:
    for field in fields(PromotionPolicy):
        option, default = POLICY_OPTIONS[field.name], _written(field.default)
        bounds = f"{'a whole number' if isinstance(field.default, int) else 'a number'}, {option.low:.10g} to"
        bounds += f" {option.high:.10g}"
        if isinstance(field.default, bool):
            bounds = keys.FLAG.bounds
        elif isinstance(field.default, tuple):
            bounds = f"a list of {', '.join(BAD_VERDICTS)}"
        yield field.name, bounds, default, option.means, f"{field.name}: {default}"


def _written(default: object) -> str:
    """Return a default as a registration file has it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return f"[{', '.join(default)}]" if default else "empty"
    return "empty" if default is MISSING or default in ("", None) else str(default)


def _sentence(text: str) -> str:
    return text.removeprefix("a number of ") if text.startswith("a number of ") else text


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| key | type and bound | default | meaning | example |\n|---|---|---|---|---|\n"
    for name, bounds, default, means, example in rows:
        cells = (f"`{name}`", bounds, default, means, f"`{example}`")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    SCHEMA.write_text(schema.json_schema_text())
