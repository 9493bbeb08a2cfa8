"""What a schedule has to be before it is kept: an act that may be scheduled, a time that comes, an event there is."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSimError

from quarterdeckd.services import calendars
from quarterdeckd.services.deciding import Asking
from quarterdeckd.services.due_times import due_times
from quarterstore.records import schedules
from quarterstore.records.base import Event
from quarterstore.records.batches import StartBatch
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import Forbidden, got, missing
from quarterstore.records.hooks import AddHook
from quarterstore.records.logged_models import LogModelArtefact
from quarterstore.records.messages import ACTS, BY_TAG, EVENTS
from quarterstore.records.registry import RegisterVersion
from quarterstore.records.remotes import AddRemote, SendVersion, TakeBundle
from quarterstore.records.runs import LogArtefact
from quarterstore.records.wire import plain

CRON_FIELDS = 5
LOOKED_AT = (
    RegisterVersion,
    AddDataset,
    LogArtefact,
    LogModelArtefact,
    AddHook,
    StartBatch,
    AddRemote,
    SendVersion,
    TakeBundle,
)
"""Acts that the daemon looks at something for before they are decided, which the clock's own acts pass by."""
SHORTEST = 1.0
LONGEST = 366 * 86_400.0
"""Seconds that a grace, an interval or a maintenance may last."""


def checked_act(act: dict[str, Any], asking: Asking) -> None:
    """Refuse an act that is none, that the daemon has to look at first, or that the asker may not speak."""
    tag = str(act.get("type"))
    kind = BY_TAG.get(tag)
    if kind is None or kind not in ACTS or kind.role == "daemon":  # type: ignore[attr-defined]
        raise missing("act.type", tag, [each for each, found in BY_TAG.items() if found in ACTS])
    if kind in LOOKED_AT:
        raise got("act.type", tag, "an act whose file or address is not looked at by the daemon first")
    if not may(asking.roles, kind):
        raise Forbidden(f"{tag} needs the role {kind.role}, on the clock too", field="role")  # type: ignore[attr-defined]
    try:
        msgspec.convert(act, kind)
    except msgspec.ValidationError as error:
        raise got("act", str(error), f"the fields of {tag}") from error


def may(roles: tuple[str, ...], kind: Any) -> bool:
    """Whether somebody with these roles may speak an act."""
    return kind.role in roles or "admin" in roles


def checked_when(act: schedules.AddSchedule) -> None:
    """Refuse a zone, a length or a trigger that is none."""
    try:
        ZoneInfo(act.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise got("zone", act.zone, "an IANA time zone such as Europe/Berlin") from error
    if act.every is not None and not SHORTEST <= act.every <= LONGEST:
        raise got("every", act.every, f"{SHORTEST:g} to {LONGEST:g} seconds")
    if not 0 <= act.grace <= LONGEST:
        raise got("grace", act.grace, f"0 to {LONGEST:g} seconds")
    if act.jitter and act.on is not None:
        raise got("jitter", act.jitter, "none, because an event is told when it happens")
    if act.calendar is not None:
        calendars.checked(act.calendar)
    if act.on is not None:
        _checked_happening(act.on)


def _checked_happening(on: schedules.Happening) -> None:
    kind = next((each for each in EVENTS if each.__struct_config__.tag == on.event), None)  # type: ignore[attr-defined]
    known = [str(each.__struct_config__.tag) for each in EVENTS]  # type: ignore[attr-defined]
    if kind is None:
        raise missing("on.event", on.event, known)
    if on.event.startswith("schedules."):
        raise got("on.event", on.event, "an event of another noun: schedules do not follow schedules")
    for field in on.where:
        first = field.partition(".")[0]
        if first not in kind.__struct_fields__:  # type: ignore[attr-defined]
            raise missing("on.where", first, kind.__struct_fields__)  # type: ignore[attr-defined]


def first_due(schedule: schedules.Schedule, now: float) -> float | None:
    """When it is due first; refuses what never is."""
    if schedule.on is not None:
        return None
    if schedule.cron is not None and len(schedule.cron.split()) != CRON_FIELDS:  # cronsim takes a sixth, seconds
        raise got("cron", schedule.cron, "five cron fields")
    try:
        due = next(due_times(schedule, now), None)
    except CronSimError as error:
        raise got("cron", schedule.cron, f"five cron fields ({error})") from error
    if due is None:
        field = "cron" if schedule.cron is not None else "calendar"
        found = schedule.cron if schedule.cron is not None else ", ".join(schedule.calendar.dates or ())  # type: ignore[union-attr]
        raise got(field, found or "no day", "a time that comes")
    return due


def checked_jitter(schedule: schedules.Schedule, first: float) -> None:
    """Refuse a jitter that would bring firings out of their order."""
    second = next(due_times(schedule, first), None)
    gap = LONGEST if second is None else second - first
    if not 0 <= schedule.jitter <= gap / 2:
        raise got("jitter", schedule.jitter, f"0 to {gap / 2:g} seconds, half the time between two firings")


def matches(on: schedules.Happening, event: Event) -> bool:
    """Whether an event is what a schedule waits for."""
    fields = plain(event)
    return fields.get("type") == on.event and all(_at(fields, path) == value for path, value in on.where.items())


def _at(fields: Any, path: str) -> Any:
    for word in path.split("."):
        fields = fields.get(word) if isinstance(fields, dict) else None
    return fields
