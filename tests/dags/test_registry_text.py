"""Text of the registry in a Dag and its documentation: no template, no Markdown, no file, and bounded."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from markdown_it import MarkdownIt
from tests.dags.test_cycles import cycle, model

from airflow_detection.dags.cycles import build_dag, dags_of, refused_dag
from airflow_detection.dags.documentation import MAX_PARAMS
from airflow_detection.domain.links import page, plan_image
from airflow_detection.domain.specs import Execution, ModelSpec, Role, VersionSpec
from airflow_detection.operators.cycle import RefusedOperator
from airflow_detection.operators.model import DetectionModelOperator
from airflow_detection.plan_cache.held_back import hold_back
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry

if TYPE_CHECKING:
    from markdown_it.token import Token

CONTEXT: Any = {"params": {"model": "tracks"}}
HOSTILE = [
    "{{1//0}}",
    "a\n```\n\n# b\n",
    "a`|`b",
    "``a|\\|\\\\|",
    "![a](//b/c.png)",
    "[a](javascript:b)",
    "<img src=x onerror=b>",
    "**a** __b__ ~~c~~ &lt;",
    "# a",
    "- a\n- b",
    "12. a",
    "    a",
    "> a\r\n===",
    "\x1b]0;a\x07 \u202eb\u2028c",
    "a|b.md",
]
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
FORBIDDEN = {"image", "link_open", "html_inline", "html_block", "em_open", "s_open"}


def version(model_id: str, text: str, role: Role, **params: Any) -> VersionSpec:
    return VersionSpec(model_id=model_id, version=text, role=role, params=params)


def full_of(text: str) -> KnownCycle:
    """A cycle that has the text in every field that reaches its Dag."""
    own = ModelSpec(
        model_id=text,
        versions=(version(text, text, Role.PRIMARY, **{text: text}), version(text, f"{text}2", Role.SHADOW)),
        entrypoint=text,
        task_options={"queue": text},
    )
    off = ModelSpec(model_id=f"{text}off", is_enabled=False, versions=(version(text, "1", Role.SHADOW),))
    lost = ModelSpec(
        model_id=f"{text}lost", depends_on=(f"{text}?",), versions=(version(text, text, Role.PRIMARY),)
    )
    odd = ModelSpec(
        model_id=f"{text}odd", task_options={text: text}, versions=(version(text, text, Role.PRIMARY),)
    )
    return cycle(own, off, lost, odd, cycle_id=text, description=text, legacy_entrypoint=text)


def shape(tokens: list[Token]) -> list[str]:
    return [token.type for token in tokens]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("execution", list(Execution))
def test_no_field_of_a_generated_dag_is_rendered(text: str, execution: Execution) -> None:
    known = full_of(text)
    spec = known.spec
    dags = [
        *dags_of(KnownRegistry(read_at=1.0, cycles=(known, cycle(cycle_id=text[:-1])))),
        build_dag(cycle(*known.models, cycle_id=text, execution=execution, legacy_entrypoint=text)),
        build_dag(cycle(cycle_id=spec.cycle_id, schedule=text)),
        refused_dag("detection_x", text),
    ]
    for dag in dags:
        for task in dag.tasks:
            assert task.template_fields == (("reason",) if isinstance(task, RefusedOperator) else ())
            before = {name: getattr(task, name) for name in task.template_fields}
            task.render_template_fields(CONTEXT, dag.get_template_env())
            assert {name: getattr(task, name) for name in task.template_fields} == before
            (shown,) = (
                t["__var"]
                for t in DagSerialization.to_dict(dag)["dag"]["tasks"]
                if t["__var"]["task_id"] == task.task_id
            )
            assert {name: shown.get(name) for name in before} == before


def test_a_dag_written_by_hand_templates_its_arguments() -> None:
    with DAG("by_hand", schedule=None) as dag:
        task = DetectionModelOperator(
            task_id="t",
            model_id="{{ params.model }}",
            version="{{ params.model }}-1",
            cycle_id="c{{ 1 + 1 }}",
        )
        DetectionModelOperator.partial(task_id="mapped").expand(model_id=["a", "b"])
    task.render_template_fields(CONTEXT, dag.get_template_env())
    assert (task.model_id, task.version, task.cycle_id) == ("tracks", "tracks-1", "c2")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_documentation_has_the_same_form_whatever_the_registry_says(text: str) -> None:
    documents = []
    for value in (text, "x" * 12):
        held_back = cycle(cycle_id=value, description=value)
        old = KnownRegistry(read_at=1.0, cycles=(full_of(value),))
        (kept,) = hold_back(old, KnownRegistry(read_at=2.0, cycles=(held_back,)), {}).cycles
        documents.append(str(build_dag(kept, notes={"note": value}).doc_md))
    hostile, innocent = (MARKDOWN.parse(document) for document in documents)
    assert shape(hostile) == shape(innocent)
    inner = [child for token in hostile for child in token.children or []]
    own = {"image": plan_image(text), "link_open": page("cycle", cycle=text)}
    for kind, attribute in (("image", "src"), ("link_open", "href")):
        assert [child.attrs[attribute] for child in inner if child.type == kind] == [own[kind]]
    assert not (FORBIDDEN - own.keys()) & set(shape(inner))
    rows = [t for t in hostile if t.type == "inline" and t.map and "SHADOW" in t.content]
    assert rows
    assert "\x1b" not in documents[0]
    assert "\u202e" not in documents[0]
    refused = MARKDOWN.parse(str(refused_dag("detection_x", text).doc_md))
    assert shape(refused) == ["paragraph_open", "inline", "paragraph_close"]
    assert not FORBIDDEN & set(shape(refused[1].children or []))


@pytest.mark.parametrize("text", ["plain", "a`b", "`a``b`", "a|b", "a\\|b", "  ", "{{1//0}}"])
def test_ids_and_params_are_read_as_they_are_registered(text: str) -> None:
    dag = build_dag(cycle(ModelSpec(model_id=text, versions=(version(text, text, Role.PRIMARY),))))
    tokens = MARKDOWN.parse(str(dag.doc_md))
    codes = [c.content for t in tokens for c in t.children or [] if c.type in {"code_inline", "text"}]
    seen = text.replace("\\|", "\\\\|") if "\\|" in text else text  # one more keeps the `|` in its cell
    assert [code.strip() for code in codes].count(seen.strip()) >= 2


def test_a_command_that_is_told_to_an_operator_cannot_be_another() -> None:
    cycle_id = "x; touch owned #"
    document = str(build_dag(cycle(model("tracks"), cycle_id=cycle_id)).doc_md)
    assert "airflow detection plan 'x; touch owned #' --output json" in document
    old = KnownRegistry(read_at=1.0, cycles=(cycle(model("tracks"), cycle_id=cycle_id),))
    (kept,) = hold_back(old, KnownRegistry(read_at=2.0), {}).cycles
    assert "airflow detection confirm 'x; touch owned #'" in str(kept.held_back_reason)


@pytest.mark.parametrize("reason", ["secret.md", f"{'x' * 300}.md", "\0.md"])
def test_a_reason_is_no_name_of_a_file(reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "**Refused.** secret.md").write_text("what no viewer may read")
    document = str(refused_dag("detection_x", reason).doc_md)
    assert "no viewer" not in document
    assert ".md" in document


LONG = "y" * 5_000_000


@pytest.mark.parametrize(
    "known",
    [
        cycle(ModelSpec(model_id="m", versions=(version("m", "1", Role.PRIMARY, blob=LONG),))),
        cycle(model("m"), description=LONG),
        cycle(model("m"), schedule=LONG),
        cycle(model("m"), schedule=f"{'0,' * 2_500_000}0 * * * *"),
        cycle(model("m", task_options={LONG: 1})),
        cycle(model("m", task_options={"pool": LONG, "queue": LONG, "executor": LONG})),
        KnownCycle(spec=cycle().spec, refused_reason=LONG),
        KnownCycle(spec=cycle().spec, models=(model("m"),), held_back_reason=LONG),
        cycle(model("m"), lookback=timedelta(hours=1), input_query=LONG, legacy_entrypoint=LONG),
    ],
    ids=["params", "description", "schedule", "cron", "option", "options", "refused", "held", "rest"],
)
def test_what_stands_in_a_dag_is_bounded_and_cut_with_a_hint(known: KnownCycle) -> None:
    dag = build_dag(known)
    assert len(json.dumps(DagSerialization.to_dict(dag))) < 20_000
    for task in dag.tasks:
        assert len(str(getattr(task, "problem", None))) < 2_000
    if "registration_error" not in dag.task_dict:
        assert "`airflow detection plan fleet --output json`" in str(dag.doc_md)


def test_params_are_cut_where_they_are_longer_and_say_how_long_they_are() -> None:
    def row(length: int) -> str:
        blob = "z" * (length - len('{"p": ""}'))
        spec = ModelSpec(model_id="m", versions=(version("m", "1", Role.PRIMARY, p=blob),))
        document = str(build_dag(cycle(spec)).doc_md)
        return next(line for line in document.splitlines() if "PRIMARY" in line)

    assert row(MAX_PARAMS).endswith('z"}` |')
    assert row(MAX_PARAMS + 1).endswith('z"... (201 characters)` |')
