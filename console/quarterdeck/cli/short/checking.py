"""`qd data`: rows against a file of rules, without a pipeline, and a file of rows kept as a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

if TYPE_CHECKING:
    from quarterstore.records.checks import Finding


def data_group() -> dict[str, Made]:
    return {"check": _check, "add": _add}


def _add() -> click.Command:
    @click.option("--name", help="another name than that of the file")
    @click.argument("file", type=click.Path(path_type=Path))
    @command("add", "Keep a CSV or Parquet file as the newest dataset of its name: what a retrain of that name reads.")
    def run(context: Context, file: Path, name: str | None) -> None:
        from quarterdeck.cli.definition import added

        context.out(added(context, file, name))

    return run


def _check() -> click.Command:
    @click.argument("rules", type=click.Path(path_type=Path))
    @click.argument("file", type=click.Path(path_type=Path))
    @command(
        "check", "Check a CSV or Parquet file by the rules of a TOML file; exit 1 where one of them does not hold."
    )
    def run(context: Context, file: Path, rules: Path) -> None:
        from quarterdeck.cli.definition import checked_rows
        from quarterstore.records.faults import Failed

        findings = checked_rows(context, file, rules)
        show(context, findings)
        failed = sum(not one.ok and one.severity == "fail" for one in findings)
        if failed:
            raise Failed(f"{failed} of {len(findings)} checks failed", field=file.name)

    return run


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
