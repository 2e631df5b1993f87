"""Entry points of models, turned into classes and functions: only allowed modules are ever imported."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable
from functools import cache
from importlib.metadata import entry_points

from airflow_detection.domain.specs import Cycle, ModelSpec, VersionSpec
from airflow_detection.engine.model import BaseDetectionModel
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.errors import EntryPointError

ENTRY_POINT_GROUP = "airflow_detection.models"


class Registry:
    """Registered models of one cycle with their ACTIVE versions.

    Args:
        specs: the registered models.
        allowed_prefixes: modules, such as `ourteam.models`, under which `module:Class` may be run.
    """

    def __init__(self, specs: Iterable[ModelSpec], *, allowed_prefixes: tuple[str, ...] = ()) -> None:
        self.specs = tuple(specs)
        self.allowed_prefixes = allowed_prefixes
        self._entrypoints = {spec.model_id: spec.entrypoint for spec in self.specs}

    def plan(self, strict: bool = True) -> ExecutionPlan:  # noqa: FBT001 - reads as plan(strict=False)
        """Return the plan; see `build_plan` for what `strict` refuses."""
        return build_plan(self.specs, strict=strict)

    def instantiate(self, version: VersionSpec) -> BaseDetectionModel:
        """Make the model object of a version from its entry point, else from its model's.

        Raises:
            EntryPointError: not allowed, not importable, or not a model.
        """
        return self.model_class(version)(version.model_id, version.version, version.params)

    def model_class(self, version: VersionSpec) -> type[BaseDetectionModel]:
        """Import the class of a version; raises what `instantiate` raises."""
        entrypoint = version.entrypoint or self._entrypoints.get(version.model_id, "")
        return load_class(entrypoint, self.allowed_prefixes)


def load_class(entrypoint: str, allowed_prefixes: tuple[str, ...] = ()) -> type[BaseDetectionModel]:
    """Import a model class: a name of the entry-point group, or `module:Class` under an allowed prefix.

    Raises:
        EntryPointError: not allowed, not importable, or not a model.
    """
    loaded = load_object(entrypoint, allowed_prefixes, group=ENTRY_POINT_GROUP)
    if not (isinstance(loaded, type) and issubclass(loaded, BaseDetectionModel)):
        raise EntryPointError(entrypoint, "is not a BaseDetectionModel")
    if inspect.isabstract(loaded):
        raise EntryPointError(entrypoint, "is abstract: it does not implement run")
    return loaded


def shared_without_dependency(loaded: type[BaseDetectionModel], depends_on: Collection[str]) -> list[str]:
    """Return the models that a class reads as `ctx.shared["x"]` and that are not in `depends_on`, in order.

    As far as its source tells: what is asked for by another way, or looked for first, is left out.
    """
    read: set[str] = set()
    asked: set[str] = set()
    for part in loaded.__mro__[: loaded.__mro__.index(BaseDetectionModel)]:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
        except (OSError, TypeError, SyntaxError):
            continue  # there is no source of it
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and _is_shared(node.value):
                read |= _texts(node.slice)
            elif isinstance(node, ast.Compare) and any(map(_is_shared, node.comparators)):
                asked |= _texts(node.left)
    return sorted(read - asked - set(depends_on))


def _is_shared(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "shared"


def _texts(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def load_function(entrypoint: str, allowed_prefixes: tuple[str, ...]) -> Callable[[Cycle], object]:
    """Import `module:function` from an allowed module.

    Raises:
        EntryPointError: not allowed, not importable, or not callable.
    """
    loaded = load_object(entrypoint, allowed_prefixes)
    if not callable(loaded):
        raise EntryPointError(entrypoint, "is not callable")
    function: Callable[[Cycle], object] = loaded
    return function


def load_object(entrypoint: str, allowed_prefixes: tuple[str, ...], *, group: str | None = None) -> object:
    """Import the object of an entry point: `module:name` under an allowed prefix, or a name of `group`.

    Raises:
        EntryPointError: malformed, not allowed, not importable, or not one name of the group.
    """
    path = entrypoint if ":" in entrypoint or group is None else _value_of_name(group, entrypoint)
    module_name, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise EntryPointError(entrypoint, "is not of the form module:name")
    if path == entrypoint and not is_under(module_name, allowed_prefixes):
        raise EntryPointError(
            entrypoint, f"is not allowed: module {module_name!r} is under none of {list(allowed_prefixes)}"
        )
    try:
        loaded: object = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise EntryPointError(entrypoint, f"cannot be imported: {type(error).__name__}: {error}") from error
    return loaded


def is_under(module_name: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether a module is one of the allowed ones, or inside one of them."""
    names = [prefix.strip().rstrip(".") for prefix in prefixes]
    return any(name and (module_name == name or module_name.startswith(name + ".")) for name in names)


@cache
def _points_of(group: str, path: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Return name and value of a group's entry points; each distribution on the path is read once.

    A forked process has them from its parent. `path` is `sys.path`, whose change makes others known.
    """
    return frozenset((point.name, point.value) for point in entry_points(group=group))


def _value_of_name(group: str, name: str) -> str:
    points = _points_of(group, tuple(sys.path))
    values = sorted({value for of, value in points if of == name})
    if not values:
        names = sorted({of for of, _ in points})
        raise EntryPointError(name, f"is not a name of entry-point group {group!r}; known: {names}")
    if len(values) > 1:
        raise EntryPointError(name, f"is given by several distributions: {values}")
    return values[0]
