"""Two versions side by side: which part of the signature differs, what each difference asks of the semantic version,
and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Rules
from quarterdeckd.services.signatures import Bump, diff
from quarterstore.ledger.finding import version_of
from quarterstore.ledger.state import State
from quarterstore.records import registry
from quarterstore.records.registry import Feature, Signature, Tensor, Version
from quarterstore.records.version_diffs import MetricPair, SignatureChange, VersionDiff

ELSEWHERE = "elsewhere"
Part = Tensor | Feature
NOTHING = Signature(inputs=(), outputs=())
BESIDE = Feature(name="\0", kind="number", input="")
"""Stands on both sides where features are compared one by one: a name that no feature has."""


def _diff(state: State, query: registry.DiffVersions, asking: Asking) -> VersionDiff:
    after = version_of(state, query.after, removed=True)
    before = version_of(state, query.before, removed=True) if query.before is not None else _former(state, after)
    if before is None:
        return VersionDiff(
            before=None,
            after=after.id,
            semvers=("", after.semver),
            bump=None,
            reason=after.reason,
            metrics=tuple(MetricPair(each.name, None, each.value) for each in after.metrics),
        )
    return VersionDiff(
        before=before.id,
        after=after.id,
        semvers=(before.semver, after.semver),
        bump=diff(before.signature, after.signature).bump,
        reason=after.reason,
        changes=tuple(changes(before.signature, after.signature)),
        metrics=_metrics(before, after),
    )


def _former(state: State, version: Version) -> Version | None:
    """What the semantic version was worked out against: the one registered before, of those whose signature is
    known."""
    former = [
        each
        for each in state.versions
        if each.model == version.model and each.number < version.number and each.format != ELSEWHERE
    ]
    return max(former, key=lambda each: each.number, default=None)


def changes(before: Signature, after: Signature) -> Iterator[SignatureChange]:
    """Every difference between two signatures; what each asks is what `diff` says of it alone, so that the highest of
    them is what it says of the whole."""
    for side, olds, news in (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs)):
        for old, new in _pairs(olds, news):
            alone = [replace(NOTHING, **{f"{side}s": (each,) if each else ()}) for each in (old, new)]
            yield _change(side, old, new, diff(*alone).bump)
    beside = (BESIDE,) if before.features else ()  # where none was named before, naming them breaks nobody
    for old, new in _pairs(before.features, after.features):
        alone = [replace(NOTHING, features=(*beside, *((each,) if each else ()))) for each in (old, new)]
        yield _change("feature", old, new, diff(*alone).bump)
    for part in ("task", "classes", "label", "score"):
        found = [getattr(signature, part) for signature in (before, after)]
        if found[0] != found[1]:
            bump = diff(*(replace(NOTHING, **{part: value}) for value in found)).bump
            texts = [", ".join(value) if isinstance(value, tuple) else value or "" for value in found]
            yield _told(part, part, texts[0], texts[1], bump)


def _pairs(olds: Iterable[Part], news: Iterable[Part]) -> Iterator[tuple[Part | None, Part | None]]:
    """Parts of one name that differ, those of before first, in their order."""
    before, after = {each.name: each for each in olds}, {each.name: each for each in news}
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if (old and _shape(old)) != (new and _shape(new)):
            yield old, new


def _change(part: str, old: Part | None, new: Part | None, bump: Bump) -> SignatureChange:
    here = new or old
    assert here is not None
    told = _told(part, here.name, (old and _shape(old)) or "", (new and _shape(new)) or "", bump)
    return replace(told, optional=getattr(here, "optional", False))


def _told(part: str, name: str, old: str, new: str, bump: Bump) -> SignatureChange:
    return SignatureChange(
        part=part,  # type: ignore[arg-type]
        name=name,
        change="added" if not old else "removed" if not new else "changed",
        before=old,
        after=new,
        bump=bump,
    )


def _shape(part: Part) -> str:
    """What a caller has to know of a part, in words."""
    optional = " optional" if getattr(part, "optional", False) else ""
    if isinstance(part, Feature):
        return f"{part.kind} at {part.input}[{part.index}]{optional}"
    return f"{part.datatype}{list(part.shape)}{optional}"


def _metrics(before: Version, after: Version) -> tuple[MetricPair, ...]:
    olds, news = ({each.name: each.value for each in version.metrics} for version in (before, after))
    return tuple(MetricPair(name, olds.get(name), news.get(name)) for name in dict.fromkeys([*olds, *news]))


RULES: Rules = {}
ANSWERS: Answerers = {registry.DiffVersions: _diff}
