"""What changed between two signatures, and which semantic version follows (semver.org 2.0.0)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from quarterstore.records.registry import Signature

Bump = Literal["patch", "minor", "major"]
ORDER: tuple[Bump, ...] = ("patch", "minor", "major")


class SignatureDiff(NamedTuple):
    """The bump a change of signature demands, and the changes in words."""

    bump: Bump
    words: tuple[str, ...]


def diff(before: Signature, after: Signature) -> SignatureDiff:
    """Removed, retyped or newly required inputs, and changed outputs, break a caller (major); added optional features
    or outputs do not (minor); the same schema is a retrained model (patch)."""
    breaking: list[str] = []
    adding: list[str] = []
    for side, old, new in (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs)):
        olds, news = {tensor.name: tensor for tensor in old}, {tensor.name: tensor for tensor in new}
        for name, tensor in olds.items():
            if name not in news:
                breaking.append(f"{side} {name} removed")
            elif (tensor.datatype, tensor.shape) != (news[name].datatype, news[name].shape):
                breaking.append(f"{side} {name} {_shown(tensor)} -> {_shown(news[name])}")
        for name in news.keys() - olds.keys():
            (adding if side == "output" else breaking).append(f"{side} {name} added")
    features = {feature.name: feature for feature in before.features}
    for feature in after.features:
        if features and feature.name not in features and feature.optional:
            adding.append(f"optional feature {feature.name} added")
        elif features and feature.name not in features:
            breaking.append(f"feature {feature.name} added")
        elif features and feature.kind != features[feature.name].kind:
            breaking.append(f"feature {feature.name} {features[feature.name].kind} -> {feature.kind}")
    for name in features.keys() - {feature.name for feature in after.features}:
        breaking.append(f"feature {name} removed")
    if before.classes and before.classes != after.classes:
        breaking.append(f"classes {', '.join(before.classes)} -> {', '.join(after.classes)}")
    if breaking:
        return SignatureDiff("major", tuple(sorted(breaking)))
    return SignatureDiff("minor", tuple(sorted(adding))) if adding else SignatureDiff("patch", ())


def next_semver(current: str, bump: Bump) -> str:
    """`1.4.2` with minor -> `1.5.0`."""
    major, minor, patch = (int(part) for part in current.split("."))
    if bump == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if bump == "minor" else f"{major}.{minor}.{patch + 1}"


def _shown(tensor: object) -> str:
    return f"{getattr(tensor, 'datatype', '')}{list(getattr(tensor, 'shape', ()))}"
