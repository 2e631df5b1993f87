"""Who may see what: a row of a cycle belongs to the cycle's Dag, and Airflow says whose that is.

A cycle whose Dag a user may not read is answered for as one that does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import get_user, requires_access_view
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request

from airflow_detection.config import settings
from airflow_detection.domain.names import dag_ids
from airflow_detection.domain.settings import Settings
from airflow_detection.store.access import cycles_of_models
from airflow_detection.store.database import Database
from airflow_detection.ui.sessions import read_session

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod

User = Annotated[BaseUser, Depends(get_user)]
signed_in = requires_access_view(AccessView.WEBSITE)
"""The dependency that every route has: 401 for nobody, 403 for who may not see Airflow's UI."""


def configuration() -> Settings:
    """Return the `[detection]` section as it is now."""
    return settings()


Configuration = Annotated[Settings, Depends(configuration)]


async def one_of_few(request: Request) -> AsyncIterator[None]:
    """Wait for one of the few sessions that a process may have at a time, without holding a thread."""
    async with request.app.state.slots:
        yield


def page_session(section: Configuration, _slot: Annotated[None, Depends(one_of_few)]) -> Iterator[Database]:
    """A session for a page."""
    with read_session(section, section.page_timeout_s) as db:
        yield db


def comparison_session(
    section: Configuration, _slot: Annotated[None, Depends(one_of_few)]
) -> Iterator[Database]:
    """A session for a comparison, whose statements may take longer."""
    with read_session(section, section.comparison_timeout_s) as db:
        yield db


Registry = Annotated[Database, Depends(page_session)]
ComparisonRegistry = Annotated[Database, Depends(comparison_session)]


def not_found(kind: str, name: object) -> HTTPException:
    """The answer for what does not exist, and for what the user may not see: the same."""
    return HTTPException(404, f"there is no {kind} {name!r}, or you may not read its Dag")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAccess:
    """What one user may read: cycles by their Dags, and the models of those cycles.

    `dag_ids` has the Dag of each registered cycle, readable or not, `models` the cycle of each model.
    """

    user: BaseUser
    dag_ids: Mapping[str, str]
    models: Mapping[str, str]
    cycle_ids: frozenset[str]

    @property
    def reads_all(self) -> bool:
        """Tell whether the user may read every registered cycle."""
        return self.cycle_ids == self.dag_ids.keys()

    def require_cycle(self, cycle_id: str) -> str:
        """Return the Dag of a cycle; 404 if the user may not read it."""
        if cycle_id not in self.cycle_ids:
            raise not_found("cycle", cycle_id)
        return self.dag_ids[cycle_id]

    def require_model(self, model_id: str) -> str:
        """Return the cycle of a model; 404 if the user may not read it."""
        cycle_id = self.models.get(model_id)
        if cycle_id not in self.cycle_ids:
            raise not_found("model", model_id)
        return str(cycle_id)

    def cycle_of_dag(self, dag_id: str) -> str:
        """Return the cycle of a Dag; 404 if the user may not read it."""
        for cycle_id in self.cycle_ids:
            if self.dag_ids[cycle_id] == dag_id:
                return cycle_id
        raise not_found("detection cycle in Dag", dag_id)

    def readable_models(self) -> list[str]:
        """Return the models of the cycles that the user may read, by name."""
        return sorted(m for m, cycle_id in self.models.items() if cycle_id in self.cycle_ids)

    def editable(self) -> frozenset[str]:
        """Return the cycles whose Dags the user may change."""
        own = [self.dag_ids[cycle_id] for cycle_id in self.cycle_ids]
        allowed = authorized_dags(self.user, own, "PUT")
        return frozenset(c for c in self.cycle_ids if self.dag_ids[c] in allowed)

    def require_edit(self, cycle_id: str) -> str:
        """Return the Dag of a cycle; 404 if the user may not read it, 403 if not change it."""
        dag_id = self.require_cycle(cycle_id)
        if not authorized_dags(self.user, [dag_id], "PUT"):
            raise HTTPException(403, f"changing what Dag {dag_id!r} has found needs the right to edit it")
        return dag_id


def authorized_dags(user: BaseUser, of: Iterable[str], method: ResourceMethod) -> set[str]:
    """Return those of these Dags that Airflow lets the user read, or edit, whether parsed yet or not."""
    dags = list(of)
    manager: Any = get_auth_manager()  # Any: generic in the class of its users
    teams = DagModel.get_dag_id_to_team_name_mapping(dags) if dags else {}
    allowed: set[str] = set()
    for team in {teams.get(dag_id) for dag_id in dags}:
        own = {dag_id for dag_id in dags if teams.get(dag_id) == team}
        allowed |= manager.filter_authorized_dag_ids(dag_ids=own, user=user, method=method, team_name=team)
    return allowed


def _access(user: BaseUser, db: Database) -> UserAccess:
    cycle_ids, models = cycles_of_models(db)
    dags = dag_ids(cycle_ids)
    readable = authorized_dags(user, dags.values(), "GET")
    return UserAccess(
        user=user,
        dag_ids=dags,
        models=models,
        cycle_ids=frozenset(c for c in cycle_ids if dags[c] in readable),
    )


def page_access(user: User, db: Registry) -> UserAccess:
    """Return what the user may read, for a page."""
    return _access(user, db)


def comparison_access(user: User, db: ComparisonRegistry) -> UserAccess:
    """Return what the user may read, for a comparison."""
    return _access(user, db)


Reader = Annotated[UserAccess, Depends(page_access)]
ComparisonReader = Annotated[UserAccess, Depends(comparison_access)]
