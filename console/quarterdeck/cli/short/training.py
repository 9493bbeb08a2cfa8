"""From a file of rows, or a definition, to a registered version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command, shown


def quickstart() -> click.Command:
    @click.option("--target", required=True)
    @click.option("--time")
    @click.option("--group")
    @click.option("--ignore", multiple=True, help="a column to leave out")
    @click.option("--learner", type=click.Choice(["logistic", "forest", "boosting", "ridge", "mlp"]))
    @click.option("--allow-leak", metavar="REASON", help="learn although both sides share something; it is kept")
    @click.option("--out", type=click.Path(path_type=Path))
    @click.argument("file", type=click.Path(path_type=Path))
    @command("quickstart", "From a CSV or Parquet file to a registered model, with no YAML.")
    def run(context: Context, **given: Any) -> None:
        from quarterdeck.cli.quickstart import quickstart as start
        from quarterdeck.cli.waiting import check_gate

        version, ended = start(context, **given)
        context.out(version)
        check_gate(ended)

    return run


def pipeline_group() -> dict[str, Made]:
    def run_file() -> click.Command:
        @click.option("--wait/--no-wait", default=True)
        @click.option("--allow-leak", metavar="REASON", help="learn although both sides share something; it is kept")
        @click.argument("file", type=click.Path(path_type=Path))
        @command("run", "Run a pipeline definition in TOML.")
        def run(context: Context, file: Path, allow_leak: str | None, wait: bool) -> None:
            from quarterdeck.cli.definition import run_file as run_it

            shown(context, run_it(context, file, allow_leak), wait)

        return run

    return {"run": run_file}
