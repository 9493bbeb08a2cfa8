"""The rules of replays: a job asked for over what is recorded of an endpoint, and what it found kept."""

from __future__ import annotations

from quarterdeckd.services.clock_words import lasting
from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterstore.ledger.finding import deployment_of, one_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records import replays
from quarterstore.records.faults import Refused, got

LONGEST = 366 * replays.DAY
MOST_ROWS = 1_000_000
MOST = 1000


def _start(state: State, act: replays.StartReplay, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    if version.format != "onnx" or not version.digest:
        raise Refused(f"{version.id} is {version.format}, expected an ONNX file that is here", field="version")
    deployment = deployment_of(state, act.endpoint or version.model)
    if not 0 < act.window <= LONGEST:
        raise got("window", act.window, "seconds, more than 0 and at most a year")
    if not 1 <= act.limit <= MOST_ROWS:
        raise got("limit", act.limit, f"1 to {MOST_ROWS} rows")
    if not 0 <= act.tolerance < 1:
        raise got("tolerance", act.tolerance, "from 0 to below 1")
    if not 0 <= act.top <= MOST:
        raise got("top", act.top, f"0 to {MOST}")
    live = state.versions.get(deployment.live or "")
    here = live if live is not None and live.format == "onnx" and live.digest else None
    spec = replays.ReplaySpec(
        endpoint=deployment.endpoint,
        version=version.id,
        model=version.digest,
        digest=version.digest,
        signature=version.signature,
        since=asking.now - act.window,
        until=asking.now,
        limit=act.limit,
        tolerance=act.tolerance,
        top=act.top,
        live=here.id if here else "",
        live_model=here.digest if here else "",
        live_digest=here.digest if here else "",
        live_signature=here.signature if here else None,
    )
    words = f"replaying {lasting(act.window)} of {deployment.endpoint} against {version.id}"
    return queued(asking, "replay", version.id, spec, words)


def _record(state: State, act: replays.RecordReplay, asking: Asking) -> Decision:
    replay = replays.Replay(
        id=asking.id("replay"),
        endpoint=act.endpoint,
        version=act.version,
        at=asking.now,
        since=act.since,
        until=act.until,
        limit=act.limit,
        tolerance=act.tolerance,
        found=act.found,
        job=act.job,
    )
    return Decision(
        [replays.TrafficReplayed(replay=replay)],
        f"replay of {act.endpoint}: {act.found.words[:200]}",
        lambda after: after.replays[replay.id],
    )


def _list(state: State, query: replays.ListReplays, asking: Asking) -> list[replays.Replay]:
    wanted = version_of(state, query.version, removed=True).id if query.version else None
    found = [
        each for each in state.replays if wanted in (None, each.version) and query.endpoint in (None, each.endpoint)
    ]
    return sorted(found, key=lambda each: each.at, reverse=True)[: max(1, min(query.limit, MOST))]


def _show(state: State, query: replays.ShowReplay, asking: Asking) -> replays.Replay:
    found: replays.Replay = one_of(state.replays, "replay", query.replay)
    return found


RULES: Rules = {replays.StartReplay: _start, replays.RecordReplay: _record}
ANSWERS: Answerers = {replays.ListReplays: _list, replays.ShowReplay: _show}
