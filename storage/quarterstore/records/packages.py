"""Packages: what was installed where a run ran, each list once, known by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from quarterstore.records.base import Act, Event, Query, Record


class PackageList(Record, frozen=True):
    """The packages of one environment as `name==version`, sorted; `digest` is the SHA-256 of its lines."""

    digest: str
    packages: tuple[str, ...]


class KeepPackages(Act[PackageList], tag="packages.keep", frozen=True):
    """Keep a list of packages, `name==version` each; a run names it by its hash."""

    packages: tuple[str, ...]


class ShowPackages(Query[PackageList], tag="packages.show", frozen=True):
    """One list by its hash, or the start of it; or the list of a run by the run's id."""

    packages: str


class PackagesKept(Event, tag="packages.kept", frozen=True):
    """A list of packages is kept."""

    list: PackageList


def digest_of(packages: Iterable[str]) -> str:
    """The hash of a list, whatever the order it comes in."""
    return hashlib.sha256("\n".join(sorted(set(packages))).encode()).hexdigest()
