"""Training sets made again and entities forgotten, followed to their end."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from quarterdeck.cli.context import Context
from quarterdeck.cli.waiting import to_the_end
from quarterstore.records.base import Record
from quarterstore.records.faults import Conflict, got, missing
from quarterstore.records.feature_checks import CheckParity, MeasureView, Mismatch, ParityResult, StatsResult
from quarterstore.records.feature_files import ForgetEntity, Forgetting, ListForgettings
from quarterstore.records.features import ListViews, RebuildSet, ShowTrainingSet
from quarterstore.records.jobs import ShowJob
from quarterstore.records.tables import seconds


class Rebuilt(Record, frozen=True):
    """A training set and what came when it was made again."""

    set: str
    digest: str
    again: str
    same: bool


def rebuilt(context: Context, name: str) -> Rebuilt:
    """Make a set again; `Conflict` says that another file came (rows of it were forgotten since, or worse)."""
    before = context.client.ask(ShowTrainingSet(set=name))
    job = to_the_end(context, context.client.ask(RebuildSet(set=name)))
    result: dict[str, Any] = job.result
    found = Rebuilt(before.id, before.digest, result["output"], result["output"] == before.digest)
    if not found.same:
        raise Conflict(
            f"got {found.again[:16]}, expected {found.digest[:16]}: rows of {found.set} are not what they were",
            field="set",
            next="qd features forgettings",
        )
    return found


def measured(
    context: Context, view: str, against: str | None, since: str | None, until: str | None = None
) -> StatsResult:
    """Look at a view; answers what was found."""
    first, last = (None if text is None else moment(name, text) for name, text in (("since", since), ("until", until)))
    asked = MeasureView(view=view, against=against, since=first, until=last)
    job = to_the_end(context, context.client.ask(asked))
    return msgspec.convert(job.result, StatsResult)


def compared(context: Context, view: str, sample: int) -> ParityResult:
    """Compare a sample of a view; answers what was found."""
    job = to_the_end(context, context.client.ask(CheckParity(view=view, sample=sample)))
    return msgspec.convert(job.result, ParityResult)


def differing(found: Mismatch) -> list[dict[str, Any]]:
    """A row for each feature that differs, or one for status and age where no value does."""
    pairs = zip(found.features, found.offline, found.online, strict=True)
    values = [(name, kept, read) for name, kept, read in pairs if kept != read]
    rows: list[tuple[str, Any, Any]] = values or [("status, age", *_found(found))]
    entity = ", ".join(found.keys)
    return [{"entity": entity, "feature": name, "offline": kept, "online": read} for name, kept, read in rows]


def _found(found: Mismatch) -> tuple[str, str]:
    offline, online = (f"{status} {age}" for status, age in zip(found.statuses, found.ages, strict=True))
    return offline, online


def moment(field: str, text: str) -> float:
    """Seconds since 1970 of a time that a person wrote."""
    try:
        return seconds(text)
    except ValueError:
        raise got(field, text, "a time such as 2026-03-01T12:00Z") from None


def keys_of(context: Context, words: Sequence[str]) -> dict[str, str]:
    """`customer=123` as names and values; `Invalid` before anything is asked where a value is none of its kind."""
    kinds = {key.name: key.kind for view in context.client.ask(ListViews()) for key in view.keys}
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value or name in found:
            raise got("entity", word, "KEY=VALUE, each key once, such as customer=123")
        if name not in kinds:
            raise missing("entity", name, kinds)
        if kinds[name] == "integer" and not value.removeprefix("-").isdecimal():
            raise got(f"entity.{name}", value, "an integer")
        found[name] = value
    return found


def forgotten(context: Context, keys: dict[str, str], reason: str) -> Forgetting:
    """Ask with a file that says whom: the act names its hash only, and the file goes when it is done."""
    entity = msgspec.json.encode({"keys": keys, "salt": secrets.token_hex(32)})
    digest, _ = context.client.put(entity)
    asked = context.client.ask(ForgetEntity(entity=digest, keys=tuple(keys), reason=reason))
    job = asked.job
    while True:
        to_the_end(context, context.client.ask(ShowJob(job=job)))
        found = next(each for each in context.client.ask(ListForgettings(limit=1000)) if each.id == asked.id)
        if found.done is not None:
            return found
        job = found.job  # files came meanwhile: it began again
