"""Durations of each stage, beside those of the day before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from airflow_detection.snapshot.report import Cell, Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

SLOWER_FACTOR, SLOWER_MS, MIN_RUNS = 2.0, 100.0, 5
"""A version is slower if its p95 exceeds that of the day before by this factor and by this many ms; it is
not compared with fewer runs in the day before."""
ALL_STAGES = "all"
TimingRows = Mapping[bool, Row]
"""The row of the period under True, that of the day before under False."""


class Timings(BaseSection):
    """p50, p95 and max of each stage, over all versions; and of each version as a whole."""

    name, title = "timings", "Stage timings"

    def query(self, scope: Scope) -> tuple[list[Row], list[Row]]:
        """Return milliseconds by stage, and by version and stage."""
        return scope.rows("stages"), scope.rows("version_stages")

    def render(self, data: tuple[list[Row], list[Row]], scope: Scope) -> Findings:
        """Show a table of stages and one of versions; a diagnostic report has each version's stages too."""
        stages = _by_key([r for r in data[0] if r["stage"] != ALL_STAGES], "stage")
        versions = _by_key([r for r in data[1] if r["stage"] == ALL_STAGES], "model_id", "version", "role")
        version_stages = _by_key(
            [r for r in data[1] if r["stage"] != ALL_STAGES], "model_id", "version", "role", "stage"
        )
        slow = [key for key, rows in versions.items() if _is_slower(rows)]
        total = _by_key([r for r in data[0] if r["stage"] == ALL_STAGES], "stage").get((ALL_STAGES,), {})
        p50, p95, longest = _ms(total.get(True))
        tables = [_table("Each stage, all versions", ("Stage",), stages), _versions(versions, version_stages)]
        if scope.is_diagnostic:
            labelled: dict[tuple[str, ...], dict[bool, Row]] = {
                (f"{m}@{v}", stage): rows for (m, v, _, stage), rows in version_stages.items()
            }
            tables.append(_table("Each stage of each version", ("Version", "Stage"), labelled))
        return Findings(
            status=Status.ATTENTION if slow else Status.OK,
            summary=f"slower than the day before: {', '.join(f'{m}@{v}' for m, v, _ in slow)}"
            if slow
            else (
                "as fast as the day before"
                if any(False in h for h in versions.values())
                else "no day before to compare with"
            ),
            facts=(
                Fact(label="Runs", value=total[True]["runs"] if True in total else 0),
                Fact(label="p50", value=p50, kind=Kind.MS),
                Fact(label="p95", value=p95, kind=Kind.MS),
                Fact(label="Longest", value=longest, kind=Kind.MS),
            ),
            tables=tuple(tables),
        )


def _by_key(rows: Sequence[Row], *names: str) -> dict[tuple[str, ...], dict[bool, Row]]:
    by_key: dict[tuple[str, ...], dict[bool, Row]] = defaultdict(dict)
    for row in rows:
        by_key[tuple(row[n] for n in names)][row["is_now"]] = row
    return dict(sorted(by_key.items()))


def _ms(row: Row | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if row is None else (row["ms"][0], row["ms"][1], row["ms"][2])


def _is_slower(rows: TimingRows) -> bool:
    """Tell whether the p95 exceeds twice that of the day before, and by more than a tenth of a second."""
    if True not in rows or False not in rows or rows[False]["runs"] < MIN_RUNS:
        return False
    now, before = rows[True]["ms"][1], rows[False]["ms"][1]
    return bool(now > SLOWER_FACTOR * before and now - before > SLOWER_MS)


def _ratio(rows: TimingRows) -> float | None:
    if True not in rows or False not in rows or not rows[False]["ms"][1]:
        return None
    ratio: float = rows[True]["ms"][1] / rows[False]["ms"][1]
    return ratio


_FIGURES = (
    Column(label="Runs", kind=Kind.COUNT, weight=3),
    Column(label="p50", kind=Kind.MS),
    Column(label="p95", kind=Kind.MS),
    Column(label="Max", kind=Kind.MS, weight=2),
    Column(label="Day p50", kind=Kind.MS, weight=3, help="of the day before"),
    Column(label="Day p95", kind=Kind.MS, weight=2, help="of the day before"),
    Column(label="p95 / day", kind=Kind.RATIO, help="p95 now, of the p95 of the day before"),
)


def _figures(rows: TimingRows) -> tuple[Cell, ...]:
    p50, p95, longest = _ms(rows.get(True))
    day50, day95, _ = _ms(rows.get(False))
    runs = rows[True]["runs"] if True in rows else 0
    return (runs, p50, p95, longest, day50, day95, _ratio(rows))


def _table(title: str, names: tuple[str, ...], timings: Mapping[tuple[str, ...], TimingRows]) -> Table:
    shown = {key: rows for key, rows in timings.items() if True in rows}
    return Table(
        title=title,
        columns=(*(Column(label=n, kind=Kind.CODE) for n in names), *_FIGURES),
        rows=tuple((*key, *_figures(rows)) for key, rows in shown.items()),
        marks=tuple(Status.ATTENTION if _is_slower(rows) else None for rows in shown.values()),
        empty="nothing ran",
    )


def _versions(
    versions: Mapping[tuple[str, ...], TimingRows], version_stages: Mapping[tuple[str, ...], TimingRows]
) -> Table:
    shown = {key: rows for key, rows in versions.items() if True in rows}

    def slowest(key: tuple[str, ...]) -> str:
        p50 = {k[3]: r[True]["ms"][0] for k, r in version_stages.items() if k[:3] == key and True in r}
        return max(sorted(p50), key=lambda stage: p50[stage], default="")

    return Table(
        title="Each version",
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="Longest stage", weight=3),
            *_FIGURES,
        ),
        rows=tuple((f"{key[0]}@{key[1]}", slowest(key), *_figures(rows)) for key, rows in shown.items()),
        marks=tuple(Status.ATTENTION if _is_slower(rows) else None for rows in shown.values()),
        empty="nothing ran",
    )
