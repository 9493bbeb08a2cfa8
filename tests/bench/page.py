"""docs/benchmarks.md out of the lines of a run of every benchmark: results.jsonl beside this file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "docs" / "benchmarks.md"
KNOWN = ("bench", "figure", "n", "p10", "p50", "p90", "floor", "ratio", "reach", "met", "quick", "machine")


def number(value: float) -> str:
    """As people read it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def row(line: dict[str, Any]) -> str:
    """One figure."""
    spread = f"**{number(line['p50'])}** ({number(line['p10'])} to {number(line['p90'])}), n {line['n']}"
    floor = line.get("floor")
    beside = f"{floor['what']}: {number(floor['p50'])}; ratio {line['ratio']}" if floor else ""
    cells = (line["bench"], line["figure"], spread, beside, line["reach"], "yes" if line["met"] else "no")
    return f"| {' | '.join(cells)} |"


def page(lines: list[dict[str, Any]]) -> str:
    """The document; what is written by hand lies in benchmarks-notes.md beside it and is put below the table."""
    notes = TARGET.with_name("benchmarks-notes.md")
    found = [
        "# Benchmarks",
        "",
        "Made by `scripts/bench --write` from the last run of each of `tests/bench`, nothing else running. A figure is",
        "the median over n repeats with the 10th and 90th percentile in brackets; floors were measured in the same",
        "run, in turns.",
        "",
        f"Machine: {lines[0]['machine']}.",
        "",
        "| what | figure | median (p10 to p90) | floor | to reach | reached |",
        "|---|---|---|---|---|---|",
        *(row(line) for line in lines),
        "",
    ]
    more = [(line["bench"], {name: value for name, value in line.items() if name not in KNOWN}) for line in lines]
    if any(rest for _, rest in more):
        found += ["Beside them:", ""]
        found += [
            f"- {bench}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rest.items())
            for bench, rest in more
            if rest
        ]
        found.append("")
    return "\n".join(found) + (f"\n{notes.read_text()}" if notes.exists() else "")


def merged(*texts: str) -> str:
    """Lines by benchmark and figure: the last ones, where the first ones stood."""
    found: dict[tuple[str, str], str] = {}
    for line in "\n".join(texts).splitlines():
        if line.strip():
            told = json.loads(line)
            found[told["bench"], told["figure"]] = line
    return "\n".join(found.values()) + "\n"


if __name__ == "__main__":
    (kept := HERE / "results.jsonl").write_text(
        merged(kept.read_text(), *(Path(new).read_text() for new in sys.argv[1:]))
    )
    TARGET.write_text(page([json.loads(line) for line in kept.read_text().splitlines()]))
