"""Two versions side by side: which part of the signature differs, what each difference asks of the semantic version,
and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quarterdeckd.services.deciding import Answerers, Asking, Rules
from quarterdeckd.services.signatures import Bump, diff
from quarterstore.ledger.finding import version_of
from quarterstore.ledger.state import State
from quarterstore.records import registry
from quarterstore.records.registry import Feature, MetricPair, Signature, SignatureChange, Tensor, Version

ELSEWHERE = "elsewhere"


def _diff(state: State, query: registry.DiffVersions, asking: Asking) -> registry.VersionDiff:
    after = version_of(state, query.after, removed=True)
    before = version_of(state, query.before, removed=True) if query.before is not None else _former(state, after)
    if before is None:
        return registry.VersionDiff(
            before=None,
            after=after.id,
            semvers=("", after.semver),
            bump=None,
            reason=after.reason,
            metrics=tuple(MetricPair(each.name, None, each.value) for each in after.metrics),
        )
    return registry.VersionDiff(
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
    """Every difference between two signatures; the highest bump of them is the bump of the whole."""
    yield from _tensors("input", before.inputs, after.inputs)
    yield from _tensors("output", before.outputs, after.outputs)
    yield from _features(before.features, after.features)
    if before.classes != after.classes:
        known = bool(before.classes)
        yield SignatureChange(
            part="classes",
            name="classes",
            change="changed" if known and after.classes else "removed" if known else "added",
            before=", ".join(before.classes),
            after=", ".join(after.classes),
            bump="major" if known else "patch",
        )


def _tensors(side: str, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> Iterator[SignatureChange]:
    olds, news = {each.name: _shape(each) for each in before}, {each.name: _shape(each) for each in after}
    added: Bump = "major" if side == "input" else "minor"
    for name, old, new in _pairs(olds, news):
        bump: Bump = added if old is None else "major"
        yield _change(side, name, old, new, bump)


def _features(before: tuple[Feature, ...], after: tuple[Feature, ...]) -> Iterator[SignatureChange]:
    """Which columns of a tensor are called what; where none were named before, naming them breaks nobody."""
    kinds: list[dict[str, str]] = [{each.name: each.kind for each in side} for side in (before, after)]
    optional = {each.name for each in (*before, *after) if each.optional}
    for name, old, new in _pairs(*kinds):
        bump: Bump = "major"
        if old is None:
            bump = "patch" if not before else "minor" if name in optional else "major"
        yield _change("feature", name, old, new, bump, optional=name in optional)


def _pairs(olds: dict[str, str], news: dict[str, str]) -> Iterator[tuple[str, str | None, str | None]]:
    """Names that differ, those of before first, in their order."""
    names: Iterable[str] = dict.fromkeys([*olds, *news])
    return ((name, olds.get(name), news.get(name)) for name in names if olds.get(name) != news.get(name))


def _change(
    part: str, name: str, old: str | None, new: str | None, bump: Bump, *, optional: bool = False
) -> SignatureChange:
    return SignatureChange(
        part=part,  # type: ignore[arg-type]
        name=name,
        change="added" if old is None else "removed" if new is None else "changed",
        before=old or "",
        after=new or "",
        bump=bump,
        optional=optional,
    )


def _shape(tensor: Tensor) -> str:
    return f"{tensor.datatype}{list(tensor.shape)}"


def _metrics(before: Version, after: Version) -> tuple[MetricPair, ...]:
    olds, news = ({each.name: each.value for each in version.metrics} for version in (before, after))
    return tuple(MetricPair(name, olds.get(name), news.get(name)) for name in dict.fromkeys([*olds, *news]))


RULES: Rules = {}
ANSWERS: Answerers = {registry.DiffVersions: _diff}
