"""`qd data`: rows against a file of rules, without a pipeline, and a file of rows kept as a dataset."""

from __future__ import annotations

from pathlib import Path

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command


def data_group() -> dict[str, Made]:
    return {"check": _check, "add": _add}


def _add() -> click.Command:
    @click.option("--name", help="another name than that of the file")
    @click.argument("file", type=click.Path(path_type=Path))
    @command("add", "Keep a CSV or Parquet file as the newest dataset of its name: what a retrain of that name reads.")
    def run(context: Context, file: Path, name: str | None) -> None:
        from quarterdeck.cli.definition import added

        kept = added(context, file, name)
        if not kept.rows:
            context.say(f"no row of {kept.name} could be counted, so it counts for no retrain by new rows")
        context.out(kept)

    return run


def _check() -> click.Command:
    @click.argument("rules", type=click.Path(path_type=Path))
    @click.argument("file", type=click.Path(path_type=Path))
    @command(
        "check", "Check a CSV or Parquet file by the rules of a TOML file; exit 1 where one of them does not hold."
    )
    def run(context: Context, file: Path, rules: Path) -> None:
        from quarterdeck.cli.definition import checked_rows
        from quarterdeck.cli.findings import show
        from quarterstore.records.faults import Failed

        findings = checked_rows(context, file, rules)
        show(context, findings)
        failed = sum(not one.ok and one.severity == "fail" for one in findings)
        if failed:
            raise Failed(f"{failed} of {len(findings)} checks failed", field=file.name)

    return run
