"""Every message over a real socket: one life in which each is asked, and answered as its class declares."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from array import array
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
import zmq

from quarterdeck import keys
from quarterdeckd.services.signing import sign
from quarterstore.records import (
    batches,
    checks,
    compression,
    ct,
    datasets,
    deployments,
    drills,
    experiments,
    faults,
    feature_checks,
    feature_files,
    features,
    governance,
    hooks,
    jobs,
    logged_models,
    messages,
    models,
    monitoring,
    online,
    outcomes,
    packages,
    people,
    pipelines,
    predictions,
    registry,
    remotes,
    replays,
    retention,
    runs,
    schedules,
    search,
    spaces,
    store,
    streams,
    studies,
    transfer,
    trials,
)
from quarterstore.records.base import answer_type, tag_of
from quarterstore.records.wire import PROTOCOL, Answer, Ask, decode, encode
from tests.doors.test_mlflow import free_port

OVER = ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")


class Life:
    """Asks, and remembers what was asked."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.asked: set[type] = set()

    def __call__(self, message: Any, by: Any = None) -> Any:
        """The answer; the client decodes it strictly as the class declares, so another type raises."""
        answer = (by or self.client).ask(message, timeout=60)
        self.asked.add(type(message))
        return answer

    def until(self, message: Any, true: Callable[[Any], bool], seconds: float = 60) -> Any:
        """Ask until it is so."""
        deadline = time.monotonic() + seconds
        for _ in self.client.follow(0):
            answer = self(message)
            if true(answer):
                return answer
            assert time.monotonic() < deadline, answer
        raise AssertionError("the feed ended")


def rows(count: int, scale: float) -> list[list[float]]:
    """Rows of the breast cancer set."""
    from sklearn.datasets import load_breast_cancer

    return [[value * scale for value in row] for row in load_breast_cancer().data[:count].tolist()]


def skops_file() -> bytes:
    """A fitted estimator as skops writes it."""
    import skops.io
    from sklearn.linear_model import LinearRegression

    return bytes(skops.io.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])))


def predicted(address: str, row: list[float]) -> str:
    """One prediction; its id."""
    tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}
    body = json.dumps({"inputs": [tensor]}).encode()
    with urllib.request.urlopen(f"{address}/v2/models/life/infer", body, timeout=10) as answer:
        return str(json.load(answer)["id"])


def about_runs(life: Life) -> None:
    """Tracking."""
    client = life.client
    digest, size = client.put(b"an artefact")
    upload = secrets.token_hex(8)
    life(store.PutBlob(upload=upload, offset=0, data=b"by hand"))
    assert life(store.GetBlob(digest=digest)).data == b"an artefact"
    run = life(runs.StartRun(experiment="life", params={"lr": "0.1"})).id
    other = life(runs.StartRun(experiment="life", params={"lr": "0.2"})).id
    life(runs.LogParams(run=run, params={"depth": "3"}))
    life(runs.SetTags(run=run, tags={"team": "one"}))
    life(runs.LogArtefact(run=run, path="notes/a.txt", digest=digest, size=size))
    life(runs.LogArtefact(run=run, path="notes/b.txt", digest=digest, size=size))
    assert [each.path for each in life(runs.RemoveArtefact(run=run, path="notes/b.txt")).artefacts] == ["notes/a.txt"]
    points = runs.LogMetrics(
        run=run,
        batch="b1",
        keys=("loss",),
        key=array("H", [0, 0]).tobytes(),
        step=array("q", [1, 2]).tobytes(),
        time=array("d", [1.0, 2.0]).tobytes(),
        value=array("d", [0.5, 0.25]).tobytes(),
    )
    assert life(points).points == 2
    life(runs.Beat(run=run))
    assert life(runs.MetricHistory(run=run))[0].values == [0.5, 0.25]
    assert life(runs.EndRun(run=run)).metrics == {"loss": 0.25}
    assert {row.name for row in life(runs.CompareRuns(runs=(run, other))).rows} >= {"lr", "depth"}
    life(runs.EndRun(run=other, state="FAILED", error="on purpose"))
    life(runs.RemoveRun(run=other))
    life(runs.RestoreRun(run=other))
    life(runs.RemoveRun(run=other))
    assert life(store.ShowUndo()).act == "runs.remove"
    assert life(store.Undo()).act == "runs.remove"
    assert life(runs.ShowRun(run=run)).state == "FINISHED"
    assert life(runs.ListRuns()).total == 2
    found = life(search.SearchRuns(experiments=("life",), where="loss < 1 and team = 'one'", order=("-loss",), limit=1))
    assert ([each.id for each in found.runs], found.total, found.next) == ([run], 1, None)
    columns = life(search.ListColumns(experiments=("life",)))
    assert "loss" in columns.metrics and "team" in columns.tags
    assert [each.name for each in life(experiments.ListExperiments())] == ["life"]
    about_searches(life, run)
    about_experiments(life, other)
    about_logged_models(life, run, digest, size)
    about_models(life)


def about_searches(life: Life, run: str) -> None:
    """A search that is kept, a run nested in another, what was installed."""
    life(search.SaveSearch(name="good", where="loss < 1", order=("-loss",)))
    assert life(search.ShowSearch(name="good")).where == "loss < 1"
    assert [each.name for each in life(search.ListSearches())] == ["good"]
    life(search.RemoveSearch(name="good"))
    kept = life(packages.KeepPackages(packages=("b==2", "a==1")))
    assert life(packages.ShowPackages(packages=kept.digest[:12])).packages == ("a==1", "b==2")
    nested = life(runs.StartRun(experiment="nested", parent=run)).id
    life(runs.EndRun(run=nested))
    tree = life(search.RunTree(runs=(run,), below=True))
    assert [(each.depth, each.run.id) for each in tree] == [(0, run), (1, nested)]
    life(runs.RemoveRun(run=nested))


def about_models(life: Life) -> None:
    """A name with a version by reference, under words of its own."""
    life(models.CreateModel(model="kept"))
    assert life(models.RenameModel(model="kept", name="kept elsewhere")).name == "kept elsewhere"
    assert life(models.DescribeModel(model="kept elsewhere", description="for x")).description == "for x"
    assert life(models.TagModel(model="kept elsewhere", tags={"a": ""})).tags == {"a": ""}
    made = life(registry.RegisterSource(model="kept elsewhere", source="runs:/r/model", run="r"))
    assert (made.id, made.source, made.stage) == ("kept elsewhere@1", "runs:/r/model", "None")
    assert life(registry.DescribeVersion(version=made.id, notes="the first")).notes == "the first"
    assert life(models.SetAlias(version=made.id, alias="best")).aliases == {"best": 1}
    assert life(registry.ShowVersion(version="kept elsewhere@best")).id == made.id
    assert life(models.RemoveAlias(model="kept elsewhere", alias="best")).aliases == {}
    life(models.RemoveModel(model="kept elsewhere"))
    assert life(models.ShowModel(model="kept elsewhere")).removed
    assert life(models.RestoreModel(model="kept elsewhere")).removed is None
    life(models.RemoveModel(model="kept elsewhere"))


def about_experiments(life: Life, run: str) -> None:
    """An experiment of its own, removed and back; a run's name, notes, inputs and outputs."""
    made = life(experiments.CreateExperiment(name="second", tags={"team": "one"}))
    assert life(experiments.RenameExperiment(experiment=made.id, name="third")).id == made.id
    assert life(experiments.TagExperiment(experiment="third", tags={"team": None})).tags == {}
    life(experiments.RemoveExperiment(experiment="third"))
    assert life(experiments.ShowExperiment(experiment="third")).removed
    assert life(experiments.RestoreExperiment(experiment="third")).removed is None
    assert life(runs.RenameRun(run=run, name="another")).name == "another"
    assert life(runs.NoteRun(run=run, notes="one\ntwo")).notes == "one\ntwo"
    used = runs.DatasetInput(name="rows", digest="abc", source_type="local", source="rows.csv")
    assert life(runs.LogInputs(run=run, inputs=(used, used), models=("m-1",))).inputs == (used,)
    assert life(runs.LogOutputs(run=run, models=(runs.ModelOutput(model="m-2"),))).outputs[0].model == "m-2"
    assert life(runs.ResumeRun(run=run)).state == "RUNNING"
    life(runs.EndRun(run=run))


def about_logged_models(life: Life, run: str, digest: str, size: int) -> None:
    """A model folder begun, filled, finished, tagged, removed."""
    model = life(logged_models.CreateLoggedModel(experiment="life", run=run, params={"a": "1"})).id
    life(logged_models.LogModelArtefact(model=model, path="model/data.bin", digest=digest, size=size))
    life(logged_models.LogModelParams(model=model, params={"b": 2}))
    point = logged_models.ModelPoint(key="acc", value=0.5, time=1.0, run=run)
    assert life(logged_models.MeasureModel(model=model, points=(point, point))).points == (point,)
    assert life(logged_models.FinishLoggedModel(model=model)).status == "READY"
    assert life(logged_models.TagLoggedModel(model=model, tags={"x": "y"})).params == {"a": "1", "b": 2}
    assert life(logged_models.ShowLoggedModel(model=model)).tags == {"x": "y"}
    assert [each.id for each in life(logged_models.ListLoggedModels(experiments=("life",)))] == [model]
    life(logged_models.RemoveLoggedModel(model=model))
    assert life(logged_models.ListLoggedModels()) == []


def about_training(life: Life, ana: Any) -> None:
    """A pipeline of real rows, again by its name, and one that is called off."""
    data = pipelines.DataSection(target="target", builtin="breast_cancer")
    definition = pipelines.Definition(name="life", model="life", data=data)
    first = life(pipelines.RunPipeline(definition=definition))
    done = life.until(pipelines.ShowPipelineRun(pipeline_run=first.id), lambda found: found.state in OVER)
    assert done.state == "SUCCEEDED" and done.version == "life@1", done.error
    changed = msgspec.structs.replace(definition, split=pipelines.SplitSection(seed=8))
    second = life(pipelines.RunPipeline(definition=changed))
    life.until(pipelines.ShowPipelineRun(pipeline_run=second.id), lambda found: found.state in OVER)
    assert len(life(pipelines.ListPipelineRuns())) == 2 and len(life(pipelines.ListPipelines())) == 1
    assert life(jobs.ShowJob(job=done.job)).state == "SUCCEEDED"
    assert isinstance(life(jobs.JobLog(job=done.job)), list)
    third = life(pipelines.RerunPipeline(pipeline="life"))
    assert life(jobs.CancelJob(job=third.job)).state == "CANCELLED"
    assert len(life(jobs.ListJobs())) >= 3
    asks = pipelines.StepSection(name="ask", uses="approve", params={"ask": "shall it?"})
    human = pipelines.Definition(name="human", steps=(asks,))

    def asked() -> pipelines.PipelineRun:
        run = life(pipelines.RunPipeline(definition=human))
        waits = life.until(pipelines.ShowPipelineRun(pipeline_run=run.id), lambda found: found.state == "WAITING")
        assert waits.steps[0].words == "shall it?"
        return run

    yes, no, gone = asked(), asked(), asked()
    life(pipelines.ApproveStep(pipeline_run=yes.id, note="why not"), by=ana)
    done = life.until(pipelines.ShowPipelineRun(pipeline_run=yes.id), lambda found: found.state in OVER)
    assert done.state == "SUCCEEDED" and done.steps[0].words == "approved by ana: why not"
    assert life(pipelines.PipelineLog(pipeline_run=yes.id)) == []
    assert life(pipelines.RejectStep(pipeline_run=no.id, step="ask")).state == "FAILED"
    assert life(pipelines.CancelPipeline(pipeline_run=gone.id)).state == "CANCELLED"
    again = life(pipelines.ResumePipeline(pipeline_run=no.id))
    life.until(pipelines.ShowPipelineRun(pipeline_run=again.id), lambda found: found.state == "WAITING")


def about_schedules(life: Life) -> None:
    """The clock."""
    act = msgspec.to_builtins(pipelines.RerunPipeline(pipeline="life"))
    life(schedules.AddSchedule(name="nightly", act=act, cron="0 3 * * *"))
    assert len(life(schedules.NextFirings(name="nightly", count=3))) == 3
    assert life(schedules.PauseSchedule(name="nightly")).paused
    assert len(life(schedules.ListSchedules())) == 1
    assert life(schedules.ListFirings(name="nightly")) == []
    life(schedules.PauseAll(until=time.time() + 600, reason="a new disk"))
    assert life(schedules.ShowMaintenance()).reason == "a new disk"
    life(schedules.ResumeAll())
    life(schedules.RemoveSchedule(name="nightly"))


def about_the_registry(life: Life, ana: Any) -> None:
    """Versions, gate, four eyes, Production."""
    rule = governance.GateRule(metric="accuracy", op=">=", limit=0.5)
    life(governance.SetGate(model="life", rules=(rule,)), by=ana)
    assert life(governance.ShowGate(model="life")).rules == (rule,)
    assert life(governance.JudgeGate(version="life@1")).ok
    life(registry.TagVersion(version="life@1", tags={"note": "first"}))
    life(registry.MoveStage(version="life@1", stage="Staging"))
    act = msgspec.to_builtins(registry.MoveStage(version="life@1", stage="Production"))
    refused = life(governance.Propose(act=act))
    assert life(governance.Reject(approval=refused.id, reason="not today"), by=ana).state == "REJECTED"
    asked = life(governance.Propose(act=act))
    assert life(governance.ShowApproval(approval=asked.id)).state == "WAITING"
    assert life(governance.Approve(approval=asked.id, evidence=asked.evidence), by=ana).state == "APPROVED"
    assert len(life(governance.ListApprovals(all=True))) == 2
    assert life(registry.ProductionAt(model="life", at=time.time())).version == "life@1"
    assert len(life(registry.ListTenures(model="life"))) == 1
    assert life(registry.ShowLineage(version="life@1"))
    assert [each.after for each in life(registry.ListStageMoves(model="life"))] == ["Staging", "Production"]
    assert life(registry.DiffVersions(after="life@2")).before == "life@1"
    assert len(life(registry.ListVersions(model="life"))) == 2
    assert life(registry.ListModels())[0].name == "life"
    life(registry.RemoveVersion(version="life@2"))
    life(registry.RestoreVersion(version="life@2"))
    version = life(registry.ShowVersion(version="life@1"))
    again = registry.RegisterVersion(
        model="again", digest=version.digest, size=version.size, format="onnx", signature=version.signature
    )
    assert life(again).number == 1
    digest, size = life.client.put(skops_file())
    golden = life.client.put(msgspec.json.encode({"inputs": {"x": [[1.0]]}, "outputs": {"value": [[2.0]]}}))[0]
    skops = registry.RegisterVersion("plain", digest, size, "auto", registry.Signature((), ()), golden=golden)
    assert life.client.ask(skops, timeout=180).format == "skops"  # its types are read with scikit-learn: slow to load
    job = life(registry.ConvertVersion(version="plain@1"))
    assert job.kind == "convert"
    life(jobs.CancelJob(job=job.id))


def about_data(life: Life) -> None:
    """A dataset by its hash."""
    digest, size = life.client.put(b"a,y\n1,2\n2,3\n")
    life(datasets.AddDataset(digest=digest, name="rows.csv", format="csv", size=size))
    assert life(datasets.ShowDataset(dataset=digest)).name == "rows.csv"
    after, more = life.client.put(b"a,y\n2,3\n4,5\n2,3\n")
    life(datasets.AddDataset(digest=after, name="rows.csv", format="csv", size=more))
    changed = life(datasets.CompareDatasets(before=digest, after=after))
    assert (changed.rows_before, changed.rows_after, changed.added, changed.removed) == (2, 3, 2, 1)
    assert len(life(datasets.ListDatasets())) >= 1
    rules = checks.RowRules(checks=(checks.DataCheck(check="not_null", columns=("a", "y")),))
    assert [one.ok for one in life(checks.CheckRows(digest=digest, rules=rules))] == [True, True]
    wine = pipelines.Definition(name="w", model="w", data=pipelines.DataSection(target="target", builtin="wine"))
    assert [step.name for step in life(pipelines.CheckPipeline(definition=wine))] == ["validate", "split"]


def about_features(life: Life) -> None:
    """A view, rows of it, a training set."""
    entity = features.Entity(name="customer", keys=(features.Key(name="k"),))
    amount = features.Feature(name="amount", kind="number")
    life(features.DefineView(name="usage", entities=(entity,), features=(amount,), event_time="at"))
    digest, _ = life.client.put(b"k,at,amount\na,2026-01-01,7\n")
    taken = life(features.AddRows(view="usage", digest=digest, format="csv"))
    assert life.until(jobs.ShowJob(job=taken.id), lambda found: found.state in OVER).state == "SUCCEEDED"
    assert life(features.ShowView(view="usage")).rows == 1 and len(life(features.ListViews())) == 1
    digest, _ = life.client.put(b"k,event_time\na,2026-01-02\n")
    joined = life(features.JoinFeatures(digest=digest, views=("usage",), time="event_time", format="csv"))
    ended = life.until(jobs.ShowJob(job=joined.id), lambda found: found.state in OVER)
    [made] = life(features.ListTrainingSets())
    assert life(features.ShowTrainingSet(set=ended.result["id"])) == made
    assert made.statuses == {"usage": {"PRESENT": 1}}
    made_online = life(online.Materialise(view="usage"))
    assert life.until(jobs.ShowJob(job=made_online.id), lambda found: found.state in OVER).state == "SUCCEEDED"
    assert life(online.PushRows(view="usage", rows=({"k": "b", "amount": 8},))).rows == 1
    looked = life(online.LookUp(view="usage", keys=({"k": "a"}, {"k": "b"}, {"k": "c"})))
    assert looked.values == ([7.0], [8.0], [None]) and looked.statuses == ("PRESENT", "PRESENT", "NOT_FOUND")
    assert life(online.MeasureReads(view="usage", entities=1, rounds=5)).found == 1
    [stands] = life(online.ShowOnline())
    assert (stands.generation.entities, stands.pushed, stands.late) == (1, 1, False)
    job = life(feature_checks.CheckParity(view="usage"))
    assert life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER).result["mismatches"] == 0
    about_feature_files(life, made)


def about_feature_files(life: Life, made: features.TrainingSet) -> None:
    """A view looked at, a set made again, two files made one, an entity forgotten."""
    job = life(feature_checks.MeasureView(view="usage"))
    ended = life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER)
    assert ended.result["rows"] == 2
    job = life(features.RebuildSet(set=made.id))
    ended = life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER)
    assert ended.result["output"] == made.digest
    digest, _ = life.client.put(b"k,at,amount\na,2026-01-03,8\n")
    taken = life(features.AddRows(view="usage", digest=digest, format="csv"))
    life.until(jobs.ShowJob(job=taken.id), lambda found: found.state in OVER)
    job = life(feature_files.CompactView(view="usage"))
    life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER)
    assert len(life(features.ShowView(view="usage")).parts) == 1
    who, _ = life.client.put(b'{"keys": {"k": "a"}, "salt": "s"}')
    asked = life(feature_files.ForgetEntity(entity=who, keys=("k",), reason="asked to"))
    life.until(jobs.ShowJob(job=asked.job), lambda found: found.state in OVER)
    [done] = life(feature_files.ListForgettings())
    assert (done.rows, done.sets) == (2, (made.id,))


def about_studies(life: Life) -> None:
    """A study of two objectives that is searched, gone on with, stopped; its winner in a pipeline."""
    definition = studies.StudyDefinition(
        name="search",
        objectives={"accuracy": "maximise", "log loss": "minimise"},
        space={"c": spaces.Parameter(kind="float", low=0.01, high=10.0, log=True)},
        data=pipelines.DataSection(target="target", builtin="iris"),
        budget=spaces.Budget(trials=3),
        rescore=spaces.Rescoring(top=1, seeds=1),
    )
    assert life(studies.CheckStudy(definition=definition)) == definition
    study = life(studies.StartStudy(definition=definition))
    assert life.until(studies.ShowStudy(study=study.id), lambda found: found.state in OVER).state == "SUCCEEDED"
    assert [each.id for each in life(studies.ListStudies(name="search"))] == [study.id]
    assert [each.number for each in life(studies.ListTrials(study=study.id))] == [0, 1, 2]
    front = life(studies.ParetoTrials(study=study.id))
    assert life(studies.BestTrials(study=study.id))[0].values[0] == front[0].values[0]
    run = life(studies.RegisterBest(study=study.id))
    assert life.until(pipelines.ShowPipelineRun(pipeline_run=run.id), lambda found: found.state in OVER).version
    life(studies.ResumeStudy(study=study.id, trials=1000))
    assert life(studies.StopStudy(study=study.id)).state == "CANCELLED"
    assert life(studies.RemoveStudy(study=study.id)).id == study.id


def ask_for_answers(life: Life) -> None:
    """A batch over rows of which one is no number: it is asked for, and says which."""
    names = [each.name for each in life(registry.ShowVersion(version="life@1")).signature.features]
    digest, _ = life.client.put(f"{','.join(names)}\n{','.join('much' for _ in names)}\n".encode())
    job = life(batches.StartBatch(version="life@1", digest=digest, format="csv"))
    ended = life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER)
    assert ended.state == "FAILED" and "'much' in row 0" in ended.error
    stream = life(streams.StartStream(model="life", input="ipc://in", output="ipc://out"))
    assert [each.id for each in life(streams.ListStreams(live=True))] == [stream.id]
    running = life.until(streams.ShowStream(stream=stream.id), lambda found: found.counts.note == "")
    assert running.input == "bind:ipc://in" and running.counts.waiting == 0
    assert life(streams.StopStream(stream=stream.id)).state == "STOPPED"


def about_serving(life: Life, ana: Any) -> None:
    """Traffic, its records, drift, int8, a canary that is called off."""
    life(deployments.Deploy(version="life@1"))
    life.until(deployments.ShowDeployment(endpoint="life"), lambda found: found.live == "life@1")
    serving = life.until(deployments.ShowServing(), lambda found: bool(found.hosts) and found.hosts[0].ready)
    life.until(deployments.ShowServing(), lambda found: found.hosts[0].epoch > 0)
    life(deployments.SetRecording(endpoint="life", default="keep"))
    batches = deployments.BatchingRule(max_batch=16, max_wait_ms=2.0)
    assert life(deployments.SetBatching(endpoint="life", batching=batches)).batching == batches
    ids = [predicted(serving.address, row) for row in rows(260, 3.0)]
    counted = predictions.CountPredictions(endpoint="life")
    life.until(counted, lambda found: sum(found.versions.values()) >= len(ids))
    first = min(each.at for each in life(predictions.ListPredictions(endpoint="life", limit=1000)))
    from_first = predictions.CountPredictions(endpoint="life", since=first)
    assert life(from_first).versions == life(counted).versions
    assert life(predictions.CountPredictions(endpoint="life", since=time.time() + 60)).versions == {}
    assert len(life(predictions.ListPredictions(endpoint="life", limit=5))) == 5
    assert life(predictions.ShowPrediction(prediction=ids[0])).version == "life@1"
    assert life(deployments.ListDeployments())[0].endpoint == "life"
    traffic = deployments.ShowTraffic(endpoint="life", window=60)
    life.until(traffic, lambda found: sum(sum(arm.requests) for arm in found.arms) == len(ids))
    about_outcomes(life, ids)
    about_retraining(life)
    job = life(monitoring.CheckDrift(endpoint="life", window=3600))
    assert life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER).state == "SUCCEEDED"
    drift = life(monitoring.ListDrift())[0]
    assert life(monitoring.ShowDrift(drift=drift.id)).verdict == "DRIFT"
    alert = life(monitoring.ListAlerts())[0]
    life(monitoring.AckAlert(alert=alert.id))
    life(monitoring.ResolveAlert(alert=alert.id))
    ask_for_answers(life)
    about_rehearsals(life)
    job = life(compression.Optimise(version="life@1"))
    life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER)
    assert len(life(compression.ListOptimisations())) <= 1
    life(registry.MoveStage(version="life@2", stage="Staging"))
    canary = deployments.StartCanary(version="life@2")
    asked = life(governance.Propose(act=msgspec.to_builtins(canary)))
    life(governance.Approve(approval=asked.id, evidence=asked.evidence), by=ana)
    life.asked.add(deployments.StartCanary)  # done by the approval, which carries it
    life.until(deployments.ShowDeployment(endpoint="life"), lambda found: found.canary is not None)
    about_drills(life)
    assert life(deployments.RollBack(endpoint="life", reason="enough")).canary is None
    about_trials(life, ana, serving.address)
    life(deployments.StopEndpoint(endpoint="life"))
    life(deployments.StopServing())


def about_retraining(life: Life) -> None:
    """A policy that is switched, asked for a retrain while its gate says nothing, and forgotten."""
    policy = life(ct.SetPolicy(model="life", pipeline="life", drift=ct.OnDrift(), accuracy=ct.OnAccuracy()))
    assert not policy.enabled
    assert life(ct.ShowPolicy(model="life")).triggers[0].state == "OFF"
    assert [each.model for each in life(ct.ListPolicies())] == ["life"]
    assert life(ct.SwitchPolicy(model="life", enabled=True)).enabled
    assert not life(ct.SwitchPolicy(model="life", enabled=False)).enabled
    for refused in (ct.ResumeTrigger(model="life"), ct.StartRetrain(model="life")):
        with pytest.raises(faults.Fault):
            life(refused)
        life.asked.add(type(refused))  # nothing is suppressed, and what is off begins nothing
    assert life(ct.RemovePolicy(model="life")).pipeline == "life"


def about_rehearsals(life: Life) -> None:
    """What was recorded, answered again by the version that answered it."""
    job = life(replays.StartReplay(version="life@1", window=3600, limit=100))
    assert life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER).state == "SUCCEEDED"
    [replay] = life(replays.ListReplays(version="life@1"))
    assert (replay.found.rows, replay.found.agreed) == (100, 100)
    assert life(replays.ShowReplay(replay=replay.id)) == replay


def about_drills(life: Life) -> None:
    """The rollback of the canary that runs, rehearsed."""
    job = life(drills.DrillRollback(endpoint="life", seconds=0.5, within=30))
    assert life.until(jobs.ShowJob(job=job.id), lambda found: found.state in OVER).state == "SUCCEEDED"
    [drill] = life(drills.ListDrills(endpoint="life"))
    assert (drill.to, drill.found.ok) == ("life@1", True), drill.found.words
    assert life(drills.ShowDrill(drill=drill.id)) == drill


def about_trials(life: Life, ana: Any, address: str) -> None:
    """A shadow that is shown a request, an A/B test and a bandit that another person agreed to."""
    shadow = life(trials.StartShadow(version="life@2"))
    life.until(trials.ShowTrial(endpoint="life"), lambda found: found.state == "RUNNING")
    assert [each.id for each in life(trials.ListTrials())] == [shadow.id]
    predicted(address, rows(1, 3.0)[0])
    assert life(trials.ReportShadow(endpoint="life")).shadow == "life@2"
    assert life(trials.StopTrial(endpoint="life")).state == "ENDED"
    compared = trials.StartAb(version="life@2", against="life@1", rule=trials.AbRule(metric="bought", effect=0.02))
    dealt = trials.StartBandit(version="life@2", against="life@1", rule=trials.BanditRule(metric="bought"))
    for act in (compared, dealt):
        asked = life(governance.Propose(act=msgspec.to_builtins(act)))
        life(governance.Approve(approval=asked.id, evidence=asked.evidence), by=ana)
        life.asked.add(type(act))  # done by the approval, which carries it
        life.until(trials.ShowTrial(endpoint="life"), lambda found: found.state == "RUNNING")
        assert life(trials.StopTrial(endpoint="life")).state == "ENDED"


def about_outcomes(life: Life, ids: list[str]) -> None:
    """Labels of some predictions, and what they say."""
    digest, _ = life.client.put(f"id,value\n{ids[0]},0\n{ids[1]},1\nnobody,1\n".encode())
    taken = life(outcomes.AddOutcomes(digest=digest))
    assert (taken.joined, taken.unknown, taken.endpoints) == (2, 1, ("life",))
    assert life(outcomes.ListUploads()) == [taken]
    arm = life(outcomes.ShowOutcomes(endpoint="life")).arms["life@1"]
    assert (arm.n, arm.late) == (2, 0)
    assert [(each.value, each.holds) for each in life(outcomes.ListValues(prediction=ids[1]))] == [("1", True)]


def about_hooks(life: Life) -> None:
    """A program that is told, tried, told again, paused and forgotten."""
    hook = life(hooks.AddHook(event="promote", target="exec:/bin/true", model="life")).id
    assert [each.id for each in life(hooks.ListHooks(model="life"))] == [hook]
    delivery = life(hooks.TestHook(hook=hook)).id
    shown = hooks.ShowDelivery(delivery=delivery)
    assert life.until(shown, lambda found: found.state != "WAITING").state == "MADE"
    assert life(hooks.Redeliver(delivery=delivery)).rounds == 1
    life.until(shown, lambda found: found.state == "MADE")
    assert [each.id for each in life(hooks.ListDeliveries(hook=hook))] == [delivery]
    assert life(hooks.PauseHook(hook=hook)).paused
    assert not life(hooks.ResumeHook(hook=hook)).paused
    assert life(hooks.RemoveHook(hook=hook)).made == 2
    assert life(hooks.ListHooks()) == []


def about_remotes(life: Life, there: Any, port: int) -> None:
    """Another deck under a name, a version sent to it, and a bundle that is taken."""
    token = str(there.home.secret_key("owner"))
    remote = life(remotes.AddRemote(name="prod", url=f"http://127.0.0.1:{port}", token_file=token, allow_private=True))
    assert life(remotes.ListRemotes()) == [remote]
    own = life(remotes.ShowIdentity())
    with there.client() as other:
        other.ask(remotes.TrustSender(key=own.key, name="life"))
    sent = life(remotes.SendVersion(version="life@Production", remote="prod"))
    over = life.until(remotes.ShowChange(change=sent.id), lambda found: found.state != "WAITING")
    assert (over.state, over.there) == ("DONE", "life@1"), over.why
    back = life(remotes.RollBackThere(remote="prod", endpoint="life"))
    over = life.until(remotes.ShowChange(change=back.id), lambda found: found.state != "WAITING")
    assert (over.state, over.fault) == ("FAILED", "NotFound")
    assert [each.id for each in life(remotes.ListChanges(remote="prod"))] == [back.id, sent.id]
    assert life(remotes.ShowRemote(remote="prod")).endpoints[0].live == "life@1"
    assert [each.state for each in life(remotes.ListReached())] == ["REACHABLE"]
    life(remotes.RemoveRemote(remote="prod"))
    assert life(remotes.TrustSender(key=own.key, name="self")) == life(remotes.ListSenders())[0]
    about_a_bundle(life, own)
    life(remotes.DistrustSender(name="self"))


def about_a_bundle(life: Life, own: Any) -> None:
    """One of our own, whose file is here."""
    version = life(registry.ShowVersion(version="life@1"))
    manifest = remotes.Manifest(
        form=remotes.FORM,
        receiver=own.deck,
        serial=int(time.time() * 1000),
        at=time.time(),
        sent_by="ana",
        model="came",
        version="life@1",
        semver="1.0.0",
        digest=version.digest,
        size=version.size,
        format="onnx",
        signature=version.signature,
    )
    text = msgspec.json.encode(manifest).decode()
    bundle = {"manifest": text, "signature": sign(life.client.home.sender_key.read_bytes(), text), "key": own.key}
    plan = life(remotes.CheckBundle(**bundle))
    assert plan.files == {version.digest: (version.size, version.size)}
    assert life(remotes.TakeBundle(**bundle)).version == "came@1"
    assert [each.id for each in life(remotes.ListBundles())] == [plan.id]


def about_retention(life: Life) -> None:
    """Limits, a plan of others, a hold that is set and released."""
    limit = life(retention.SetRetention(kind="points", size=50_000_000, days=7))
    assert (limit.size, limit.rows, limit.days) == (50_000_000, 1_000_000_000, 7)
    hold = life(retention.HoldSamples(on="endpoint", name="life", reason="a dispute"))
    assert life(retention.ListHolds()) == [hold]
    kept = {each.kind: each for each in life(retention.ShowRetention())}
    assert kept["predictions"].rows >= 260 and kept["predictions"].held > 0 and kept["points"].limit_days == 7
    assert life(retention.PlanPurge(kind="predictions", rows=1000)).rows == 0
    assert life(retention.ReleaseHold(hold=hold.id)) == hold


def about_people_and_the_store(life: Life, home: Any) -> None:
    """Keys, roles, audit, status, backup."""
    public = keys.make(home, "dora")
    life(people.AddKey(public=public, person="dora", roles=("viewer",)))
    life(people.SetRoles(person="dora", roles=("operator",)))
    assert {person.name for person in life(people.ListPeople())} >= {"dora", "ana"}
    assert life(people.RevokeKey(public=public)).revoked is not None
    assert public in {key.public for key in life(people.ListKeys())}
    assert life(people.WhoAmI()).profile == "team"
    assert life(store.ShowStatus()).profile == "team"
    assert life(store.Diagnose())
    assert len(life(store.Replay(after=0, limit=5))) == 5
    head = life(governance.ShowHead())
    assert life(governance.VerifyAudit(seq=head.seq, hash=head.hash)).ok
    assert life(governance.ListAudit(limit=3))[0].seq >= head.seq
    assert life(store.Backup()).seq >= head.seq
    assert life(store.CollectGarbage(dry_run=True)).dry_run
    assert life(transfer.Export()).counts["runs"] > 0
    assert life(transfer.Import(records={}, dry_run=True)).points == 0


def test_every_message_is_asked_over_a_socket_and_answered_as_declared(team: Any, absent: Any) -> None:
    """A message that is added without a place here fails by its name."""
    port = free_port()
    absent.start("--remote", f"127.0.0.1:{port}")
    with team.client(timeout=30) as owner, team.client("ana") as ana:
        life = Life(owner)
        about_runs(life)
        about_training(life, ana)
        about_schedules(life)
        about_the_registry(life, ana)
        about_data(life)
        about_features(life)
        about_studies(life)
        about_serving(life, ana)
        about_hooks(life)
        about_remotes(life, absent, port)
        about_retention(life)
        about_people_and_the_store(life, team.home)
    spoken_by_the_daemon = {kind for kind in messages.ASKABLE if kind.role == "daemon"}
    assert sorted(tag_of(kind) for kind in set(messages.ASKABLE) - life.asked - spoken_by_the_daemon) == []


PLAIN = {"str": "x", "int": 1, "float": 1.0, "bool": True, "dict": {}, "tuple": (), "list": [], "bytes": b""}


def example(kind: Any) -> Any:
    """Something of every type, for messages that are refused before they are looked at."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return kind(**{each.name: example(hints[each.name]) for each in msgspec.structs.fields(kind) if each.required})
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if type(None) in get_args(kind):
        return None
    return PLAIN[getattr(get_origin(kind) or kind, "__name__", "")]


@pytest.mark.parametrize("kind", [each for each in messages.ASKABLE if each.role == "daemon"], ids=tag_of)
def test_what_only_the_daemon_speaks_is_forbidden_to_the_owner(daemon: Any, kind: Any) -> None:
    """Nobody can end a job, admit a version or judge a canary by hand."""
    with daemon.client() as client, pytest.raises(faults.Forbidden):
        client.ask(example(kind))


@pytest.mark.parametrize("kind", faults.MEANINGS, ids=lambda kind: kind.__name__)
def test_a_fault_crosses_the_wire_as_the_class_it_was(kind: type[faults.Fault]) -> None:
    sent = kind("got x, expected y", field="f", nearest=("a", "b"), next="do this")
    back = faults.raised(decode(encode(sent.record()), faults.FaultRecord))
    assert type(back) is kind and back.line() == sent.line()


class Raw:
    """A socket with the owner's key that sends what it is told."""

    def __init__(self, home: Any) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        secret = home.secret_key("owner").read_bytes()
        self.socket.curve_secretkey, self.socket.curve_publickey = secret, zmq.curve_public(secret)
        self.socket.curve_serverkey = home.server_public.read_bytes()
        self.socket.connect(home.ask_address)

    def __call__(self, *frames: bytes) -> Answer:
        self.socket.send_multipart(frames)
        assert self.socket.poll(30_000), "no answer"
        answer: Answer = decode(self.socket.recv(), Answer)
        return answer

    def close(self) -> None:
        """Let go."""
        self.socket.close(0)
        self.context.term()


def asked(body: Any, protocol: int = PROTOCOL, request: str = "r") -> bytes:
    """A request as bytes."""
    return encode(Ask(protocol, request, msgspec.Raw(encode(body))))


def packed(body: bytes) -> bytes:
    """A request with these bytes as its body, which need not be a message."""
    return encode(Ask(PROTOCOL, "r", msgspec.Raw(body)))


DEEP = b"\x91" * 50_000 + b"\x01"
BAD: list[tuple[str, tuple[bytes, ...], str, str]] = [
    ("an unknown word", (asked({"type": "runs.lst"}),), "NotFound", "runs.list"),
    ("no word", (asked({}),), "Invalid", "type"),
    ("another type of field", (asked({"type": "runs.show", "run": 7}),), "Invalid", "str"),
    ("a field too few", (asked({"type": "runs.show"}),), "Invalid", "run"),
    ("an older protocol", (asked({"type": "store.status"}, protocol=0),), "Protocol", "expected 1"),
    ("a newer protocol", (asked({"type": "store.status"}, protocol=99),), "Protocol", "expected 1"),
    ("no id", (asked({"type": "store.status"}, request=""),), "Invalid", "id"),
    ("an endless id", (asked({"type": "store.status"}, request="i" * 500),), "Invalid", "id"),
    ("three frames", (asked({"type": "store.status"}), b"", b""), "Invalid", "frames"),
    ("no msgpack", (b"\xc1\xc1\xc1",), "Invalid", ""),
    ("a word that is a number", (asked({"type": 7}),), "Invalid", "type"),
    ("an event", (asked({"type": "runs.started"}),), "Invalid", "type"),
    ("two words", (packed(b"\x82\xa4type\xa9runs.list\xa4type\xa9runs.show"),), "Invalid", "type"),
    ("no map", (asked(["runs.list"]),), "Invalid", "type"),
    ("a key that is no text", (packed(b"\x82\xa4kind\xa9runs.list\xa2\xff\xfe\xc0"),), "Invalid", "type"),
    ("a field as deep as can be", (packed(b"\x82\xa4type\xa9runs.show\xa3run" + DEEP),), "Invalid", "recursion"),
    ("nothing but depth", (packed(DEEP),), "Invalid", "recursion"),
]


@pytest.mark.parametrize(("frames", "kind", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_wrong_request_is_a_fault_and_the_daemon_goes_on(
    daemon: Any, frames: tuple[bytes, ...], kind: str, said: str
) -> None:
    raw = Raw(daemon.home)
    try:
        fault = raw(*frames).fault
        assert fault is not None and fault.kind == kind
        assert said in " ".join((fault.message, fault.field or "", *fault.nearest))
        assert raw(asked({"type": "people.who_am_i"})).fault is None
    finally:
        raw.close()


def test_every_message_declares_its_answer_and_says_what_it_is() -> None:
    for kind in messages.ASKABLE:
        assert answer_type(kind) is not ...
        assert kind.__doc__ and kind.__doc__.strip().endswith((".", "?")), tag_of(kind)


def test_json_lines_are_answered_line_by_line_good_and_bad(daemon: Any) -> None:
    """`qd ask -`: what another language pipes in."""
    lines = ['{"type":"people.who_am_i","id":"1"}', "no json", '{"type":"runs.shw"}', '{"type":"runs.list"}']
    done = daemon.qd("ask", "-", stdin="\n".join(lines) + "\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(answers) == 4
    assert [("fault" in answer) for answer in answers] == [False, True, True, False]
    assert "runs.show" in answers[2]["fault"]["nearest"]
    assert all(answer["schema_version"] == 1 for answer in answers)
