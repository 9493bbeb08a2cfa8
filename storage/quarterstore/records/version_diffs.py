"""How two versions differ: their signatures, what that asks of the semantic version, their metrics."""

from __future__ import annotations

from typing import Literal

from quarterstore.records.base import Record


class SignatureChange(Record, frozen=True):
    """One part of a signature that differs; `bump` is what it alone asks of the semantic version."""

    part: Literal["input", "output", "feature", "classes", "task", "label", "score"]
    name: str
    change: Literal["added", "removed", "changed"]
    before: str
    after: str
    bump: Literal["patch", "minor", "major"]
    optional: bool = False


class MetricPair(Record, frozen=True):
    """A metric of two versions; None where one was not given it."""

    name: str
    before: float | None
    after: float | None


class VersionDiff(Record, frozen=True):
    """Two versions side by side: what differs in their signatures, what that asks of the semantic version, and their
    metrics; `before` is None for a version that nothing was registered before."""

    before: str | None
    after: str
    semvers: tuple[str, str]
    bump: Literal["patch", "minor", "major"] | None
    reason: str
    """Why the semantic version of `after` is what it is, as it was decided when it was registered."""
    changes: tuple[SignatureChange, ...] = ()
    metrics: tuple[MetricPair, ...] = ()
