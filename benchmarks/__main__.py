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
    """Run them one after the other, print a line for each result and append it to `results.jsonl`.

    `--table` prints the newest line of each case as Markdown instead.
    """
    if "--table" in sys.argv[1:]:
        print("\n".join(table(RESULTS.read_text(encoding="utf-8").splitlines())))
        return
    for name in chosen(sys.argv[1:], cases()):
        told = importlib.import_module(f"benchmarks.{name}").run()
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for facts in [told] if isinstance(told, dict) else told:
            line = json.dumps({"bench": name, "case": name, "at": when, "cpus": os.cpu_count(), **facts})
            print(line, flush=True)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def table(lines: Sequence[str]) -> list[str]:
    """The newest line of each (bench, case) as rows of a Markdown table, in the order of their first line."""
    newest = {(facts["bench"], facts["case"]): facts for facts in map(json.loads, lines) if "bench" in facts}
    rows = ["| bench | case | n | ours | beside it | repeats |", "|---|---|--:|--:|---|--:|"]
    for (bench, case), facts in newest.items():
        names = [key.removeprefix("speedup_vs_") for key in facts if key.startswith("speedup_vs_")]
        peers = [f"{n} {facts[f'{n}_ms']} ms ({facts[f'speedup_vs_{n}']}x)" for n in names]
        known = ("bench", "case", "n", "at", "cpus", "repeats", "spread", "ours_ms")
        others = [
            f"{key} {value}"
            for key, value in facts.items()
            if key not in known
            and not key.startswith("speedup_vs_")
            and f"speedup_vs_{key[:-3]}" not in facts
        ]
        ours = f"{facts['ours_ms']} ms" if "ours_ms" in facts else "-"
        beside = "; ".join(peers + others)
        rows.append(
            f"| {bench} | {case} | {facts.get('n', '')} | {ours} | {beside} | {facts.get('repeats', '')} |"
        )
    return rows


if __name__ == "__main__":
    main()
