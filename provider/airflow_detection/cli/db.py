"""`airflow detection db migrate` and `grants`: the registry's schema and who may do what in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand, GroupCommand

from airflow_detection.cli.command import DRY_RUN, Arguments, arg, command, connected, say

if TYPE_CHECKING:
    from airflow_detection.store.database import Database


@command
def db_migrate(args: Arguments) -> None:
    """Bring the registry's schema and its packs up to date; with --check, tell whether they are."""
    from airflow_detection.store import migrations

    with connected() as (db, _):
        if args.check:
            migrations.check(db)
            say("up to date")
            return
        names = migrations.migrate(db, packs=args.pack, dry_run=args.dry_run)
    for name in names:
        say(f"{'pending' if args.dry_run else 'applied'} {name}")
    if not names:
        say("up to date")


@command
def grants(args: Arguments) -> None:
    """Make the database's least-privilege roles, give them their rights, and make logins members of them."""
    from airflow_detection.store.grants import ROLES, grant

    with connected() as (db, settings):
        grant(db)
        say(f"granted in schema {settings.schema}: {', '.join(ROLES)}")
        for login, roles in ((args.reader, ROLES[:1]), (args.admin, ROLES)):
            if login:
                say(_grant_login(db, login, roles))


def _grant_login(db: Database, login: str, roles: tuple[str, ...]) -> str:
    import secrets
    from urllib.parse import quote

    from airflow_detection.store.grants import grant_login

    password, server = secrets.token_urlsafe(24), db.conn.info
    if not grant_login(db, login, roles, password=password):
        return f"{login} is a member of {', '.join(roles)}"
    user, host, database = (quote(part, safe="") for part in (login, server.host, server.dbname))
    uri = f"postgresql://{user}:{password}@{host}:{server.port}/{database}"
    return f"{login} was made, a member of {', '.join(roles)}; its connection, shown this once: {uri}"


def commands() -> list[ActionCommand | GroupCommand]:
    """Return these commands."""
    reader = arg("--reader", help="a login to read with, for models; made if missing", metavar="LOGIN")
    admin = arg("--admin", help="a login for Airflow's connection; made if missing", metavar="LOGIN")
    only_check = arg("--check", help="exit 1 unless every migration is applied", action="store_true")
    pack = arg(
        "--pack", help="a pack whose tables are made, too, such as maritime", metavar="PACK", action="append",
        default=[],
    )  # fmt: skip
    migrate = ActionCommand("migrate", "Apply the migrations", db_migrate, (pack, DRY_RUN, only_check))
    return [
        GroupCommand(name="db", help="The registry's schema", subcommands=(migrate,)),
        ActionCommand("grants", "Make the database's roles and logins in them", grants, (reader, admin)),
    ]
