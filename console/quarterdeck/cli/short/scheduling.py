"""`qd schedule`, `qd pause`, `qd resume`: when acts are spoken, what became of them, and maintenance."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

if TYPE_CHECKING:
    from quarterstore.records.schedules import AddSchedule, Calendar, Happening

COLUMNS = ("name", "when", "zone", "act", "state", "next", "last", "fired", "missed", "last_error")
FIRINGS = ("schedule", "due", "state", "late", "missed", "tries", "ended", "job", "why")
JOBS = ("at", "what", "state", "id", "missed", "why")


def schedule_group() -> dict[str, Made]:
    """The verbs of `qd schedule`, and of `qd schedules`: the same words mean the same at both."""
    return {
        "add": _add,
        "list": schedules,
        "next": next_times,
        "history": _history,
        "pause": pause,
        "resume": resume,
        "rm": _rm,
    }


def jobs_group() -> dict[str, Made]:
    return {"next": next_times}


WHEN = (
    click.option("--cron", help="five fields, cron's own rules: '30 2 * * 1-5'"),
    click.option("--every", help="a span such as 30s, 10m, 12h, 7d"),
    click.option("--date", "dates", multiple=True, help="a day such as 2026-12-24; once for each"),
    click.option("--each", type=click.Choice(("month", "quarter", "year")), help="with --day: a day of each of them"),
    click.option("--day", default="", help="1 to 31, last, 'last weekday', 'first monday'"),
    click.option("--time", "at", default="00:00", help="the wall time of --date and --day"),
    click.option("--without", multiple=True, help="a day on which --date and --day do not count"),
    click.option("--on", "event", help="an event (docs/messages.md) such as registry.version_registered"),
    click.option("--where", multiple=True, metavar="FIELD=VALUE", help="what a field of the event has to be"),
    click.option("--zone", default="UTC", help="of --cron, --date and --day: Europe/Berlin"),
)
HOW = (
    click.option("--missed", type=click.Choice(("once", "skip", "all")), default="once", help="what is made up for"),
    click.option("--grace", default="1h", help="late by so much is not missed yet"),
    click.option(
        "--overlap",
        type=click.Choice(("skip", "queue", "kill")),
        default="skip",
        help="while the job before it runs: skip the firing, queue it, kill that job",
    ),
    click.option("--lost", type=click.Choice(("leave", "again")), default="leave", help="a job that was lost"),
    click.option("--jitter", default="0s", help="each firing is late by up to this, always the same"),
)
WHAT = (
    click.option("--act", required=True, metavar="NOUN.VERB", help="what is spoken: pipelines.rerun"),
    click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="a field of the act"),
)


def _add() -> click.Command:
    @_taking(*WHEN, *HOW, *WHAT)
    @click.argument("name")
    @command("add", "Speak an act by the clock, or when something happens; replaces a schedule of the same name.")
    def run(context: Context, name: str, **given: Any) -> None:
        found = context.client.ask(_asked(name, **given))
        context.out(found)
        if found.next is not None:
            _say_next(context, name)

    return run


def _taking(*options: Callable[[Any], Any]) -> Callable[[click.Command], click.Command]:
    """Options in the order in which they are to be read: a command appends what it is given."""

    def given(made: click.Command) -> click.Command:
        for option in options:
            option(made)
        return made

    return given


def _asked(
    name: str, *, act: str, fields: tuple[str, ...], every: str | None, grace: str, jitter: str, **given: Any
) -> AddSchedule:
    from quarterdeck.cli.spans import seconds
    from quarterstore.records.schedules import AddSchedule

    return AddSchedule(
        name=name,
        act=_act(act, fields),
        every=None if every is None else seconds("every", every),
        calendar=_days(given.pop("dates"), given.pop("each"), given.pop("day"), given.pop("at"), given.pop("without")),
        on=_happening(given.pop("event"), given.pop("where")),
        grace=seconds("grace", grace),
        jitter=seconds("jitter", jitter),
        **given,
    )


def _days(dates: tuple[str, ...], each: Any, day: str, at: str, without: tuple[str, ...]) -> Calendar | None:
    from quarterstore.records.schedules import Calendar

    return Calendar(time=at, dates=dates, each=each, day=day, without=without) if dates or each or day else None


def _happening(event: str | None, where: tuple[str, ...]) -> Happening | None:
    from quarterstore.records.schedules import Happening

    return None if event is None else Happening(event=event, where=_pairs("where", where, _value))


def _act(tag: str, fields: tuple[str, ...]) -> dict[str, Any]:
    """The act of a tag with its fields as they were written: `pipelines.rerun` and `pipeline=churn`."""
    import msgspec

    from quarterdeck.cli.generated import message_of
    from quarterstore.records.faults import missing
    from quarterstore.records.messages import ACTS, BY_TAG

    acts = [each for each, kind in BY_TAG.items() if kind in ACTS and kind.role != "daemon"]  # type: ignore[attr-defined]
    tag = tag.replace("-", "_")
    if tag not in acts:
        raise missing("act", tag, acts)
    made: dict[str, Any] = msgspec.to_builtins(message_of(BY_TAG[tag], _pairs("set", fields, str)))
    return made


def _pairs(field: str, texts: tuple[str, ...], value: Any) -> dict[str, Any]:
    from quarterstore.records.faults import got

    found: dict[str, Any] = {}
    for text in texts:
        name, separator, given = text.partition("=")
        if not separator or not name:
            raise got(field, text, "FIELD=VALUE")
        found[name] = value(given)
    return found


def _value(text: str) -> str | int | float | bool:
    """A number, true or false as they are written, else the text."""
    import msgspec

    try:
        found = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return text
    return found if isinstance(found, str | int | float | bool) else text


def _say_next(context: Context, name: str) -> None:
    from quarterstore.records.schedules import NextFirings

    for due in context.client.ask(NextFirings(name=name, count=1)):
        context.say(f"next at {due.local} ({due.utc})")


def schedules() -> click.Command:
    @command("list", "Every schedule: when it is due, what it missed, what went wrong last.")
    def run(context: Context) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.schedules import ListSchedules

        found = context.client.ask(ListSchedules())
        _say_maintenance(context)
        if context.json:
            context.out(found)
        else:
            table([_row(each) for each in found], COLUMNS)

    return run


def _say_maintenance(context: Context) -> None:
    from quarterstore.records.schedules import ShowMaintenance

    found = context.client.ask(ShowMaintenance())
    if found is not None:
        until = datetime.fromtimestamp(found.until).astimezone()
        context.say(f"maintenance until {until:%Y-%m-%d %H:%M:%S %Z}, by {found.by}: {found.reason}  (qd resume --all)")


def _row(schedule: Any) -> dict[str, Any]:
    from quarterdeck.cli.printing import plain
    from quarterstore.records.schedules import when_words

    return {
        **plain(schedule),
        "when": when_words(schedule),
        "act": schedule.act.get("type"),
        "state": "paused" if schedule.paused else "on",
        "missed": schedule.missed_count,
    }


def next_times() -> click.Command:
    @click.option("-n", "count", default=5, help="how many")
    @click.argument("name")
    @command("next", "The next due times of a schedule, on the wall of its zone and in UTC.")
    def run(context: Context, name: str, count: int) -> None:
        from quarterstore.records.schedules import NextFirings

        context.out(context.client.ask(NextFirings(name=name, count=count)), ("local", "utc"))

    return run


def _history() -> click.Command:
    @click.option("-n", "--limit", default=20)
    @click.argument("name", required=False)
    @command("history", "What became of the last firings, of one schedule or of all, newest first.")
    def run(context: Context, name: str | None, limit: int) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.schedules import ListFirings

        found = context.client.ask(ListFirings(name=name, limit=limit))
        if context.json:
            context.out(found)
        else:
            table([_firing(each) for each in found], FIRINGS)

    return run


def _firing(firing: Any) -> dict[str, Any]:
    from quarterdeck.cli.printing import plain

    late = f"{max(0.0, firing.at - firing.due):.1f} s"
    return {**plain(firing), "late": late, "job": firing.jobs[-1] if firing.jobs else None}


def jobs() -> click.Command:
    @click.option("-n", "--limit", default=50)
    @command("list", "Jobs, and the firings of schedules that missed something or did not run, newest first.")
    def run(context: Context, limit: int) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.jobs import ListJobs
        from quarterstore.records.schedules import ListFirings

        found = context.client.ask(ListJobs(limit=limit))
        firings = context.client.ask(ListFirings(limit=limit))
        missed = [each for each in firings if each.missed or each.state in ("SKIPPED", "FAILED")]
        if context.json:
            context.out([*found, *missed])
            return
        rows: list[dict[str, Any]] = [
            {"at": job.created, "what": job.kind, "state": job.state, "id": job.id, "why": job.error or job.cause or ""}
            for job in found
        ]
        rows += [
            {
                "at": each.at,
                "what": f"schedule {each.schedule}",
                "state": each.state,
                "id": each.jobs[-1] if each.jobs else None,
                "missed": each.missed,
                "why": each.why,
            }
            for each in missed
        ]
        table(sorted(rows, key=lambda row: -row["at"])[:limit], JOBS)

    return run


def pause() -> click.Command:
    @click.option("--all", "all_", is_flag=True, help="maintenance: no schedule fires and nothing reacts")
    @click.option("--until", help="with --all: a span such as 2h, or a time such as 2026-12-24T06:00")
    @click.option("--reason", help="with --all: why; every screen says it")
    @click.argument("name", required=False)
    @command("pause", "Stop a schedule until it is resumed, or all of them until a time.")
    def run(context: Context, name: str | None, all_: bool, until: str | None, reason: str | None) -> None:
        from quarterstore.records.faults import got
        from quarterstore.records.schedules import PauseAll, PauseSchedule

        if all_ == (name is not None):
            raise got("name", "both or neither", "the name of a schedule, or --all")
        if name is not None:
            context.out(context.client.ask(PauseSchedule(name=name)))
            return
        for field, given in (("until", until), ("reason", reason)):
            if given is None:
                raise got(field, "nothing", f"--{field} beside --all")
        assert until is not None and reason is not None
        context.out(context.client.ask(PauseAll(until=_moment(until), reason=reason)))
        context.say("before that: qd resume --all")

    return run


def _moment(text: str) -> float:
    """A span from now, or a time: of the person's own zone where it names none."""
    from quarterdeck.cli.spans import seconds
    from quarterstore.records.faults import Invalid, got

    try:
        return time.time() + seconds("until", text)
    except Invalid:
        try:
            return datetime.fromisoformat(text).astimezone().timestamp()
        except (ValueError, OverflowError, OSError):
            raise got("until", text, "a span such as 2h, or a time such as 2026-12-24T06:00") from None


def resume() -> click.Command:
    @click.option("--all", "all_", is_flag=True, help="end the maintenance before its time")
    @click.argument("name", required=False)
    @command("resume", "Let a schedule fire again, or end the maintenance.")
    def run(context: Context, name: str | None, all_: bool) -> None:
        from quarterstore.records.faults import got
        from quarterstore.records.schedules import PauseSchedule, ResumeAll

        if all_ == (name is not None):
            raise got("name", "both or neither", "the name of a schedule, or --all")
        context.out(context.client.ask(ResumeAll() if name is None else PauseSchedule(name=name, paused=False)))
        if name is not None:
            _say_next(context, name)

    return run


def _rm() -> click.Command:
    @click.argument("name")
    @command("rm", "Forget a schedule and its history; jobs it started go on.")
    def run(context: Context, name: str) -> None:
        from quarterstore.records.schedules import RemoveSchedule

        context.out(context.client.ask(RemoveSchedule(name=name)))

    return run
