"""What differs between the rows of two runs: counted by the daemon, or said why that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quarterdeck.cli.context import Context

if TYPE_CHECKING:
    from quarterstore.records.datasets import RowDifference
    from quarterstore.records.runs import Comparison, Difference, Run

COUNTED_WITHIN = 150.0
"""Seconds that the daemon may take, a little more than it gives its child."""
DIGITS = 64


def with_rows(context: Context, comparison: Comparison) -> Comparison:
    """The comparison of two runs with the rows added and removed below each dataset that differs."""
    from msgspec.structs import replace

    from quarterstore.records.runs import ShowRun

    if not any(row.where == "dataset" for row in comparison.rows):
        return comparison
    runs = [context.client.ask(ShowRun(run=run)) for run in comparison.runs]
    found: list[Difference] = []
    for row in comparison.rows:
        found.append(row)
        if row.where == "dataset":
            found += _rows_of(context, row, runs)
    return replace(comparison, rows=tuple(found))


def _rows_of(context: Context, row: Difference, runs: list[Run]) -> list[Difference]:
    from quarterstore.records.datasets import CompareDatasets
    from quarterstore.records.faults import Failed, Fault
    from quarterstore.records.runs import Difference

    before, after = (_digest(run, row.name, str(value)) for run, value in zip(runs, row.values, strict=True))
    if row.values[0] is None or row.values[1] is None:
        return []
    if before is None or after is None:
        context.say(f"{row.name}: the rows are known by name only, they cannot be counted")
        return []
    try:
        counted = context.client.ask(CompareDatasets(before=before, after=after), timeout=COUNTED_WITHIN)
    except Fault as fault:
        # what is gone or no table is still a difference, only not one that can be counted
        if isinstance(fault, Failed) or fault.field in ("before", "after", "digest"):
            context.say(f"{row.name}: the rows cannot be counted: {fault.line()}")
            return []
        raise
    return [Difference(where="dataset", name=f"{row.name}: {name}", values=values) for name, values in _counts(counted)]


def _counts(counted: RowDifference) -> list[tuple[str, tuple[str | int | None, ...]]]:
    found: list[tuple[str, tuple[str | int | None, ...]]] = [
        ("rows", (counted.rows_before, counted.rows_after)),
        ("rows added", (None, counted.added)),
        ("rows removed", (counted.removed, None)),
    ]
    if counted.columns_added:
        found.append(("columns added", (None, ", ".join(counted.columns_added))))
    if counted.columns_removed:
        found.append(("columns removed", (", ".join(counted.columns_removed), None)))
    return found


def _digest(run: Run, name: str, shown: str) -> str | None:
    """The whole hash of what a comparison shows the start of."""
    start = shown.partition(",")[0]
    known = [each.digest for each in run.inputs if each.name == name] + list(run.datasets)
    whole = [digest for digest in known if len(digest) == DIGITS and digest.startswith(start)]
    return whole[0] if whole else None
