"""From a file of rows, or a definition, to a registered version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import command


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
        from quarterdeck.cli.brief import brief
        from quarterdeck.cli.quickstart import quickstart as start
        from quarterdeck.cli.waiting import check_gate

        version, ended = start(context, **given)
        brief(context, version)
        check_gate(ended)

    return run
