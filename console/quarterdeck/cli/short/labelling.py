"""`qd labels`, `qd outcome`: what became of predictions, sent as a file and counted apart, and what it says by
version."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command
from quarterdeck.cli.spans import seconds

if TYPE_CHECKING:
    from quarterstore.records.outcomes import OutcomeSummary

PATIENCE = 3600.0
LOOK = 0.5
COUNTED = ("joined", "late", "unknown", "duplicate", "conflicting")
UPLOADS = ("at", "by", "metric", "rows", *COUNTED, "id")
ARMS = ("version", "metric", "mean", "n", "answered", "coverage", "late")
VALUES = ("at", "version", "row", "value", "late", "holds", "upload")


def labels_group() -> dict[str, Made]:
    return {"add": _add_labels, "show": _show(labels=True), "history": _history(labels=True), "uploads": _uploads}


def outcome_group() -> dict[str, Made]:
    return {"add": _add_outcomes, "show": _show(labels=False), "history": _history(labels=False), "uploads": _uploads}


def _add_labels() -> click.Command:
    @click.option("--endpoint", help="where the predictions were answered; needed where rows have a key")
    @click.option("--window", default="30d", help="a label that comes later than this after its prediction is late")
    @click.argument("file", type=click.Path(path_type=Path))
    @command("add", "True labels of predictions, CSV or Parquet: id or key, value, and row and time where there are.")
    def run(context: Context, file: Path, endpoint: str | None, window: str) -> None:
        from quarterstore.records.outcomes import LABEL

        _added(context, file, LABEL, endpoint, window)

    return run


def _add_outcomes() -> click.Command:
    @click.option("--metric", required=True, help="what is measured, such as revenue")
    @click.option("--endpoint", help="where the predictions were answered; needed where rows have a key")
    @click.option("--window", default="30d", help="an outcome that comes later than this after its prediction is late")
    @click.argument("file", type=click.Path(path_type=Path))
    @command("add", "What came of predictions, as numbers: id or key, value, and row and time where there are.")
    def run(context: Context, file: Path, metric: str, endpoint: str | None, window: str) -> None:
        _added(context, file, metric, endpoint, window)

    return run


def _added(context: Context, file: Path, metric: str, endpoint: str | None, window: str) -> None:
    from quarterstore.records.outcomes import AddOutcomes, ShowOutcomes

    within = seconds("window", window)
    digest, _ = context.client.put(file)
    parquet = file.suffix.lower() in (".parquet", ".pq")
    asked = AddOutcomes(
        digest=digest, format="parquet" if parquet else "csv", metric=metric, endpoint=endpoint, window=within
    )
    taken = _watched(context, asked)
    context.out(taken)
    if context.json:
        return
    for name in taken.endpoints:
        for row in _rows(context.client.ask(ShowOutcomes(endpoint=name, metric=metric))):
            words = f"{row['metric']} {row['mean']:.4g} of {row['n']:,}" if row["n"] else f"no {row['metric']} yet"
            context.say(f"{name}: {row['version']} {words}; {row['coverage']} of its predictions have one")


def _watched(context: Context, asked: Any) -> Any:
    """The answer, with how far it is drawn meanwhile where somebody looks."""
    if context.quiet or not sys.stderr.isatty():
        return context.client.ask(asked, timeout=PATIENCE)
    over = threading.Event()
    drawing = threading.Thread(target=_draw, args=(context, over), daemon=True)
    drawing.start()
    try:
        return context.client.ask(asked, timeout=PATIENCE)
    finally:
        over.set()
        drawing.join(5)


def _draw(context: Context, over: threading.Event) -> None:
    from quarterdeck.cli.printing import ProgressBar
    from quarterdeck.client import connect
    from quarterdeck.feed import follow
    from quarterstore.records.jobs import Progress

    bar = ProgressBar()
    with connect(context.home, context.caller, context.timeout) as client:
        while not over.is_set():
            for item in follow(client, None, LOOK):
                if over.is_set():
                    break
                if isinstance(item, Progress) and item.job.startswith("upload-"):
                    bar.show(item.step, item.fraction, item.words)
    bar.done()


def _show(*, labels: bool) -> Made:
    words = "How often each version was right." if labels else "What came of the answers of each version."

    def made() -> click.Command:
        @click.option("--metric", default="label", show_default=True, hidden=labels, help="what was measured")
        @click.option("--since-epoch", default=0, help="only answers from this routing epoch on")
        @click.argument("endpoint")
        @command("show", words)
        def run(context: Context, endpoint: str, metric: str, since_epoch: int) -> None:
            from quarterstore.records.outcomes import ShowOutcomes

            found = context.client.ask(ShowOutcomes(endpoint=endpoint, metric=metric, since_epoch=since_epoch))
            if context.json:
                context.out(found)
            else:
                from quarterdeck.cli.printing import table

                table(_rows(found), ARMS)

        return run

    return made


def _rows(found: OutcomeSummary) -> list[dict[str, Any]]:
    """A row a version: of labels the mean is the accuracy."""
    from quarterstore.records.outcomes import LABEL

    rows = []
    for version in sorted({*found.arms, *found.answered}):
        arm, answered = found.arms.get(version), found.answered.get(version, 0)
        n = arm.n if arm else 0
        rows.append(
            {
                "version": version,
                "metric": "accuracy" if found.metric == LABEL else found.metric,
                "mean": arm.mean if arm and n else None,
                "n": n,
                "answered": answered,
                "coverage": f"{n / answered:.0%}" if answered else "-",
                "late": arm.late if arm else 0,
            }
        )
    return rows


def _history(*, labels: bool) -> Made:
    def made() -> click.Command:
        @click.option("--metric", default="label", show_default=True, hidden=labels, help="what was measured")
        @click.argument("prediction")
        @command("history", "Every value that was given for a prediction, oldest first, and which one holds.")
        def run(context: Context, prediction: str, metric: str) -> None:
            from quarterstore.records.outcomes import ListValues

            context.out(context.client.ask(ListValues(prediction=prediction, metric=metric)), VALUES)

        return run

    return made


def _uploads() -> click.Command:
    @click.option("--limit", default=20)
    @command("uploads", "The last files of outcomes, and what their rows were.")
    def run(context: Context, limit: int) -> None:
        from quarterstore.records.outcomes import ListUploads

        context.out(context.client.ask(ListUploads(limit=limit)), UPLOADS)

    return run
