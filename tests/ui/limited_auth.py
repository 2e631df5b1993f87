"""Airflow's simple auth manager with a Dag that one user may not read: what FAB does by its own means."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from tests.ui.page_models import HIDDEN, STRANGER


class LimitedAuthManager(SimpleAuthManager):
    """`stranger` may not read the Dag of the cycle `hidden`; an admin otherwise."""

    def is_authorized_dag(self, *, details: Any = None, user: Any, **rest: Any) -> bool:
        if user.get_name() == STRANGER and (details is None or details.id == HIDDEN):
            return False
        return super().is_authorized_dag(details=details, user=user, **rest)
