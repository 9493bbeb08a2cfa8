"""How a study is drawn: the best trials beside themselves, best so far, the front, importance, the trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from quarterdeck.tui.widgets.drawing import (
    age,
    bar,
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
from quarterdeck.tui.widgets.plot import Series, plot
from quarterstore.records.jobs import Progress
from quarterstore.records.names import drawn
from quarterstore.records.studies import Study, StudyDefinition, StudyTrial, best, pareto, sampler_of

HEIGHT = 8
"""Rows of a chart's canvas."""
BEST, NEWEST = 5, 20
"""Trials that are listed."""
WIDE = 100


def study_card(study: Study, trials: Sequence[StudyTrial], progress: Progress | None, now: float, width: int) -> Text:
    """A study in full."""
    definition = study.definition
    text = title(
        study.name, [state(study.state)], f"{study.id} · by {study.actor} · {clock(study.created, now)}", width
    )
    if progress is not None:
        done = bar(progress.fraction or 0.0, min(24, width // 5)).append(" ")
        text.append_text(fit(done.append_text(safe(progress.words)), width)).append("\n\n")
    text.append_text(facts(_about(study, trials), 12, width)).append("\n")
    if study.result is not None and study.result.best:
        untouched = study.result.best[0].untouched
        where = f"on {untouched:,} rows that no trial saw" if untouched else "with fresh seeds"
        text.append_text(section(f"scored again {where}", _rescored(study, width), width))
    text.append_text(_charts(definition, trials, width))
    if study.result is not None and study.result.importance:
        text.append_text(section("importance", _importance(study.result.importance, width), width))
    text.append_text(
        section(
            f"the best of {len(trials):,} trials",
            _listed(definition, best(definition, list(trials), BEST), width),
            width,
        )
    )
    text.append_text(section("the newest", _listed(definition, list(trials)[-NEWEST:][::-1], width), width))
    return text


def _about(study: Study, trials: Sequence[StudyTrial]) -> list[tuple[str, object]]:
    definition = study.definition
    budget, states = definition.budget, [trial.state for trial in trials]
    counted = ", ".join(f"{states.count(each)} {each.lower()}" for each in ("COMPLETE", "PRUNED", "FAILED"))
    order = f"{budget.workers} at once, order-dependent" if budget.workers > 1 else "one at a time, repeatable"
    found: list[tuple[str, object]] = [
        ("objectives", ", ".join(f"{goal} {name}" for name, goal in definition.objectives.items())),
        ("trials", f"{len(trials):,} of {budget.trials:,}: {counted}"),
        (
            "search",
            f"{sampler_of(definition)}, pruner {definition.pruner}, seed {definition.seed}, {order}",
        ),
    ]
    if study.pipeline_run:
        found.append(("registered", f"by {study.pipeline_run}"))
    if study.error:
        found.append(("error", study.error))
    return found


def _rescored(study: Study, width: int) -> Text:
    """Each objective as it was tuned and as it honestly is, with the spread over the seeds."""
    assert study.result is not None
    rows = [_heads("trial", None, "objective", "tuned", "honest", "lowest", "highest", None, "")]
    for each in study.result.best:
        for place, name in enumerate(study.definition.objectives):
            spread = [part[place] if part else None for part in (each.honest, each.low, each.high)]
            said = each.error or _params(each.params)
            rows.append(
                (
                    right(str(each.trial)),
                    safe(name, 40),
                    right(number(each.tuned[place])),
                    right(number(spread[0]), "bold"),
                    right(number(spread[1])),
                    right(number(spread[2])),
                    safe(said if place == 0 else "", 300),
                )
            )
    return _cut(grid(rows, (5, 12, 8, 8, 8, 8, max(8, width - 61))), width)


def _charts(definition: StudyDefinition, trials: Sequence[StudyTrial], width: int) -> Text:
    """Best so far; beside it, or below, the front of two objectives."""
    name = next(iter(definition.objectives))
    two = len(definition.objectives) == 2
    each_width = (width - 3) // 2 if two and width >= WIDE else width
    curve = section(f"best {name} so far", _best_so_far(definition, trials, each_width), each_width)
    if not two:
        return curve
    front = section("what no other trial beats in both", _front(definition, trials, each_width), each_width)
    return beside(curve, front, width) if width >= WIDE else curve.append_text(front)


def _best_so_far(definition: StudyDefinition, trials: Sequence[StudyTrial], width: int) -> Text:
    sign = 1 if next(iter(definition.objectives.values())) == "maximise" else -1
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    xs: list[float] = []
    line: list[float] = []
    for trial in complete:
        xs.append(float(trial.number))
        line.append(trial.values[0] if not line else sign * max(sign * trial.values[0], sign * line[-1]))
    points = _dots("each trial", xs, [trial.values[0] for trial in complete])
    return plot([points, Series("best so far", xs, line)], width, HEIGHT)


def _front(definition: StudyDefinition, trials: Sequence[StudyTrial], width: int) -> Text:
    """The first objective across, the second up; the trials of the front joined."""
    first, second = definition.objectives
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    joined = sorted(trial.values for trial in pareto(definition, complete))
    others = _dots("trials", [trial.values[0] for trial in complete], [trial.values[1] for trial in complete])
    front = Series("front", [values[0] for values in joined], [values[1] for values in joined])
    text = plot([others, front], width, HEIGHT)
    return text.append_text(fit(safe(f"across {first}, up {second}", style="grey62"), width)).append("\n")


def _dots(name: str, xs: Sequence[float], ys: Sequence[float]) -> Series:
    """Points that no line joins: a gap behind each."""
    return Series(name, [x for x in xs for _ in range(2)], [each for y in ys for each in (y, None)])


def _importance(shares: dict[str, float], width: int) -> Text:
    rows = [
        (safe(name, 60), bar(share, 24), right(f"{share:.1%}"))
        for name, share in sorted(shares.items(), key=lambda each: -each[1])
    ]
    return grid(rows, (max(8, min(24, width - 36)), 24, 7))


def _listed(definition: StudyDefinition, trials: Sequence[StudyTrial], width: int) -> Text:
    if not trials:
        return muted("none yet\n")
    names = list(definition.objectives)
    rows = [_heads("trial", None, "state", *names, "took", None, "parameters")]
    for trial in trials:
        values = [right(number(value)) for value in trial.values] or [right("-")] * len(names)
        said = f"{_params(trial.params)}  {trial.error}" if trial.error else _params(trial.params)
        rows.append((right(str(trial.number)), state(trial.state), *values, right(age(trial.seconds)), safe(said, 400)))
    fixed = (6, 11, *[10] * len(names), 8)
    return _cut(grid(rows, (*fixed, max(8, width - sum(fixed) - 2 * len(fixed)))), width)


def _cut(table: Text, width: int) -> Text:
    """Each line within the width: the last columns give way."""
    return Text("\n").join(fit(line, width) for line in table.split("\n"))


def _heads(*words: str | None) -> tuple[Text, ...]:
    """Headings at the right, as figures stand; one behind a `None` at the left, as words do."""
    found = []
    for before, word in zip(("", *words), words, strict=False):
        if word is not None:
            found.append(safe(word, style="grey62") if before is None else right(drawn(word), "grey62"))
    return tuple(found)


def _params(params: dict[str, Any]) -> str:
    return "  ".join(f"{name} {number(each) if isinstance(each, float) else each}" for name, each in params.items())
