"""`airflow detection example`: a copy of an example to begin with."""

from __future__ import annotations

from pathlib import Path

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.command import Arguments, arg, command, fail, say


def examples_root() -> Path:
    """Return the folder of examples: inside an installed package, at the root of a checkout."""
    here = Path(__file__).resolve()
    installed = here.parents[1] / "examples"
    return installed if installed.is_dir() else here.parents[3] / "examples"


@command
def example(args: Arguments) -> None:
    """Copy an example into the current folder."""
    import shutil

    try:
        shutil.copytree(
            examples_root() / args.name, args.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    except FileExistsError:
        fail(f"{args.name}: exists here already, and is left as it is")
    except OSError as error:
        fail(f"{args.name}: {error.strerror or error}")
    say(f"{args.name}/ was made: {args.name}/README.md says how to begin")


def action() -> ActionCommand:
    """Return this command."""
    names = ["payments", "monitoring"]
    name = arg("name", help=f"the example: {', '.join(names)}", metavar="NAME", choices=names)
    return ActionCommand("example", "Copy an example into the current folder", example, (name,))
