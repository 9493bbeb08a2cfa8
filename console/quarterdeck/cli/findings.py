"""What checks found in rows, for a person or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quarterdeck.cli.context import Context

if TYPE_CHECKING:
    from quarterstore.records.checks import Finding


def show(context: Context, findings: list[Finding]) -> None:
    """A line a check, with the first three bad rows of it."""
    if context.json:
        context.out(findings)
        return
    from quarterdeck.cli.printing import table

    table(
        [
            {
                "check": one.check,
                "column": one.column or "-",
                "ok": "ok" if one.ok else "FAILED" if one.severity == "fail" else "WARNING",
                "bad": one.bad,
                "rows": one.rows,
                "found": one.words,
                "samples": "; ".join(one.samples) or "-",
            }
            for one in findings
        ]
    )
