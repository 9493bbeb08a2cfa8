"""A run as cards: what came out, what it left, where it came from, its family, its log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import (
    age,
    beside,
    clock,
    facts,
    fit,
    grid,
    muted,
    number,
    right,
    safe,
    section,
    state,
    title,
)
from quarterdeck.tui.widgets.run_curves import PLAIN, Look, run_curves
from quarterdeck.units import size
from quarterstore.records.runs import Curve, Run

POINTS = 400
"""Points of a curve that are asked for; a chart of 150 columns has 300 dots across."""
PATCH_LINES = 200


def head(run: Run, now: float, width: int) -> Text:
    """What a run is called, how it stands, how long it took."""
    words = f"{run.experiment} · {run.id} · by {run.actor} · took {age((run.ended or now) - run.started)}"
    return title(run.name or run.id, [state(run.state)], words, width)


def run_card(run: Run, curves: Sequence[Curve], now: float, width: int, height: int, look: Look = PLAIN) -> Text:
    """Curves, figures, notes, and in a line each what the other panes have in full."""
    text = head(run, now, width)
    text.append_text(run_curves(curves, width, max(5, min(12, height // 3)), look))
    if run.error:
        lines = Text("\n").join(safe(line) for line in run.error[-1500:].splitlines())
        text.append_text(section("error", lines, width))
    half = (width - 3) // 2
    figures = facts([(key, number(value, 6)) for key, value in sorted(run.metrics.items())] or [("none", "")], 16)
    given = facts([(key, value) for key, value in sorted(run.params.items())] or [("none", "")], 16)
    text.append_text(beside(section("metrics", figures, half), section("params", given, half), width))
    if run.notes:
        text.append_text(section("notes", lines_of(run.notes), width))
    origin: list[tuple[str, object]] = [("commit", run.source.commit or "-"), ("job", run.job or "-")]
    origin += [("parent", run.parent)] if run.parent else []
    origin += [("points purged", clock(run.points_purged_at, now))] if run.points_purged_at is not None else []
    origin += [("dataset", each) for each in run.datasets]
    origin += [("dataset", f"{each.name}  {each.digest}") for each in run.inputs]
    origin += [(f"tag {key}", value) for key, value in sorted(run.tags.items())]
    origin += [("artefact", f"{each.path}  {size(each.size)}") for each in run.artefacts]
    text.append_text(section("where it comes from, what it left", facts(origin, room=width), width))
    return text


def lines_of(words: str, most: int = 1000) -> Text:
    """A text of several lines from outside, each cleaned."""
    return Text("\n").join(safe(line.expandtabs(4)) for line in words.splitlines()[:most])


def artefacts_card(run: Run, now: float, width: int) -> Text:
    """Every file by its path, with size and hash."""
    text = head(run, now, width)
    if not run.artefacts:
        text.append_text(muted('this run has no artefact\n\nrun.log_artefact("model.onnx")\n'))
        return text
    digest = 64 if width >= 110 else 16
    widths = (max(10, width - digest - 14), 9, digest)
    rows: list[tuple[Text, ...]] = [(muted("path"), right("size", "grey62"), muted("sha256"))]
    for each in sorted(run.artefacts, key=lambda found: found.path):
        rows.append((safe(each.path), right(size(each.size)), safe(each.digest[:digest])))
    whole = sum(each.size for each in run.artefacts)
    words = f"{len(run.artefacts):,} artefacts, {size(whole)}"
    text.append_text(section(words, grid(rows, widths), width))
    return text


def environment_card(run: Run, now: float, width: int) -> Text:
    """The command and the code it ran, packages, host and seed; the data it used."""
    source, text = run.source, head(run, now, width)
    patch = source.patch.splitlines() if source.patch else []
    rows: list[tuple[str, object]] = [
        ("command", source.command or "-"),
        ("commit", source.commit or "-"),
        ("patch", f"yes, {len(patch):,} lines: the tree was not clean" if patch else "no"),
        ("python", source.python or "-"),
        ("packages", f"sha256 {source.packages[:48]}" if source.packages else "-"),
        ("host", source.host or "-"),
        ("seed", "-" if source.seed is None else source.seed),
        ("job", run.job or "-"),
        ("started", clock(run.started, now)),
        ("ended", clock(run.ended, now)),
    ]
    text.append_text(section("environment", facts(rows), width))
    used: list[tuple[str, object]] = [("kept here", each) for each in run.datasets]
    for given in run.inputs:
        where = f"  {given.source_type} {given.source}" if given.source else ""
        used.append((given.name, f"{given.digest}{where}"))
    text.append_text(section("datasets", facts(used, 16) if used else muted("none was named\n"), width))
    models: list[tuple[str, object]] = [("used", each) for each in run.models]
    models += [("made", f"{each.model}, step {each.step}") for each in run.outputs]
    if models:
        text.append_text(section("logged models", facts(models), width))
    if patch:
        shown = "\n".join(patch[:PATCH_LINES])
        text.append_text(section("patch", lines_of(shown), width))
        if len(patch) > PATCH_LINES:
            text.append_text(muted(f"and {len(patch) - PATCH_LINES:,} lines more: qd run show has them\n"))
    return text


def family_card(
    run: Run, above: Sequence[Run], below: Mapping[str, Sequence[Run]], more: Iterable[str], now: float, width: int
) -> Text:
    """The tree from the first of the line down to the children of the children. `above` begins with the first; `below`
    has the children of each run that was looked into; those of `more` have others that were not asked for."""
    text, rows, untold = head(run, now, width), [], frozenset(more)

    def add(each: Run, lead: str, branch: str) -> None:
        metric = next(iter(sorted(each.metrics.items())), None)
        here = each.id == run.id
        name = Text.assemble(
            safe(lead + branch, style="grey62"), safe(each.name or each.id, 60, "bold" if here else "")
        )
        words = f"{metric[0]} {number(metric[1])}" if metric else "-"
        mark = Text("◀ here" if here else "", style="bold")
        rows.append((name, state(each.state), safe(each.id[-8:]), safe(words, 40), mark))

    def walk(each: Run, lead: str, branch: str) -> None:
        add(each, lead, branch)
        lead += "" if not branch else "   " if branch.startswith("└") else "│  "
        children = below.get(each.id, ())
        for place, child in enumerate(children):
            walk(child, lead, "└─ " if place == len(children) - 1 and each.id not in untold else "├─ ")
        if each.id in untold:
            rows.append((safe(f"{lead}└─ … and others", style="grey62"), Text(), Text(), Text(), Text()))

    for place, each in enumerate(above):
        add(each, "   " * max(0, place - 1), "└─ " if place else "")
    walk(run, "   " * max(0, len(above) - 1), "└─ " if above else "")
    widths = (max(16, width - 58), 10, 8, 24, 6)
    alone = not above and not below.get(run.id)
    text.append_text(section("family", grid(rows, widths), width))
    if alone:
        text.append_text(muted("it has no parent and no children; deck.run(…, parent=…) makes one\n"))
    return text


def log_card(run: Run, lines: Sequence[str], now: float, width: int) -> Text:
    """The last lines of the job that the run belongs to."""
    text = head(run, now, width)
    if run.job is None:
        text.append_text(muted("this run belongs to no job: what it prints is where it was started\n"))
        return text
    tail = Text("\n").join(fit(safe(line, 400), width) for line in lines) if lines else muted("it said nothing\n")
    text.append_text(section(f"log of {run.job}, its last {len(lines):,} lines", tail, width))
    return text
