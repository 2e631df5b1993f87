"""Entry points, flags, params, lengths, and what the engine imports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import model

import airflow_detection
from airflow_detection.domain.specs import VersionSpec
from airflow_detection.engine.entrypoints import Registry, load_class, shared_without_dependency
from airflow_detection.engine.flags import concurrent_shadows, use_model_registry
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.engine.params import ParamsLoader
from airflow_detection.errors import ConfigurationError, EntryPointError, UnknownUpstream

MODULE = """
from airflow_detection.engine.model import BaseDetectionModel, ModelResult

class Good(BaseDetectionModel):
    def run(self, ctx):
        return ModelResult()

class Unfinished(BaseDetectionModel):
    pass

class Reads(Good):
    def run(self, ctx):
        shared = ctx.shared
        if "asked" in ctx.shared:
            list(ctx.shared["asked"])
        scores = {n: ctx.shared[n] for n in ctx.params["names"]}
        maybe = ctx.shared.get("maybe")
        return ModelResult(outputs_per_input=[*ctx.shared["tracks"], *ctx.shared["other"]])

plain = dict
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fleet_models.py").write_text(MODULE)
    (tmp_path / "fleet_models_other.py").write_text(MODULE)
    (tmp_path / "fleet_broken.py").write_text("raise RuntimeError('not today')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("fleet_models", "fleet_models_other", "fleet_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("code")
def test_the_registry_instantiates_a_version_from_its_models_entry_point() -> None:
    spec = model("m", entrypoint="fleet_models:Good")
    version = replace(spec.versions[0], params={"k": [1]})
    instance = Registry([spec], allowed_prefixes=("fleet_models",)).instantiate(version)
    assert (type(instance).__name__, instance.model_id, instance.version, instance.params["k"]) == (
        "Good",
        "m",
        "1",
        (1,),
    )


@pytest.mark.usefixtures("code")
def test_the_source_tells_which_upstreams_are_read_without_a_dependency() -> None:
    reads = load_class("fleet_models:Reads", ("fleet_models",))
    assert shared_without_dependency(reads, ()) == ["other", "tracks"]
    assert shared_without_dependency(reads, ("tracks",)) == ["other"]
    assert shared_without_dependency(load_class("fleet_models:Good", ("fleet_models",)), ()) == []


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("entrypoint", "reason"),
    [
        ("fleet_models_other:Good", "not allowed"),
        ("fleet_models:plain", "not a BaseDetectionModel"),
        ("fleet_models:Unfinished", "abstract"),
        ("fleet_models:Missing", "cannot be imported: AttributeError"),
        ("fleet_models.deeper:Good", "cannot be imported: ModuleNotFoundError"),
        ("fleet_broken:Good", "cannot be imported: RuntimeError: not today"),
        ("fleet_models:Good.x", "not of the form"),
        ("no_such_name", "not a name of entry-point group"),
        ("", "not a name of entry-point group"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_refused(entrypoint: str, reason: str) -> None:
    with pytest.raises(EntryPointError, match=reason):
        load_class(entrypoint, ("fleet_models", "fleet_broken."))


@pytest.mark.usefixtures("code")
def test_code_that_is_not_allowed_is_not_even_imported() -> None:
    with pytest.raises(EntryPointError):
        load_class("fleet_models_other:Good", ("", "fleet_models"))
    assert "fleet_models_other" not in sys.modules


def test_the_registry_refuses_and_quarantines_as_the_plan_does() -> None:
    registry = Registry([model("a", reads=["?"]), model("b")])
    with pytest.raises(UnknownUpstream):
        registry.plan()
    assert set(registry.plan(strict=False).broken) == {"a"}


class Tiny(BaseDetectionModel):
    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult()


def test_a_model_id_over_64_characters_is_a_value_error_at_construction() -> None:
    assert Tiny("m" * 64).model_id == "m" * 64
    with pytest.raises(ValueError, match="65"):
        Tiny("m" * 65)
    with pytest.raises(ValueError, match="1 to 64"):
        Tiny("")


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_a_flag_is_on_for_values_that_mean_on(value: str) -> None:
    assert use_model_registry({"PREDICTION_USE_MODEL_REGISTRY": value})
    assert concurrent_shadows({"PREDICTION_CONCURRENT_SHADOWS": value})


@pytest.mark.parametrize(
    "env", [{}, {"PREDICTION_USE_MODEL_REGISTRY": "0"}, {"PREDICTION_USE_MODEL_REGISTRY": ""}]
)
def test_a_flag_is_off_unless_set(env: dict[str, str]) -> None:
    assert not use_model_registry(env)
    assert not concurrent_shadows(env)


def test_a_flag_with_another_value_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="PREDICTION_CONCURRENT_SHADOWS is 'maybe'"):
        concurrent_shadows({"PREDICTION_CONCURRENT_SHADOWS": "maybe"})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts its loads; `error` makes it fail."""

    def __init__(self) -> None:
        self.loads: list[int] = []
        self.error: Exception | None = None

    def __call__(self, version_id: int) -> dict[str, Any]:
        self.loads.append(version_id)
        if self.error:
            raise self.error
        return {"load": len(self.loads)}


def test_params_are_loaded_once_in_five_minutes_per_version() -> None:
    clock, source = Clock(), Source()
    loader = ParamsLoader(source, clock=clock)
    assert loader.get(1) == loader.get(1) == {"load": 1}
    loader.get(2)
    clock.now += 299
    loader.get(1)
    assert source.loads == [1, 2]
    clock.now += 1
    assert loader.get(1) == {"load": 3}


def test_old_params_are_served_with_their_age_while_the_database_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, source = Clock(), Source()
    loader = ParamsLoader(source, clock=clock)
    loader.get(1)
    source.error = OSError("away")
    clock.now += 420
    assert loader.get(1) == {"load": 1}
    assert "loaded 420 s ago" in caplog.text
    source.error = None
    assert loader.get(1) == {"load": 3}


def test_params_that_were_never_loaded_raise_what_the_load_raised() -> None:
    source = Source()
    source.error = OSError("away")
    with pytest.raises(OSError, match="away"):
        ParamsLoader(source).get(1)


def test_params_can_be_cleared_and_cannot_be_changed() -> None:
    source = Source()
    loader = ParamsLoader(source)
    with pytest.raises(TypeError):
        loader.get(1)["load"] = 9  # type: ignore[index]
    loader.clear()
    assert loader.get(1) == {"load": 2}


def test_the_engine_loads_neither_airflow_nor_a_database_nor_a_web_framework() -> None:
    folder = Path(airflow_detection.__file__).parent
    names = [f"airflow_detection.engine.{path.stem}" for path in (folder / "engine").glob("[a-z]*.py")]
    program = (
        f"import sys; sys.path.insert(0, {str(folder.parent)!r}); import {', '.join(names)}; "
        "print(sorted({m.partition('.')[0] for m in sys.modules} "
        "& {'airflow', 'psycopg', 'fastapi', 'orjson', 'yaml', 'numpy', 'sqlalchemy'}))"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert (process.stdout, process.stderr) == ("[]\n", "")
    assert len(names) >= 6


def test_a_version_without_any_entry_point_is_refused() -> None:
    version = VersionSpec(model_id="m", version="1", role="PRIMARY")  # type: ignore[arg-type]
    with pytest.raises(EntryPointError):
        Registry([]).instantiate(version)


def test_the_names_of_distributions_are_read_once_for_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(EntryPointError, match="'ours' is not a name of entry-point group"):
        load_class("ours")
    folder = tmp_path / "ours-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: ours\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        "[airflow_detection.models]\nours = tests.sample_registry:Echo\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_class("ours").__name__ == "Echo"
    (folder / "entry_points.txt").unlink()
    assert load_class("ours").__name__ == "Echo"
