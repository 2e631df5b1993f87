"""`airflow detection db migrate` and `grants`: the registry's schema and who may do what in it."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, GroupCommand

from airflow_detection.cli.command import DRY_RUN, Arguments, arg, command, connected, say


@command
def db_migrate(args: Arguments) -> None:
    """Bring the registry's schema up to date; with --check, tell whether it is."""
    from airflow_detection.store import migrations

    with connected() as (db, _):
        if args.check:
            migrations.check(db)
            say("up to date")
            return
        names = migrations.migrate(db, dry_run=args.dry_run)
    for name in names:
        say(f"{'pending' if args.dry_run else 'applied'} {name}")
    if not names:
        say("up to date")


@command
def grants(args: Arguments) -> None:
    """Make the database's least-privilege roles and give them their rights."""
    from airflow_detection.store.grants import ROLES, grant

    del args
    with connected() as (db, settings):
        grant(db)
    say(f"granted in schema {settings.schema}: {', '.join(ROLES)}")


def commands() -> list[ActionCommand | GroupCommand]:
    """Return these commands."""
    only_check = arg("--check", help="exit 1 unless every migration is applied", action="store_true")
    migrate = ActionCommand("migrate", "Apply the migrations", db_migrate, (DRY_RUN, only_check))
    return [
        GroupCommand(name="db", help="The registry's schema", subcommands=(migrate,)),
        ActionCommand("grants", "Make the database's reader, writer and admin roles", grants, ()),
    ]
