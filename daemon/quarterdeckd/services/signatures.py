"""What changed between two signatures, and which semantic version follows (semver.org 2.0.0)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from quarterstore.records.registry import Feature, Signature, Tensor

Bump = Literal["patch", "minor", "major"]
ORDER: tuple[Bump, ...] = ("patch", "minor", "major")


class SignatureDiff(NamedTuple):
    """The bump a change of signature demands, and the changes in words."""

    bump: Bump
    words: tuple[str, ...]


class _Changes:
    """Two lists: what breaks a caller, and what only adds."""

    def __init__(self) -> None:
        self.breaking: list[str] = []
        self.adding: list[str] = []

    def note(self, words: str, *, breaks: bool) -> None:
        (self.breaking if breaks else self.adding).append(words)


def diff(before: Signature, after: Signature) -> SignatureDiff:
    """What breaks a caller that is right by `before` is major: an input or feature removed, of another type or place,
    or newly required; an output removed or of another type; other classes. What such a caller does not notice is minor:
    an optional input or feature more, an output more. The same schema is a retrained model (patch). Which categories a
    feature had and whether any value was missing is what the rows held, not what a caller has to send."""
    changes = _Changes()
    _tensors(changes, "input", before.inputs, after.inputs)
    _tensors(changes, "output", before.outputs, after.outputs)
    if before.features:
        _features(changes, before.features, after.features)
    _answers(changes, before, after)
    if changes.breaking:
        return SignatureDiff("major", tuple(sorted(changes.breaking)))
    return SignatureDiff("minor", tuple(sorted(changes.adding))) if changes.adding else SignatureDiff("patch", ())


def _tensors(changes: _Changes, side: str, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> None:
    olds, news = {tensor.name: tensor for tensor in before}, {tensor.name: tensor for tensor in after}
    for name, old in olds.items():
        new = news.get(name)
        if new is None:
            changes.note(f"{side} {name} removed", breaks=True)
        elif (old.datatype, old.shape) != (new.datatype, new.shape):
            changes.note(f"{side} {name} {_shown(old)} -> {_shown(new)}", breaks=True)
        elif old.optional != new.optional:
            # an input that may be left out from now on breaks nobody, an output that may be missing does
            words = f"{side} {name} {'required -> optional' if new.optional else 'optional -> required'}"
            changes.note(words, breaks=new.optional == (side == "output"))
    for name, new in news.items():
        if name not in olds:
            needed = side == "input" and not new.optional
            changes.note(f"{'optional ' if new.optional else ''}{side} {name} added", breaks=needed)


def _features(changes: _Changes, before: tuple[Feature, ...], after: tuple[Feature, ...]) -> None:
    olds, news = {feature.name: feature for feature in before}, {feature.name: feature for feature in after}
    for name, old in olds.items():
        new = news.get(name)
        if new is None:
            changes.note(f"feature {name} removed", breaks=True)
        elif old.kind != new.kind:
            changes.note(f"feature {name} {old.kind} -> {new.kind}", breaks=True)
        elif (old.input, old.index) != (new.input, new.index):
            changes.note(f"feature {name} {old.input}[{old.index}] -> {new.input}[{new.index}]", breaks=True)
    for name, new in news.items():
        if name not in olds:
            words = f"{'optional ' if new.optional else ''}feature {name} added"
            changes.note(words, breaks=not new.optional)


def _answers(changes: _Changes, before: Signature, after: Signature) -> None:
    """What the outputs mean."""
    if before.classes and before.classes != after.classes:
        words = f"classes {', '.join(before.classes)} -> {', '.join(after.classes) or 'none'}"
        changes.note(words, breaks=True)
    if before.task != after.task:
        changes.note(f"task {before.task} -> {after.task}", breaks=True)
    for role in ("label", "score"):
        old, new = getattr(before, role), getattr(after, role)
        if old is not None and old != new:
            changes.note(f"{role} {old} -> {new or 'none'}", breaks=True)


def next_semver(current: str, bump: Bump) -> str:
    """`1.4.2` with minor -> `1.5.0`."""
    major, minor, patch = (int(part) for part in current.split("."))
    if bump == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if bump == "minor" else f"{major}.{minor}.{patch + 1}"


def _shown(tensor: Tensor) -> str:
    return f"{tensor.datatype}{list(tensor.shape)}"
