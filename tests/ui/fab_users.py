"""Users of the FAB auth manager, one of each kind that docs/ui.md names."""

from __future__ import annotations

PLUGINS, WEBSITE, DAGS = ("can_read", "Plugins"), ("can_read", "Website"), ("can_read", "DAGs")
ROLES = {
    "Analyst": [PLUGINS, WEBSITE, DAGS],
    "Fleet": [PLUGINS, WEBSITE, ("can_read", "DAG:detection_fleet"), ("can_edit", "DAG:detection_fleet")],
}
USERS = {"root": "Admin", "viewer": "Viewer", "analyst": "Analyst", "stranger": "Fleet"}


def add_users() -> None:
    """Add the roles and the users; a Dag of each cycle must be known."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        security = builder.sm
        security.create_dag_specific_permissions()
        security.bulk_sync_roles([{"role": role, "perms": rights} for role, rights in ROLES.items()])
        for user, role in USERS.items():
            security.add_user(user, user, user, f"{user}@example.org", security.find_role(role), "password")


if __name__ == "__main__":
    add_users()
