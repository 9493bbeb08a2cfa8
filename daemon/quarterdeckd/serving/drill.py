"""The drill job: the present routes served in a sandbox under steady requests, switched back, and looked at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from quarterdeckd.serving import admission
from quarterdeckd.serving.columns import feed_of, needed, tables_of
from quarterdeckd.serving.recorded import Window, named, recorded
from quarterdeckd.serving.sandbox import Sandbox
from quarterdeckd.serving.session import Loaded, checked
from quarterdeckd.serving.steady import Answer, Body, Caller, Steady, body_of
from quarterstore.records.admission import AdmissionSpec
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.drills import DrillResult, DrillSpec, Source
from quarterstore.records.faults import Fault, Refused
from quarterstore.records.names import drawn

REQUESTS = 200
"""Different recorded rows that are sent in turn."""
FOLDER = Path("out/sandbox")
"""Where the supervisor removes it whatever becomes of the job."""


class Switched(NamedTuple):
    """What was answered, and when (`time.perf_counter()`) the switch was asked for and acknowledged."""

    answers: list[Answer]
    asked: float
    acknowledged: float


def run(spec: DrillSpec, report: Any) -> DrillResult:
    """Check the former version's file and golden rows, then rehearse. What goes wrong is in the result; `Fault` only
    for what says nothing of the rollback (the live version's own file, a sandbox that does not start)."""
    report.progress("check", 0.1, spec.to)
    former, live = spec.after.slots[0], _live(spec)
    try:
        figures = _former(spec, former)
    except Fault as fault:
        return _told(spec, DrillResult(ok=False, words="", wrong=(f"{spec.to} cannot take over: {fault.line()}",)))
    loaded = admission.admitted(Path(live.path), live.digest, live.signature)
    source, bodies = _requests(spec, loaded)
    report.progress("start", 0.2, f"{spec.hosts} hosts")
    with Sandbox(FOLDER, _table(spec.before), spec.hosts) as sandbox:
        try:
            switched = _switched(spec, sandbox, bodies, report)
        except Fault as fault:
            why = f"it could not be switched: {fault.line()}"
            return _told(spec, DrillResult(ok=False, words="", wrong=(why,), source=source))
        report.progress("golden", 0.9, spec.to)
        rows, wrong = _golden(spec, sandbox)
    return _told(spec, _counted(spec, source, switched, rows, figures.largest_difference, wrong))


def _live(spec: DrillSpec) -> Slot:
    return next(slot for slot in spec.before.slots if slot.version == spec.live)


def _former(spec: DrillSpec, slot: Slot) -> Any:
    """The admission of the version before, as a deployment would do it."""
    if spec.golden and spec.golden_digest:
        with checked(Path(spec.golden), spec.golden_digest):
            pass
    asked = AdmissionSpec(
        endpoint=spec.endpoint,
        version=slot.version,
        model=slot.path,
        digest=slot.digest,
        golden=spec.golden,
        signature=slot.signature,
    )
    return admission.run(asked, None)


def _requests(spec: DrillSpec, live: Loaded) -> tuple[Source, list[Body]]:
    """What callers asked lately, as far as it was kept; else the golden rows of the former version where the live one
    takes the same tensors; else a row of zeros."""
    try:
        columns = needed(live.inputs, live.signature)
    except Refused:  # a tensor that is no row of columns is recorded as none
        columns = {}
    if columns:
        found = recorded(spec.predictions, Window(0.0, time.time(), REQUESTS), columns, spec.features).rows
        rows = named(found.filter(found["why"].is_null()), columns)
        if rows.height:
            tables = tables_of(rows, columns, live)
            return "recorded", [body_of(feed_of(tables, live, at, 1)) for at in range(rows.height)]
    if spec.golden:
        golden = admission.golden_of(Path(spec.golden))
        if golden.inputs.keys() == {tensor.name for tensor in live.inputs}:
            feed = admission.golden_feed(golden, live)
            count = max((len(array) for array in feed.values() if array.ndim), default=1)
            parts = [
                {name: array[at : at + 1] if array.ndim else array for name, array in feed.items()}
                for at in range(min(count, REQUESTS))
            ]
            return "golden", [body_of(part) for part in parts]
    return "zeros", [body_of(admission.zeros(live))]


def _table(route: Route) -> RoutingTable:
    return RoutingTable(epoch=route.epoch, routes=(route,))


def _switched(spec: DrillSpec, sandbox: Sandbox, bodies: Sequence[Body], report: Any) -> Switched:
    steady, never = Steady(sandbox.address, spec.endpoint, bodies, spec.rate), Event()
    report.progress("before", 0.3, f"{spec.rate:g} requests a second")
    steady.start()
    try:
        never.wait(spec.seconds)
        report.progress("switch", 0.6, f"{spec.live} to {spec.to}")
        asked = time.perf_counter()
        sandbox.switch(_table(spec.after))
        acknowledged = time.perf_counter()
        never.wait(spec.seconds)
    finally:
        answers = steady.stop()
    return Switched(answers, asked, acknowledged)


def _golden(spec: DrillSpec, sandbox: Sandbox) -> tuple[int, tuple[str, ...]]:
    """The golden rows once more, asked of the sandbox over its door."""
    if not spec.golden:
        return 0, ()
    slot = spec.after.slots[0]
    golden = admission.golden_of(Path(spec.golden))
    feed = admission.golden_feed(golden, Loaded(Path(slot.path), slot.digest, slot.signature))
    caller = Caller(sandbox.address, spec.endpoint)
    try:
        admission.compare(golden, caller.outputs(body_of(feed)))
    except Fault as fault:
        return 0, (f"a golden row is answered otherwise: {fault.line()}",)
    except (OSError, HTTPException) as error:
        return 0, (f"the golden rows are not answered: {drawn(str(error), longest=200)}",)
    finally:
        caller.close()
    return max((len(array) for array in feed.values() if array.ndim), default=1), ()


def _counted(
    spec: DrillSpec, source: Source, switched: Switched, rows: int, largest: float, wrong: tuple[str, ...]
) -> DrillResult:
    answers, asked = switched.answers, switched.asked
    good = [each for each in answers if each.status == 200]
    new = [each for each in good if each.epoch == spec.after.epoch]
    old = [each for each in good if each.epoch == spec.before.epoch]
    failed = [each for each in answers if each.status != 200]
    first_new = min((each.done for each in new), default=None)
    last_old = max((each.done for each in old if each.done > asked), default=asked)
    found = list(wrong)
    if failed:
        found.append(f"{len(failed)} of {len(answers)} requests failed: {drawn(failed[0].words, longest=200)}")
    if not old:
        found.append("no request was answered before the switch")
    if first_new is None:
        found.append(f"no request was answered by {spec.to}")
    if strangers := {each.version for each in new} - {spec.to}:
        found.append(f"after the switch {', '.join(sorted(strangers))} answered")
    took = max(last_old, switched.acknowledged) - asked
    if took > spec.within:
        found.append(f"the switch took {took:.2f} s, expected at most {spec.within:g} s")
    return DrillResult(
        ok=not found,
        words="",
        wrong=tuple(found),
        source=source,
        requests=len(answers),
        failed=len(failed),
        acknowledged=_since(asked, switched.acknowledged),
        first_new=_since(asked, first_new),
        last_old=_since(asked, last_old),
        p95_before=_p95(old),
        p95_after=_p95(new),
        golden=rows,
        largest_difference=largest if spec.golden else None,
    )


def _since(began: float, at: float | None) -> float | None:
    return None if at is None else round((at - began) * 1000, 3)


def _p95(answers: Sequence[Answer]) -> float | None:
    times = [(each.done - each.sent) * 1000 for each in answers]
    return round(float(np.quantile(times, 0.95)), 3) if times else None


def _told(spec: DrillSpec, found: DrillResult) -> DrillResult:
    """The result in a sentence."""
    if found.wrong:
        words = f"{spec.live} to {spec.to} went wrong: {'; '.join(found.wrong)}"
    else:
        golden = f", {found.golden} golden rows right" if found.golden else ", no golden rows to ask"
        words = (
            f"{spec.live} to {spec.to}: {found.requests} requests, none failed; acknowledged after "
            f"{found.acknowledged:.0f} ms, first new answer after {found.first_new:.0f} ms, last old one after "
            f"{found.last_old:.0f} ms{golden}"
        )
    return replace(found, words=words)
