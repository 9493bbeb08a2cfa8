"""One model's whole life on real data: trained on schedule, judged, approved, rolled out, drifting, retrained, rolled
back.

A throw-away daemon in a temporary home, real jobs, real HTTP traffic, no network. `--keep` leaves it up for the
console, `--json` prints {"steps": [...]} as the last line. Exit 0 only when every step did what it says.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec

from quarterdeck import Client, Fault, Refused, connect, keys
from quarterstore.records import (
    compression,
    ct,
    deployments,
    governance,
    jobs,
    monitoring,
    pipelines,
    predictions,
    registry,
    runs,
    schedules,
)
from quarterstore.records.admission import Golden
from quarterstore.records.base import Act
from quarterstore.records.faults import NeedsApproval, Unreachable
from quarterstore.records.people import AddKey
from quarterstore.records.places import Home

MODEL = "cancer"
RULE = deployments.CanaryRule(effect=0.10, baseline=0.02, alpha=0.05, power=0.8, latency=20.0, least=60)
SHIFT = {"mean radius": 1.6, "mean texture": 1.5, "mean area": 2.2, "worst radius": 1.6}
BIN = Path(sys.executable).parent


class Answered(NamedTuple):
    """One request of the traffic: when it was sent and answered (monotonic), its status, the version that answered."""

    sent: float
    done: float
    status: int
    version: str


class Traffic(threading.Thread):
    """Four keep-alive connections that send one row at a time for as long as they are let."""

    def __init__(self, address: str, rows: list[list[float]], columns: int) -> None:
        super().__init__(daemon=True)
        self.answers: list[Answered] = []
        self.rows = rows
        self._url = f"{address}/v2/models/{MODEL}/infer"
        self._columns = columns
        self._stopping = False

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        async with httpx.AsyncClient(timeout=10.0) as client:
            await asyncio.gather(*(self._one(client, first) for first in range(4)))

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        while not self._stopping:
            number += 4
            row = self.rows[number % len(self.rows)]
            body = {"inputs": [{"name": "x", "shape": [1, self._columns], "datatype": "FP32", "data": row}]}
            sent = time.monotonic()
            try:
                response = await client.post(self._url, content=msgspec.json.encode(body))
                status, version = response.status_code, response.headers.get("quarterdeck-version", "")
            except httpx.HTTPError as error:
                status, version = 0, type(error).__name__
            self.answers.append(Answered(sent, time.monotonic(), status, version))

    def stop(self) -> None:
        """Send no more."""
        self._stopping = True
        self.join()

    def since(self, moment: float) -> list[Answered]:
        """What was sent since a moment."""
        return [answer for answer in list(self.answers) if answer.sent >= moment]


class Life:
    """The steps, in order; each answers what it found as figures, or raises."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.steps: list[dict[str, Any]] = []
        self.deck: Client
        self.ana: Client
        self.traffic: Traffic
        self.daemon: subprocess.Popen[bytes]
        self.first = self.second = self.bad = ""

    def step(self, name: str, do: Callable[[], dict[str, Any]]) -> bool:
        """Run one step; print what it found."""
        began = time.monotonic()
        try:
            figures, ok = do(), True
        except Exception as error:  # a step that fails is reported as such, and ends the play
            words = error.line() if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
            figures, ok = {"error": words}, False
        figures = {**figures, "seconds": round(time.monotonic() - began, 2)}
        self.steps.append({"name": name, "ok": ok, "figures": figures})
        print(f"{'✓' if ok else '✗'} {len(self.steps):>2} {name}", flush=True)
        for key, value in figures.items():
            print(f"      {key}: {value}", flush=True)
        return ok

    # 1
    def start(self) -> dict[str, Any]:
        """The daemon of a fresh home, in profile `team`: four eyes are needed for Production."""
        log = (self.home.parent / "daemon.log").open("ab")
        words = [str(BIN / "quarterdeckd"), "--home", str(self.home), "--profile", "team"]
        self.daemon = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        began = time.monotonic()
        while True:
            try:
                self.deck = connect(self.home)
                status = self.deck.status()
                break
            except (Unreachable, OSError):
                if self.daemon.poll() is not None or time.monotonic() - began > 20:
                    raise
                time.sleep(0.02)  # nothing to wait on before its socket is there
        place = Home(self.home)
        public = keys.make(place, "ana")
        self.deck.ask(AddKey(public=public, person="ana", roles=("approver",)))
        self.ana = connect(self.home, as_="ana")
        me = self.deck.status()
        return {"home": me.home, "profile": status.profile, "people": "you, and ana who approves"}

    # 2, 3
    def definition(self, learner: str, **params: Any) -> pipelines.Definition:
        """A pipeline on scikit-learn's breast cancer set (569 rows, 30 features)."""
        return pipelines.Definition(
            name=f"{MODEL}-{learner}",
            model=MODEL,
            data=pipelines.DataSection(target="target", builtin="breast_cancer"),
            train=pipelines.TrainSection(learner=learner, params=params),
        )

    def schedule_fires(self) -> dict[str, Any]:
        """A schedule is due in a second, fires once, and its training starts."""
        act = msgspec.to_builtins(
            pipelines.RunPipeline(definition=self.definition("logistic"), cause="schedule nightly")
        )
        self.deck.ask(schedules.AddSchedule(name="nightly", act=act, every=1.5))
        self.until(lambda: self.schedule().fired >= 1, 15, "the schedule to fire")
        self.deck.ask(schedules.PauseSchedule(name="nightly"))
        found = self.deck.ask(pipelines.ListPipelineRuns(pipeline=f"{MODEL}-logistic"))
        return {"schedule": "nightly", "fired": self.schedule().fired, "pipeline run": found[-1].id}

    def schedule(self) -> schedules.Schedule:
        return next(each for each in self.deck.ask(schedules.ListSchedules()) if each.name == "nightly")

    def train(self) -> dict[str, Any]:
        """The second candidate, a torch network, beside the first; live points come in while it runs."""
        asked = self.deck.ask(pipelines.RunPipeline(definition=self.definition("mlp", epochs=60), cause="a person"))
        live = 0
        while (found := self.deck.ask(pipelines.ShowPipelineRun(pipeline_run=asked.id))).state in ("QUEUED", "RUNNING"):
            curves = self.deck.ask(runs.MetricHistory(run=asked.run))
            live = max(live, len(curves[0].steps) if curves else 0)
            time.sleep(0.1)
        done = self.ended(found)
        first = self.ended(self.deck.ask(pipelines.ListPipelineRuns(pipeline=f"{MODEL}-logistic"))[-1])
        self.first, self.second = str(first.version), str(done.version)
        figures: dict[str, Any] = {"points seen while it trained": live}
        for version in (self.first, self.second):
            record = self.deck.ask(registry.ShowVersion(version=version))
            accuracy = next(metric for metric in record.metrics if metric.name == "accuracy")
            assert accuracy.low is not None and accuracy.high is not None
            figures[version] = (
                f"{record.semver}, {record.tags['framework']}, accuracy {accuracy.value:.3f} "
                f"({accuracy.low:.3f} to {accuracy.high:.3f}), data {str(record.dataset)[:12]}"
            )
        for run in (first, done):
            trained = next(step for step in run.steps if step.name == "train")
            figures[f"parity of {run.version}"] = trained.words.rpartition("; ")[2]
        return figures

    def ended(self, run: pipelines.PipelineRun) -> pipelines.PipelineRun:
        self.until(lambda: self.pipeline(run.id).state not in ("QUEUED", "RUNNING"), 60, "the pipeline to end")
        found = self.pipeline(run.id)
        if found.state != "SUCCEEDED":
            raise RuntimeError(f"{found.id} {found.state}: {found.error}")
        return found

    def pipeline(self, run: str) -> pipelines.PipelineRun:
        return self.deck.ask(pipelines.ShowPipelineRun(pipeline_run=run))

    # 4
    def gate(self) -> dict[str, Any]:
        """Production needs an accuracy of 0.9 at the lower end of its interval."""
        rule = governance.GateRule(metric="accuracy", op=">=", limit=0.9, bound=True)
        self.deck.ask(governance.SetGate(model=MODEL, rules=(rule,)))
        outcomes = [self.deck.ask(governance.JudgeGate(version=version)) for version in (self.first, self.second)]
        if not all(outcome.ok for outcome in outcomes):
            raise RuntimeError("; ".join(check.why for outcome in outcomes for check in outcome.checks))
        return {outcome.version: outcome.checks[0].why for outcome in outcomes}

    # 5
    def promote(self) -> dict[str, Any]:
        """You ask, you may not approve it yourself, ana may."""
        self.deck.ask(registry.MoveStage(version=self.first, stage="Staging"))
        act = registry.MoveStage(version=self.first, stage="Production")
        try:
            self.deck.ask(act)
            raise RuntimeError("Production was reached without anybody's approval")
        except NeedsApproval:
            approval = self.propose(act)
        try:
            self.deck.ask(governance.Approve(approval=approval.id, evidence=approval.evidence))
            raise RuntimeError("whoever asked could approve")
        except Refused as refused:
            refusal = refused.line()
        self.ana.ask(governance.Approve(approval=approval.id, evidence=approval.evidence, note="looks right"))
        tenure = self.deck.ask(registry.ProductionAt(model=MODEL, at=time.time()))
        return {
            "approval": approval.id,
            "self-approval": f"refused ({refusal})",
            "Production": f"{tenure.version}, approved by {tenure.approved_by}",
        }

    def propose(self, act: Act[Any]) -> governance.Approval:
        return self.deck.ask(governance.Propose(act=msgspec.to_builtins(act), reason="the demo"))

    # 6
    def deploy(self) -> dict[str, Any]:
        """Admitted by its golden rows, then live; then traffic."""
        self.deck.ask(deployments.Deploy(version=self.first))
        self.until(lambda: self.endpoint().live == self.first, 20, "the endpoint to be live")
        self.until(lambda: self.serving().epoch >= self.endpoint().epoch, 20, "the hosts to acknowledge")
        address = str(self.serving().address)
        record = self.deck.ask(registry.ShowVersion(version=self.second))
        golden = self.golden(record)
        self.traffic = Traffic(address, golden.inputs["x"], len(golden.inputs["x"][0]))
        self.traffic.start()
        self.until(lambda: len(self.traffic.answers) >= 200, 20, "200 answers")
        found = self.traffic.answers[:200]
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

    def endpoint(self) -> deployments.Deployment:
        return self.deck.ask(deployments.ShowDeployment(endpoint=MODEL))

    def serving(self) -> deployments.ServingState:
        return self.deck.ask(deployments.ShowServing())

    def golden(self, record: registry.Version) -> Golden:
        path = self.home.parent / "golden.json"
        self.deck.get(str(record.golden), path)
        return msgspec.json.decode(path.read_bytes(), type=Golden)

    # 7
    def canary(self) -> dict[str, Any]:
        """5 > 10 > 25 > 50 > 100 of the second candidate, each step on as many requests as its rule needs."""
        began = time.monotonic()
        self.start_canary(self.second)
        seen: dict[int, str] = {}

        def finished() -> bool:
            found = self.endpoint()
            if found.canary is not None and found.canary.judged is not None:
                seen[found.canary.share] = found.canary.judged.why
            if found.live != self.second and found.canary is None and found.pending is None:
                raise RuntimeError(f"it was rolled back: {found.why}")
            return found.live == self.second

        self.until(finished, 60, "the canary to reach 100 %")
        failed = [answer for answer in self.traffic.since(began) if answer.status != 200]
        if failed:
            raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
        audit = [
            entry
            for entry in self.deck.ask(governance.ListAudit(text="deployments.judge_step", limit=50))
            if " goes to " in entry.words or " is live" in entry.words
        ]
        steps = {f"evidence {index + 1}": entry.words for index, entry in enumerate(reversed(audit))}
        return {
            **self.rule(),
            **steps,
            "live": self.second,
            "requests meanwhile": len(self.traffic.since(began)),
            "failed": 0,
        }

    def rule(self) -> dict[str, Any]:
        return {
            "rule": f"a rise of {RULE.effect:.0%} over {RULE.baseline:.0%} errors must be seen "
            f"with power {RULE.power} at level {RULE.alpha}"
        }

    def start_canary(self, version: str) -> None:
        self.deck.ask(registry.MoveStage(version=version, stage="Staging"))
        approval = self.propose(deployments.StartCanary(version=version, endpoint=MODEL, rule=RULE))
        self.ana.ask(governance.Approve(approval=approval.id, evidence=approval.evidence))

    # 8
    def bad_version(self) -> dict[str, Any]:
        """A version whose golden rows never meet its fault; live traffic does, and the canary takes it back by
        itself."""
        record = self.deck.ask(registry.ShowVersion(version=self.second))
        golden = self.golden(record)
        path = self.home.parent / "good.onnx"
        self.deck.get(record.digest, path)
        broken, kept, share = break_for_some(path, golden)
        digest, size = self.deck.put(broken)
        kept_digest, _ = self.deck.put(msgspec.json.encode(kept))
        version = self.deck.ask(
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
        self.bad = version.id
        began = time.monotonic()
        self.start_canary(version.id)
        self.until(lambda: self.endpoint().canary is not None or bool(self.endpoint().why), 20, "the canary to start")
        self.until(lambda: self.endpoint().canary is None, 40, "the canary to be rolled back")
        found = self.endpoint()
        if found.live != self.second or "rolled back" in found.state:
            raise RuntimeError(f"{found.live} is live, expected {self.second}")
        hit = [answer for answer in self.traffic.since(began) if answer.status == 500]
        elsewhere = [answer for answer in hit if answer.version != version.id]
        if elsewhere or not hit:
            raise RuntimeError(f"{len(hit)} errors, {len(elsewhere)} of them not from {version.id}")
        return {
            "version": version.id,
            "rows it breaks on": f"{share:.0%}",
            "rolled back because": found.why,
            "requests it hit": f"{len(hit)} of {len(self.traffic.since(began))}",
            "live": found.live,
        }

    # 9
    def int8(self) -> dict[str, Any]:
        """A child measured against its parent here; whether it pays is said either way."""
        job = self.deck.ask(compression.Optimise(version=self.second))
        self.until(lambda: self.deck.ask(jobs.ShowJob(job=job.id)).state not in ("QUEUED", "RUNNING"), 60, "int8")
        found = next(each for each in self.deck.ask(compression.ListOptimisations()) if each.job == job.id)
        measured = found.measured
        return {
            "child": found.child,
            "bytes": f"{measured.size_before} -> {measured.size_after}",
            "P50 ms": f"{measured.p50_before:.4f} -> {measured.p50_after:.4f}",
            "verdict": found.words,
        }

    # 10
    def drift(self) -> dict[str, Any]:
        """Shifted traffic is found against the training rows; the model is retrained; a new version is registered."""
        drift = ct.OnDrift(window=3600.0)
        self.deck.ask(ct.SetPolicy(model=MODEL, pipeline=f"{MODEL}-mlp", drift=drift))
        self.deck.ask(ct.SwitchPolicy(model=MODEL, enabled=True))
        record = self.deck.ask(registry.ShowVersion(version=self.second))
        factors = [SHIFT.get(feature.name, 1.0) for feature in record.signature.features]
        before = {run.id for run in self.deck.ask(pipelines.ListPipelineRuns())}
        plain = self.traffic.rows
        self.traffic.rows = [[value * factor for value, factor in zip(row, factors, strict=True)] for row in plain]
        began, mark = time.time(), time.monotonic()
        self.until(lambda: len(self.traffic.since(mark)) >= 600, 30, "600 shifted requests")
        self.until(lambda: self.recorded(began) >= 600, 20, "their records")
        job = self.deck.ask(monitoring.CheckDrift(endpoint=MODEL, window=time.time() - began))
        self.until(lambda: self.deck.ask(jobs.ShowJob(job=job.id)).state not in ("QUEUED", "RUNNING"), 40, "drift")
        self.traffic.rows = plain
        found = self.deck.ask(monitoring.ShowDrift(drift=MODEL))
        if found.verdict != "DRIFT":
            raise RuntimeError(f"{found.verdict}: {found.words}")
        self.until(lambda: bool(self.new_runs(before)), 10, "the retrain")
        run = self.ended(self.new_runs(before)[0])
        drifted = [feature.feature for feature in found.features if feature.verdict == "DRIFT"]
        return {
            "drift": found.id,
            "rows": f"{found.n_current} against {found.n_reference}",
            "drifted": ", ".join(drifted),
            "words": found.words,
            "retrained because of": run.cause,
            "new version": run.version,
        }

    def recorded(self, since: float) -> int:
        """Predictions that are kept of those answered since a moment; those of the last second are on their way."""
        kept = self.deck.ask(predictions.CountPredictions(endpoint=MODEL, since=since)).versions
        return kept.get(self.second, 0)

    def new_runs(self, before: set[str]) -> list[pipelines.PipelineRun]:
        return [run for run in self.deck.ask(pipelines.ListPipelineRuns()) if run.id not in before]

    # 11
    def rollback(self) -> dict[str, Any]:
        """One command, under traffic: no request fails, and the old version answers again."""
        began = time.monotonic()
        words = [str(BIN / "qd"), "--home", str(self.home), "--json", "rollback", MODEL, "--reason", "the demo"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        answered = time.monotonic()
        self.until(lambda: any(each.version == self.first for each in self.traffic.since(began)), 5, "the old version")
        self.until(lambda: len(self.traffic.since(answered)) > 300, 10, "300 more answers")
        found = self.traffic.since(began)
        failed = [answer for answer in found if answer.status != 200]
        last = max((answer.sent for answer in found if answer.version == self.second), default=began)
        if failed or self.endpoint().live != self.first:
            raise RuntimeError(f"{len(failed)} requests failed, {self.endpoint().live} is live")
        tenure = self.deck.ask(registry.ProductionAt(model=MODEL, at=time.time()))
        return {
            "command": f"qd rollback {MODEL}",
            "from": self.second,
            "to": tenure.version,
            "last request to the old one after": f"{(last - answered) * 1000:.0f} ms of the answer",
            "failed": 0,
        }

    # 12
    def audit(self) -> dict[str, Any]:
        """The whole journal read and checked; every span of Production with who asked and who approved."""
        verdict = self.deck.ask(governance.VerifyAudit())
        if not verdict.ok:
            raise RuntimeError(verdict.why)
        tenures = self.deck.ask(registry.ListTenures(model=MODEL))
        spans = {
            f"Production {index + 1}": f"{tenure.version}, asked by {tenure.asked_by}, "
            + (f"approved by {tenure.approved_by}" if tenure.approved_by else "a rollback needs nobody")
            for index, tenure in enumerate(tenures)
        }
        return {"entries": verdict.entries, "head": verdict.head.hash[:16], **spans}

    def until(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        """Return when something is so; raise when it is not within the time."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:g} s for {what}")
            time.sleep(0.05)

    def play(self) -> bool:
        """Every step in order; the first that fails ends the play."""
        plan: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            ("a daemon starts in a fresh home", self.start),
            ("a scheduled training fires", self.schedule_fires),
            ("two candidates train with live curves and are registered", self.train),
            ("the gate judges both", self.gate),
            ("promotion: you ask, another person approves", self.promote),
            ("deployed, under real HTTP traffic", self.deploy),
            ("canary of the second candidate, on evidence", self.canary),
            ("a bad version is caught by the canary", self.bad_version),
            ("int8 child measured against its parent", self.int8),
            ("drift found, retraining started by its policy", self.drift),
            ("one-command rollback under traffic", self.rollback),
            ("the audit trail verifies", self.audit),
        ]
        return all(self.step(name, do) for name, do in plan)

    def stop(self, keep: bool) -> None:
        """End the traffic, and the daemon with serving unless it is to stay."""
        if hasattr(self, "traffic"):
            self.traffic.stop()
        if keep or not hasattr(self, "daemon"):
            return
        self.end_jobs()
        subprocess.run(
            [str(BIN / "qd"), "--home", str(self.home), "-q", "serving", "stop"], capture_output=True, check=False
        )
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)

    def end_jobs(self) -> None:
        """Jobs outlive their daemon: those of a play that was broken off are cancelled."""
        try:
            with connect(self.home) as deck:
                for job in deck.ask(jobs.ListJobs()):
                    if job.state in ("QUEUED", "RUNNING"):
                        deck.ask(jobs.CancelJob(job=job.id))
        except Fault as fault:
            print(f"jobs were not cancelled: {fault.line()}", file=sys.stderr)


def break_for_some(path: Path, golden: Golden) -> tuple[bytes, Golden, float]:
    """The model with a look-up that leaves its table where `mean concave points` is high; the golden rows without
    those."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows = np.array(golden.inputs["x"], dtype=np.float32)
    limit = float(np.quantile(rows[:, 7], 0.75))
    hits = rows[:, 7] > limit
    model = onnx.load(path)
    graph = model.graph
    add = [
        helper.make_node("Gather", ["x", "bad_column"], ["bad_value"], axis=1),
        helper.make_node("Greater", ["bad_value", "bad_limit"], ["bad_hit"]),
        helper.make_node("Cast", ["bad_hit"], ["bad_index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["bad_table", "bad_index"], ["bad_zero"]),
        helper.make_node("ReduceSum", ["bad_zero"], ["bad_nothing"], keepdims=0),
    ]
    score = next(node for node in graph.node if "score" in node.output)
    score.output[list(score.output).index("score")] = "score_before"
    add.append(helper.make_node("Add", ["score_before", "bad_nothing"], ["score"]))
    graph.node.extend(add)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == "score" and node is not add[-1]:
                node.input[index] = "score_before"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([7], dtype=np.int64), "bad_column"),
            numpy_helper.from_array(np.array(limit, dtype=np.float32), "bad_limit"),
            numpy_helper.from_array(np.zeros(1, dtype=np.float32), "bad_table"),
        ]
    )
    kept = [index for index, hit in enumerate(hits) if not hit]
    left = Golden(
        inputs={"x": [golden.inputs["x"][index] for index in kept]},
        outputs={name: [values[index] for index in kept] for name, values in golden.outputs.items()},
        labels=[golden.labels[index] for index in kept] if golden.labels else None,
        tolerance=golden.tolerance,
    )
    return model.SerializeToString(), left, float(hits.mean())


def main() -> int:
    """Play, say what happened, clean up."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keep", action="store_true", help="leave the daemon up and say how to open the console")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="quarterdeck-demo-"))
    life = Life(folder / "home")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ok = life.play()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # once is enough, the rest is cleaning up
        life.stop(False)
        shutil.rmtree(folder)
        print("interrupted; the daemon was stopped and its home removed", file=sys.stderr)
        return 130
    life.stop(given.keep)
    print(f"{'everything' if ok else 'NOT everything'} did what it says, in {time.monotonic() - began:.0f} s")
    if not ok:
        print(f"the daemon's log is {folder / 'daemon.log'}")
    if given.keep:
        print(f"open the console:  {BIN / 'qd'} --home {life.home}")
        print(f"stop it:           {BIN / 'qd'} --home {life.home} serving stop; kill {life.daemon.pid}")
    elif ok:
        shutil.rmtree(folder)
    if given.json:
        print(msgspec.json.encode({"steps": life.steps}).decode())
    return 0 if ok else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
