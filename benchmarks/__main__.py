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


def benchmark_names() -> list[str]:
    """Return the names of the benchmarks: the modules of this folder that have a `run`."""
    return sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))


def selected(arguments: Sequence[str], available: Sequence[str]) -> list[str]:
    """Return the benchmarks that `ONLY=`, as an argument or in the environment, names; all without it."""
    lists = [a.removeprefix("ONLY=") for a in arguments] or [os.environ.get("ONLY", "")]
    names = [name for text in lists for name in text.split(",") if name]
    if unknown := sorted(set(names) - set(available)):
        raise SystemExit(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(available)}")
    return names or list(available)


def main() -> None:
    """Run them one after the other, print a line for each result and append it to `results.jsonl`.

    `--table` prints the newest line of each case as Markdown instead.
    """
    if "--table" in sys.argv[1:]:
        print("\n".join(table(RESULTS.read_text(encoding="utf-8").splitlines())))
        return
    for name in selected(sys.argv[1:], benchmark_names()):
        results = importlib.import_module(f"benchmarks.{name}").run()
        for result in [results] if isinstance(results, dict) else results:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = json.dumps({"bench": name, "case": name, "at": at, "cpus": os.cpu_count(), **result})
            print(line, flush=True)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def table(lines: Sequence[str]) -> list[str]:
    """Return the newest line of each (bench, case) as a row of a Markdown table, oldest case first."""
    newest = {(line["bench"], line["case"]): line for line in map(json.loads, lines) if "bench" in line}
    rows = ["| bench | case | n | ours | beside it | repeats |", "|---|---|--:|--:|---|--:|"]
    for (bench, case), result in newest.items():
        names = [key.removeprefix("speedup_vs_") for key in result if key.startswith("speedup_vs_")]
        peers = [f"{n} {result[f'{n}_ms']} ms ({result[f'speedup_vs_{n}']}x)" for n in names]
        listed = ("bench", "case", "n", "at", "cpus", "repeats", "spread", "ours_ms")
        others = [
            f"{key} {value}"
            for key, value in result.items()
            if key not in listed
            and not key.startswith("speedup_vs_")
            and f"speedup_vs_{key[:-3]}" not in result
        ]
        ours = f"{result['ours_ms']} ms" if "ours_ms" in result else "-"
        beside = "; ".join(peers + others)
        rows.append(
            f"| {bench} | {case} | {result.get('n', '')} | {ours} | {beside} | {result.get('repeats', '')} |"
        )
    return rows


if __name__ == "__main__":
    main()
