"""The documentation of a cycle's Dag in Airflow: picture, versions, and the rule for past cycles."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_detection.domain.links import page, plan_image
from airflow_detection.domain.markdown import cell, code, name_cell, prose
from airflow_detection.domain.names import asset_uri_of
from airflow_detection.domain.text import cut
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.plan_cache.known import KnownCycle

MAX_PARAMS, MAX_TEXT = 200, 1000
"""Characters of a version's params, and of a description or a reason: a Dag stands in Airflow's database."""
AS_OF_RULE = """\
Each run takes its plan **as of its logical date**: the roles in force then, as known then; no later promotion
changes it. `as_run` repeats the recorded plan, `override` replays the versions in `replay`.
Versions of a past plan without a task here run in `other_versions`."""


def dag_doc(
    cycle: KnownCycle, plan: ExecutionPlan, broken: Mapping[str, str], notes: Iterable[str] = ()
) -> str:
    """The documentation of a Dag, Markdown; the same for the same plan, to the byte.

    Args:
        broken: the reason by model id.
        notes: sentences that stand above everything else.
    """
    spec = cycle.spec
    parts = [
        f"# Detection cycle {code(spec.cycle_id)}",
        *(f"> **{prose(cut(note, MAX_TEXT))}**" for note in notes),
        prose(cut(spec.description, MAX_TEXT)),
        _picture(spec.cycle_id),
        _table(plan),
    ]
    if broken:
        lines = (f"- {code(m)}: {prose(cut(broken[m], MAX_TEXT))}" for m in sorted(broken))
        parts.append("## Broken\n\n" + "\n".join(lines))
    whole = f"airflow detection plan {shlex.quote(spec.cycle_id)} --output json"
    parts += [
        AS_OF_RULE,
        f"Assets: {code(asset_uri_of(spec.cycle_id, '') + '<model>')}",
        f"What is cut here is whole in {code(whole)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _picture(cycle_id: str) -> str:
    """Return the plan as it is now, drawn by the pages, and the way to the page itself."""
    link = page("cycle", cycle=cycle_id)
    return f"![The plan of this cycle]({plan_image(cycle_id)})\n\n[Cycles, findings and comparisons]({link})"


def _table(plan: ExecutionPlan) -> str:
    lines = ["| model | version | role | params |", "|---|---|---|---|"]
    return "\n".join([*lines, *_rows(plan), *_absent(plan)])


def _rows(plan: ExecutionPlan) -> Iterator[str]:
    for model_id in sorted(plan.models):
        champion = plan.primaries.get(model_id)
        for v in (*((champion,) if champion else ()), *plan.shadows.get(model_id, ())):
            params = cut(_json(v.params), MAX_PARAMS)
            if v.artifact is not None:
                params = f"{params}, artefact {cut(str(v.artifact), MAX_PARAMS)}"
            yield f"| {name_cell(model_id)} | {name_cell(v.version)} | {v.role.value} | {cell(params)} |"


def _absent(plan: ExecutionPlan) -> Iterator[str]:
    off = sorted(m for m, model in plan.models.items() if not model.is_enabled)
    if off:
        yield f"\nSwitched off: {', '.join(map(code, off))}"
    if plan.without_primary:
        yield f"\nWithout a champion: {', '.join(map(code, plan.without_primary))}"


def _json(params: Mapping[str, Any]) -> str:  # Any: a JSON object
    return json.dumps(dict(params), sort_keys=True, default=str)
