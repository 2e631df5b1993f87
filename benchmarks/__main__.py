"""Run the benchmarks, or those that are named: `python -m benchmarks [ONLY=name[,name]]`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.jsonl"


def cases() -> list[str]:
    """The names of the cases: the modules of this folder that have a `run`."""
    return sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_") and p.stem != "server")


def chosen(arguments: Sequence[str], known: Sequence[str]) -> list[str]:
    """The cases that `ONLY=`, as an argument or in the environment, names; all without it."""
    words = [a.removeprefix("ONLY=") for a in arguments] or [os.environ.get("ONLY", "")]
    names = [name for word in words for name in word.split(",") if name]
    if unknown := sorted(set(names) - set(known)):
        raise SystemExit(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(known)}")
    return names or list(known)


def main() -> None:
    """Run them one after the other, print a line for each and append it to `results.jsonl`."""
    for name in chosen(sys.argv[1:], cases()):
        facts = importlib.import_module(f"benchmarks.{name}").run()
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"case": name, "at": when, "cpus": os.cpu_count(), **facts})
        print(line, flush=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
