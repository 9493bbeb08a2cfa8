"""How models and versions are drawn: what they are, what changed, when they were Production, on what evidence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import (
    ago,
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
from quarterdeck.units import size
from quarterdeck.wording import command_text
from quarterstore.records.governance import Approval, GateOutcome
from quarterstore.records.registry import Model, MoveStage, Signature, Stage, StageMove, Tenure, Version
from quarterstore.records.version_diffs import VersionDiff

CHANGES = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
LISTED = 30
"""Versions in the card of a model."""


def checks(outcome: GateOutcome | None) -> Text:
    """What a gate said, rule by rule."""
    text = Text()
    for check in outcome.checks if outcome else ():
        text.append_text(state("PASS" if check.ok else "FAIL"))
        text.append("  ")
        text.append_text(safe(f"{check.rule.metric}: {check.why}", 400))
        text.append("\n")
    return text if text.plain else muted("no gate is set for this model\n")


def proposal(version: Version, after: Stage, outcome: GateOutcome) -> Text:
    """What a promotion will do, and what the gate says of it."""
    text = Text.assemble(state(version.stage), "  →  ", state(after), "\n\n")
    text.append_text(checks(outcome))
    text.append("\n")
    text.append_text(safe("$ " + command_text(MoveStage(version=version.id, stage=after)), 300, "grey62"))
    return text


def aliases_of(model: Model | None, version: Version) -> list[str]:
    """The words that name a version."""
    return [alias for alias, at in sorted(model.aliases.items()) if at == version.number] if model else []


def environments_of(model: Model | None, version: Version) -> list[str]:
    """The environments in whose Production a version is."""
    return [name for name, at in sorted(model.production.items()) if at == version.number] if model else []


def tags_of(tags: dict[str, str]) -> str:
    """Tags on a line."""
    return "  ".join(f"{name}={value}" if value else name for name, value in sorted(tags.items())) or "-"


def model_card(model: Model, versions: Sequence[Version], now: float, width: int) -> Text:
    """A model with its versions, the newest first."""
    words = f"{len(versions)} versions · made {ago(model.created, now)}"
    states = [] if model.removed is None else [state("removed") + Text(f" {ago(model.removed, now)}")]
    text = title(model.name, states, words, width)
    if model.description:
        text.append_text(prose(model.description))
        text.append("\n")
    live = "  ".join(f"{place} @{at}" for place, at in sorted(model.production.items())) or "nothing"
    named = "  ".join(f"{alias} @{at}" for alias, at in sorted(model.aliases.items())) or "-"
    text.append_text(facts((("Production", live), ("aliases", named), ("tags", tags_of(model.tags))), room=width))
    text.append("\n")
    numbers = max((len(f"@{each.number}") for each in versions[:LISTED]), default=2)
    semver = max((6, *(min(12, len(each.semver)) for each in versions[:LISTED])))
    widths = (numbers, semver, 12, max(10, min(40, width - numbers - semver - 30)), 10)
    heads = ("no", "semver", "stage", "metric")
    head = (*(safe(word, style="grey62") for word in heads), right("created", "grey62"))
    rows: list[tuple[Text, ...]] = [
        (
            safe(f"@{each.number}"),
            safe(each.semver),
            state(each.stage),
            safe(first_metric(each), 60),
            right(ago(each.created, now)),
        )
        for each in versions[:LISTED]
    ]
    body = grid([head, *rows], widths) if rows else muted(f"none yet: qd register FILE.onnx --name {model.name}\n")
    if len(versions) > LISTED:
        body.append_text(muted(f"and {len(versions) - LISTED} more; enter lists them\n"))
    text.append_text(section("versions", body, width))
    return text


def first_metric(version: Version) -> str:
    """The metric that stands for the others, and how many others there are."""
    if not version.metrics:
        return "-"
    more = f"  +{len(version.metrics) - 1}" if len(version.metrics) > 1 else ""
    return f"{version.metrics[0].name} {number(version.metrics[0].value, 3)}{more}"


def headed(version: Version, now: float, width: int) -> Text:
    """What every pane of a version begins with."""
    words = f"{version.semver} · {version.environment} · by {version.created_by} · {clock(version.created, now)}"
    states = [state(version.stage)]
    if version.removed is not None:
        states.append(state("removed") + Text(f" {ago(version.removed, now)}"))
    return title(version.id, states, words, width)


def overview_card(version: Version, model: Model | None, now: float, width: int) -> Text:
    """A version: why it is called so, how good it is, what it is made of."""
    text = headed(version, now, width)
    text.append_text(
        facts((("aliases", ", ".join(aliases_of(model, version)) or "-"), ("tags", tags_of(version.tags))), room=width)
    )
    text.append("\n")
    if version.rejected:
        text.append_text(section("REJECTED", prose(version.rejected.replace("; ", "\n")), width))
    text.append_text(why(version.semver, version.reason, width))
    text.append_text(section("metrics", metrics_table(version, width), width))
    if version.notes:
        text.append_text(section("notes", prose(version.notes), width))
    shape = version.signature
    fields = [(f"in  {each.name}", f"{each.datatype} {list(each.shape)}") for each in shape.inputs]
    fields += [(f"out {each.name}", f"{each.datatype} {list(each.shape)}") for each in shape.outputs]
    text.append_text(section("signature", facts(fields, 20) if fields else muted("not known here\n"), width))
    made: list[tuple[str, object]] = [("format", f"{version.format}, {size(version.size)}")]
    made += [("sha256", version.digest)] if version.digest else [("source", version.source)]
    if version.allow_code:
        made.append(("runs code", ", ".join(version.code) or "a pickle that names nothing"))
    made += [("run", version.run or "-"), ("dataset", version.dataset or "-"), ("parent", version.parent or "-")]
    text.append_text(section("what it is made of", facts(made, room=width), width))
    return text


def why(semver: str, reason: str, width: int) -> Text:
    """What the semantic version followed from, one change a line."""
    return section(f"why {semver}", prose(reason.replace("; ", "\n")), width)


def metrics_table(version: Version, width: int) -> Text:
    """Every metric with its interval and the rows behind it."""
    if not version.metrics:
        return muted("none were given\n")
    head = (muted("metric"), right("value", "grey62"), muted("95 % interval"), right("rows", "grey62"))
    rows: list[tuple[Text, ...]] = [
        (
            safe(metric.name, 40),
            right(number(metric.value)),
            safe(f"{number(metric.low, 3)} to {number(metric.high, 3)}" if metric.low is not None else "-"),
            right(f"{metric.n:,}" if metric.n else "-"),
        )
        for metric in version.metrics
    ]
    return grid([head, *rows], (min(24, max(12, width - 44)), 9, 18, 7))


def prose(words: str) -> Text:
    """Lines that people wrote, each cleaned."""
    return Text("\n").join(safe(line) for line in words.split("\n")).append("\n")


def signature_card(version: Version, now: float, width: int) -> Text:
    """What goes in and what comes out, tensor by tensor and column by column."""
    text = headed(version, now, width)
    shape: Signature = version.signature
    for words, tensors in (("inputs", shape.inputs), ("outputs", shape.outputs)):
        rows = [(safe(each.name, 60), safe(each.datatype), safe(list(each.shape))) for each in tensors]
        body = grid(rows, (min(40, max(12, width - 32)), 8, 18)) if rows else muted("not known here\n")
        text.append_text(section(words, body, width))
    columns = [
        (
            safe(each.name, 60),
            safe(each.kind),
            safe(f"{each.input}[{each.index}]", 30),
            safe("optional" if each.optional else "required", style="grey62" if each.optional else ""),
        )
        for each in shape.features
    ]
    body = grid(columns, (min(40, max(12, width - 48)), 9, 18, 9)) if columns else muted("no column was named\n")
    text.append_text(section(f"features: {len(columns)}", body, width))
    told = (
        ("task", shape.task),
        ("label", shape.label or "-"),
        ("score", shape.score or "-"),
        ("classes", ", ".join(shape.classes) or "-"),
    )
    text.append_text(section("what it answers", facts(told), width))
    return text


def changes_card(version: Version, found: VersionDiff, now: float, width: int) -> Text:
    """Against another version: each part that differs and what it alone asks, then the metrics."""
    text = headed(version, now, width)
    text.append_text(why(version.semver, found.reason, width))
    if found.before is None:
        text.append_text(muted("nothing was registered before it\n\n"))
    else:
        words = f"signature against {found.before}, {found.semvers[0]}: {found.bump}"
        text.append_text(section(words, _changes(found, width), width))
    rows = [
        (
            safe(pair.name, 40),
            right(number(pair.before)),
            right(number(pair.after)),
            right(f"{pair.after - pair.before:+.4g}" if None not in (pair.before, pair.after) else "-"),  # type: ignore[operator]
        )
        for pair in found.metrics
    ]
    head = (muted("metric"), *[right(word, "grey62") for word in ("before", "after", "difference")])
    widths = (min(30, max(12, width - 38)), 10, 10, 10)
    text.append_text(section("metrics", grid([head, *rows], widths) if rows else muted("none were given\n"), width))
    return text


def _changes(found: VersionDiff, width: int) -> Text:
    """`+` added, `-` removed, `~` changed; the word stands beside each."""
    if not found.changes:
        return muted("the same inputs, outputs and features: nothing changes for who asks it\n")
    rows: list[tuple[Text, ...]] = []
    for each in found.changes:
        sign, colour = CHANGES[each.change]
        shape = f"{each.before} → {each.after}" if each.change == "changed" else each.before or each.after
        rows.append(
            (
                Text(f"{sign} {each.change}", style=colour),
                safe(each.part),
                safe(each.name, 60),
                safe(shape, 200),
                safe(each.bump, style="bold" if each.bump == "major" else ""),
            )
        )
    room = max(20, width - 9 - 8 - 6 - 8)
    return grid(rows, (9, 8, room * 2 // 5, room - room * 2 // 5, 6))


def history_card(
    version: Version, tenures: Sequence[Tenure], moves: Sequence[StageMove], now: float, width: int
) -> Text:
    """When which version of the model was Production; then where this one was moved."""
    text = headed(version, now, width)
    spans = Text().join(_tenure(each, version, now, width) for each in reversed(tenures))
    if not tenures:
        spans = muted("no version was ever in Production\n")
    text.append_text(section(f"Production of {version.model}", spans, width))
    moved = Text().join(_move(each, now, width) for each in reversed(moves))
    if not moves:
        moved = muted("it is where it was registered\n")
    text.append_text(section(f"stages of {version.id}", moved, width))
    return text


def _tenure(each: Tenure, version: Version, now: float, width: int) -> Text:
    """Which version and when; below it who, and the deployment that carried it."""
    live = each.until is None
    sign = safe("●" if live else "○", style="green" if live else "grey62")
    name = safe(each.version, 60, "bold" if each.version == version.id else "")
    span = f"{clock(each.since, now)} until {'now' if each.until is None else clock(each.until, now)}"
    place = "" if each.environment == "default" else f", {each.environment}"
    first = grid([(sign, name, safe(f"{span}{place}", 60))], (1, min(24, max(10, width - 44)), 40))
    words = f"   {_people(each.asked_by, each.approved_by)} · {each.deployment or 'no deployment'} · entry {each.entry}"
    return first.append_text(fit(safe(words, style="grey62"), width)).append("\n")


def _move(each: StageMove, now: float, width: int) -> Text:
    """From where to where and why; below it who."""
    skipped = " (a stage was skipped)" if each.skipped else ""
    row = (
        safe(clock(each.at, now)),
        state(each.before),
        safe("→"),
        state(each.after),
        safe(f"{each.reason}{skipped}", 200),
    )
    first = grid([row], (12, 12, 1, 12, max(10, width - 45)))
    words = f"   {_people(each.asked_by, each.approved_by)} · entry {each.entry}"
    return first.append_text(fit(safe(words, style="grey62"), width)).append("\n")


def _people(asked_by: str, approved_by: str | None) -> str:
    return f"asked by {asked_by}, {f'approved by {approved_by}' if approved_by else 'nobody had to approve'}"


def evidence_card(
    version: Version, outcome: GateOutcome, approvals: Sequence[Approval], now: float, width: int
) -> Text:
    """What the gate says now, and what people said when."""
    text = headed(version, now, width)
    text.append_text(section("gate, as it stands now", checks(outcome), width))
    body = Text()
    for each in approvals:
        body.append_text(Text.assemble(state(each.state), "  ", safe(each.words, 200, "bold"), "\n"))
        body.append_text(beside(_asked(each, now), _decided(each, now), width))
        body.append_text(facts((("bound to", each.evidence),)))
        body.append("\n")
    text.append_text(section("approvals", body if approvals else muted("nobody was asked\n"), width))
    return text


def _asked(each: Approval, now: float) -> Text:
    return facts((("asked by", f"{each.asked_by}, {clock(each.asked, now)}"), ("reason", each.reason or "-")))


def _decided(each: Approval, now: float) -> Text:
    who = f"{each.decided_by or '-'}, {clock(each.decided, now)}" if each.decided else "nobody yet"
    note = f"{each.note}{' (of their own request)' if each.self_approved else ''}"
    return facts((("decided by", who), ("note", note or "-")))
