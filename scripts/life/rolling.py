"""Rolling out: the gate, another person's yes, a canary on evidence, a bad version caught, and the way back."""

from __future__ import annotations

import subprocess
import time

import msgspec

from life.broken import break_for_some
from life.play import BIN, MODEL, Figures, Play
from life.traffic import Traffic
from quarterdeck import Refused
from quarterstore.records import deployments, governance, registry
from quarterstore.records.faults import NeedsApproval

RULE = deployments.CanaryRule(effect=0.10, baseline=0.02, alpha=0.05, power=0.8, latency=1000.0, least=60)
"""Errors decide: how long answers take says more of a busy machine than of a version, and is left to stand."""
LADDER = (10, 25, 50, 100)


def gate(play: Play) -> Figures:
    """Production needs an accuracy of 0.9 at the lower end of its interval."""
    rule = governance.GateRule(metric="accuracy", op=">=", limit=0.9, bound=True)
    play.deck.ask(governance.SetGate(model=MODEL, rules=(rule,)))
    outcomes = [play.deck.ask(governance.JudgeGate(version=version)) for version in (play.first, play.second)]
    if not all(outcome.ok for outcome in outcomes):
        raise RuntimeError("; ".join(check.why for outcome in outcomes for check in outcome.checks))
    return {outcome.version: outcome.checks[0].why for outcome in outcomes}


def promote(play: Play) -> Figures:
    """You ask, you may not approve it yourself, ana may."""
    play.deck.ask(registry.MoveStage(version=play.first, stage="Staging"))
    act = registry.MoveStage(version=play.first, stage="Production")
    try:
        play.deck.ask(act)
        raise RuntimeError("Production was reached without anybody's approval")
    except NeedsApproval:
        approval = play.propose(act)
    try:
        play.deck.ask(governance.Approve(approval=approval.id, evidence=approval.evidence))
        raise RuntimeError("whoever asked could approve")
    except Refused as refused:
        refusal = refused.line()
    play.ana.ask(governance.Approve(approval=approval.id, evidence=approval.evidence, note="looks right"))
    tenure = play.deck.ask(registry.ProductionAt(model=MODEL, at=time.time()))
    return {
        "approval": approval.id,
        "self-approval": f"refused ({refusal})",
        "Production": f"{tenure.version}, approved by {tenure.approved_by}",
    }


def deploy(play: Play) -> Figures:
    """Admitted by its golden rows, then live; then traffic."""
    address = play.deployed(play.first, MODEL)
    record = play.deck.ask(registry.ShowVersion(version=play.second))
    golden = play.golden(record)
    play.traffic = Traffic(address, MODEL, golden.inputs["x"])
    play.traffic.start()
    play.until(lambda: len(play.traffic.answers) >= 200, "200 answers")
    found = play.traffic.answers[:200]
    bad = [answer for answer in found if answer.status != 200]
    if bad:
        raise RuntimeError(f"{len(bad)} of 200 failed: {bad[0]}")
    times = sorted((answer.done - answer.sent) * 1000 for answer in found)
    return {
        "endpoint": f"{address}/v2/models/{MODEL}/infer",
        "answers": 200,
        "failed": 0,
        "p50 ms": round(times[100], 2),
    }


def canary(play: Play) -> Figures:
    """10 > 25 > 50 > 100 of the second candidate, each step on as many requests as its rule needs."""
    began = time.monotonic()
    _start_canary(play, play.second)
    seen: dict[int, str] = {}

    def finished() -> bool:
        found = play.endpoint(MODEL)
        if found.canary is not None and found.canary.judged is not None:
            seen[found.canary.share] = found.canary.judged.why
        if found.live != play.second and found.canary is None and found.pending is None:
            raise RuntimeError(f"it was rolled back: {found.why}")
        return found.live == play.second

    play.until(finished, "the canary to reach 100 %")
    failed = [answer for answer in play.traffic.since(began) if answer.status != 200]
    if failed:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
    audit = [
        entry
        for entry in play.deck.ask(governance.ListAudit(text="deployments.judge_step", limit=50))
        if " goes to " in entry.words or " is live" in entry.words
    ]
    steps = {f"evidence {index + 1}": entry.words for index, entry in enumerate(reversed(audit))}
    return {
        **_rule(),
        **steps,
        "live": play.second,
        "requests meanwhile": len(play.traffic.since(began)),
        "failed": 0,
    }


def _rule() -> Figures:
    return {
        "rule": f"a rise of {RULE.effect:.0%} over {RULE.baseline:.0%} errors must be seen "
        f"with power {RULE.power} at level {RULE.alpha}"
    }


def _start_canary(play: Play, version: str) -> None:
    play.deck.ask(registry.MoveStage(version=version, stage="Staging"))
    play.agreed(deployments.StartCanary(version=version, endpoint=MODEL, ladder=LADDER, rule=RULE))


def bad_version(play: Play) -> Figures:
    """A version whose golden rows never meet its fault; live traffic does, and the canary takes it back by
    itplay."""
    record = play.deck.ask(registry.ShowVersion(version=play.second))
    golden = play.golden(record)
    path = play.home.parent / "good.onnx"
    play.deck.get(record.digest, path)
    broken, kept, share = break_for_some(path, golden)
    digest, size = play.deck.put(broken)
    kept_digest, _ = play.deck.put(msgspec.json.encode(kept))
    version = play.deck.ask(
        registry.RegisterVersion(
            model=MODEL,
            digest=digest,
            size=size,
            format="onnx",
            signature=record.signature,
            metrics=record.metrics,
            golden=kept_digest,
            reference=record.reference,
            notes="breaks on rows its golden rows do not have",
            tags={"framework": "by hand"},
        )
    )
    began = time.monotonic()
    _start_canary(play, version.id)
    play.until(lambda: play.endpoint(MODEL).canary is not None or bool(play.endpoint(MODEL).why), "the canary to start")
    play.until(lambda: play.endpoint(MODEL).canary is None, "the canary to be rolled back")
    found = play.endpoint(MODEL)
    if found.live != play.second or "rolled back" in found.state:
        raise RuntimeError(f"{found.live} is live, expected {play.second}")
    hit = [answer for answer in play.traffic.since(began) if answer.status == 500]
    elsewhere = [answer for answer in hit if answer.version != version.id]
    if elsewhere or not hit:
        raise RuntimeError(f"{len(hit)} errors, {len(elsewhere)} of them not from {version.id}")
    return {
        "version": version.id,
        "rows it breaks on": f"{share:.0%}",
        "rolled back because": found.why,
        "requests it hit": f"{len(hit)} of {len(play.traffic.since(began))}",
        "live": found.live,
    }


def rollback(play: Play) -> Figures:
    """One command, under traffic: no request fails, and the old version answers again."""
    began = time.monotonic()
    words = [str(BIN / "qd"), "--home", str(play.home), "--json", "rollback", MODEL, "--reason", "the demo"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    answered = time.monotonic()
    play.until(lambda: any(each.version == play.first for each in play.traffic.since(began)), "the old version")
    play.until(lambda: len(play.traffic.since(answered)) > 300, "300 more answers")
    found = play.traffic.since(began)
    failed = [answer for answer in found if answer.status != 200]
    first = min(answer.done for answer in found if answer.version == play.first)
    if failed or play.endpoint(MODEL).live != play.first:
        raise RuntimeError(f"{len(failed)} requests failed, {play.endpoint(MODEL).live} is live")
    tenure = play.deck.ask(registry.ProductionAt(model=MODEL, at=time.time()))
    return {
        "command": f"qd rollback {MODEL}",
        "from": play.second,
        "to": tenure.version,
        "answered by the old one again": f"{(first - began) * 1000:.0f} ms after the command was given",
        "failed": 0,
    }
