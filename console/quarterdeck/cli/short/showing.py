"""How one run and a tree of runs are drawn for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quarterdeck.cli.context import Context

if TYPE_CHECKING:
    from quarterstore.records.runs import Artefact, Run
    from quarterstore.records.search import Branch

IMAGES = "images/"
MOST_STEPS = 12


def show_run(run: Run) -> None:
    """A run in lines: where it came from a line each, its images by name with their steps."""
    from quarterdeck.cli.printing import lines, plain

    fields = plain(run)
    source = fields.pop("source")
    patch = source.pop("patch")
    if source["commit"] and patch:
        source["commit"] += f", with changes that are not committed ({len(patch.splitlines())} lines; --json has them)"
    fields.update({name: value for name, value in source.items() if value is not None})
    images = [each for each in run.artefacts if each.step is not None and each.path.startswith(IMAGES)]
    fields["artefacts"] = [each for each in fields["artefacts"] if not any(each["path"] == one.path for one in images)]
    fields["images"] = _by_name(images)
    lines(fields)


def purged_words(run: Run) -> str | None:
    """Since when points of a run are gone, in words, if they are."""
    if run.points_purged_at is None:
        return None
    from quarterdeck.cli.printing import shown

    at = shown("at", run.points_purged_at, 60)
    return f"its points were purged at {at} by the limits of retention (qd retention); the last values are kept"


def _by_name(images: list[Artefact]) -> dict[str, str]:
    steps: dict[str, list[int]] = {}
    for each in sorted(images, key=lambda image: image.step or 0):
        steps.setdefault(each.path.removeprefix(IMAGES).rpartition("/")[0], []).append(each.step or 0)
    return {name: _listed(found) for name, found in steps.items()}


def _listed(steps: list[int]) -> str:
    more = f" and {len(steps) - MOST_STEPS} more" if len(steps) > MOST_STEPS else ""
    return f"at step {', '.join(map(str, steps[:MOST_STEPS]))}{more}"


def show_tree(context: Context, branches: list[Branch]) -> None:
    """Runs below their parents; a parent that only leads to what was asked for is marked."""
    from quarterdeck.cli.printing import table

    if context.json:
        context.out(branches)
        return
    table([_row(each) for each in branches], ("run", "experiment", "name", "state", "started", "metrics"))


def _row(branch: Branch) -> dict[str, Any]:
    run = branch.run
    return {
        "run": f"{'  ' * (branch.depth - 1)}└ {run.id}" if branch.depth else run.id,
        "experiment": run.experiment,
        "name": run.name if branch.found else f"{run.name} (leads here)",
        "state": run.state,
        "started": run.started,
        "metrics": run.metrics,
    }
