"""How long each stage takes, beside the day before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from airflow_detection.snapshot.report import Cell, Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

SLOWER, SLOWER_MS, FEW_RUNS = 2.0, 100.0, 5
ALL = "all"
Held = Mapping[bool, Row]


class Timings(BaseSection):
    """p50, p95 and max of each stage, over all versions; and of each version as a whole."""

    name, title = "timings", "Stage timings"

    def query(self, scope: Scope) -> tuple[list[Row], list[Row]]:
        """Milliseconds by stage, and by version and stage."""
        return scope.rows("stages"), scope.rows("version_stages")

    def render(self, found: tuple[list[Row], list[Row]], scope: Scope) -> Findings:
        """A table of stages and one of versions; the longer look has each version's stages."""
        stages = _by([r for r in found[0] if r["stage"] != ALL], "stage")
        whole = _by([r for r in found[1] if r["stage"] == ALL], "model_id", "version", "role")
        parts = _by([r for r in found[1] if r["stage"] != ALL], "model_id", "version", "role", "stage")
        slow = [name for name, held in whole.items() if _is_slower(held)]
        all_of = _by([r for r in found[0] if r["stage"] == ALL], "stage").get((ALL,), {})
        p50, p95, top = _ms(all_of.get(True))
        tables = [_table("Each stage, all versions", ("Stage",), stages), _versions(whole, parts)]
        if scope.is_diagnostic:
            named: dict[tuple[str, ...], dict[bool, Row]] = {
                (f"{m}@{v}", stage): held for (m, v, _, stage), held in parts.items()
            }
            tables.append(_table("Each stage of each version", ("Version", "Stage"), named))
        return Findings(
            status=Status.ATTENTION if slow else Status.OK,
            summary=f"slower than the day before: {', '.join(f'{m}@{v}' for m, v, _ in slow)}"
            if slow
            else (
                "as fast as the day before"
                if any(False in h for h in whole.values())
                else "no day before to compare with"
            ),
            facts=(
                Fact(label="Runs", value=all_of[True]["runs"] if True in all_of else 0),
                Fact(label="p50", value=p50, kind=Kind.MS),
                Fact(label="p95", value=p95, kind=Kind.MS),
                Fact(label="Longest", value=top, kind=Kind.MS),
            ),
            tables=tuple(tables),
        )


def _by(rows: Sequence[Row], *names: str) -> dict[tuple[str, ...], dict[bool, Row]]:
    held: dict[tuple[str, ...], dict[bool, Row]] = defaultdict(dict)
    for row in rows:
        held[tuple(row[n] for n in names)][row["is_now"]] = row
    return dict(sorted(held.items()))


def _ms(row: Row | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if row is None else (row["ms"][0], row["ms"][1], row["ms"][2])


def _is_slower(held: Held) -> bool:
    """p95 twice that of the day before, and by a tenth of a second at least."""
    if True not in held or False not in held or held[False]["runs"] < FEW_RUNS:
        return False
    now, before = held[True]["ms"][1], held[False]["ms"][1]
    return bool(now > SLOWER * before and now - before > SLOWER_MS)


def _ratio(held: Held) -> float | None:
    if True not in held or False not in held or not held[False]["ms"][1]:
        return None
    ratio: float = held[True]["ms"][1] / held[False]["ms"][1]
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


def _figures(held: Held) -> tuple[Cell, ...]:
    p50, p95, top = _ms(held.get(True))
    day50, day95, _ = _ms(held.get(False))
    runs = held[True]["runs"] if True in held else 0
    return (runs, p50, p95, top, day50, day95, _ratio(held))


def _table(title: str, names: tuple[str, ...], held: Mapping[tuple[str, ...], Held]) -> Table:
    shown = {key: one for key, one in held.items() if True in one}
    return Table(
        title=title,
        columns=(*(Column(label=n, kind=Kind.CODE) for n in names), *_FIGURES),
        rows=tuple((*key, *_figures(one)) for key, one in shown.items()),
        marks=tuple(Status.ATTENTION if _is_slower(one) else None for one in shown.values()),
        empty="nothing ran",
    )


def _versions(whole: Mapping[tuple[str, ...], Held], parts: Mapping[tuple[str, ...], Held]) -> Table:
    shown = {key: one for key, one in whole.items() if True in one}

    def slowest(key: tuple[str, ...]) -> str:
        mine = {k[3]: h[True]["ms"][0] for k, h in parts.items() if k[:3] == key and True in h}
        return max(sorted(mine), key=lambda s: mine[s], default="")

    return Table(
        title="Each version",
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="Longest stage", weight=3),
            *_FIGURES,
        ),
        rows=tuple((f"{key[0]}@{key[1]}", slowest(key), *_figures(one)) for key, one in shown.items()),
        marks=tuple(Status.ATTENTION if _is_slower(one) else None for one in shown.values()),
        empty="nothing ran",
    )
