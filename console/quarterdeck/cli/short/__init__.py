"""The short forms: what people do all day, in as few words as it takes."""

from __future__ import annotations

from collections.abc import Callable

from quarterdeck.cli.short.checking import data_group
from quarterdeck.cli.short.deploying import (
    batch,
    canary,
    deploy,
    deployment_group,
    drift,
    optimise,
    rollback,
    serve,
    serving_group,
)
from quarterdeck.cli.short.explaining import compare, diff, lineage, model_group, version_group
from quarterdeck.cli.short.featuring import features_group
from quarterdeck.cli.short.hooking import hook_group
from quarterdeck.cli.short.keeping import (
    ask,
    audit_group,
    backup,
    export,
    gc,
    keys_group,
    restore,
    service_group,
    take_in,
    undo,
)
from quarterdeck.cli.short.labelling import labels_group, outcome_group
from quarterdeck.cli.short.making import Made
from quarterdeck.cli.short.pipelining import pipeline_group
from quarterdeck.cli.short.registering import approve, promote, register, registry_group, reject
from quarterdeck.cli.short.rehearsing import drill_group, gate, replay
from quarterdeck.cli.short.remoting import remote_group
from quarterdeck.cli.short.retaining import hold_group, retention, retention_group
from quarterdeck.cli.short.retraining import ct_group
from quarterdeck.cli.short.scheduling import (
    jobs,
    jobs_group,
    pause,
    resume,
    schedule_group,
    schedules,
)
from quarterdeck.cli.short.streaming import stream
from quarterdeck.cli.short.tracking import doctor, run_group, runs, status
from quarterdeck.cli.short.training import quickstart
from quarterdeck.cli.short.trying import ab, bandit, shadow
from quarterdeck.cli.short.tuning import tune_group

__all__ = ["ALONE", "COMMANDS", "GROUPS", "HELP", "runs"]

COMMANDS: dict[str, Made] = {
    "status": status,
    "doctor": doctor,
    "quickstart": quickstart,
    "compare": compare,
    "diff": diff,
    "lineage": lineage,
    "register": register,
    "promote": promote,
    "approve": approve,
    "reject": reject,
    "deploy": deploy,
    "serve": serve,
    "canary": canary,
    "shadow": shadow,
    "ab": ab,
    "bandit": bandit,
    "rollback": rollback,
    "replay": replay,
    "gate": gate,
    "drift": drift,
    "optimise": optimise,
    "batch": batch,
    "stream": stream,
    "pause": pause,
    "resume": resume,
    "backup": backup,
    "restore": restore,
    "undo": undo,
    "gc": gc,
    "export": export,
    "import": take_in,
    "ask": ask,
}
ALONE: dict[str, Made] = {"retention": retention, "schedules": schedules, "jobs": jobs}
"""What a noun does when no verb follows."""
GROUPS: dict[str, Callable[[], dict[str, Made]]] = {
    "run": run_group,
    "pipeline": pipeline_group,
    "tune": tune_group,
    "registry": registry_group,
    "version": version_group,
    "model": model_group,
    "data": data_group,
    "features": features_group,
    "ct": ct_group,
    "labels": labels_group,
    "outcome": outcome_group,
    "audit": audit_group,
    "serving": serving_group,
    "drill": drill_group,
    "deployment": deployment_group,
    "keys": keys_group,
    "hook": hook_group,
    "remote": remote_group,
    "service": service_group,
    "retention": retention_group,
    "hold": hold_group,
    "schedule": schedule_group,
    "schedules": schedule_group,
    "jobs": jobs_group,
}
HELP = {
    "status": "the daemon in one record",
    "doctor": "what is wrong, and what to do about it",
    "quickstart": "from a CSV file to a registered model",
    "runs": "runs, and every act on them",
    "run": "show one run, its points, or remove it",
    "compare": "runs side by side",
    "diff": "what differs between two runs or versions",
    "lineage": "what a version came from, what came of it",
    "version": "show, compare, fetch, remove or restore one version",
    "model": "show one model with its versions",
    "register": "a model file as a new version",
    "promote": "move a version to a stage",
    "approve": "approve what somebody else asked for",
    "reject": "say no, with a reason",
    "deploy": "give an endpoint to a version",
    "serve": "deploy a version and say where it answers",
    "canary": "try a version on a share of live traffic",
    "shadow": "show a version copies of the requests",
    "ab": "compare outcomes of two versions",
    "bandit": "deal requests by what each version earned",
    "rollback": "give the traffic back",
    "replay": "answer recorded traffic again with another version",
    "drill": "rehearse a rollback in a sandbox",
    "gate": "what a version has to show before Production",
    "deployment": "what each version answered over time",
    "drift": "compare live traffic with the training rows",
    "ct": "when a model is retrained by itself, and why",
    "data": "check a file of rows by rules, keep one",
    "features": "values of entities over time, and training sets of them",
    "labels": "the true labels of predictions, and how often each version was right",
    "outcome": "what came of predictions, as numbers",
    "optimise": "make an int8 child and measure it",
    "batch": "answer a whole file of rows",
    "stream": "answer messages as they come, at least once each",
    "pipeline": "run a pipeline file, look at its runs, go on with one",
    "tune": "search the best parameters, honestly",
    "audit": "verify the journal, show its head",
    "serving": "the serving side, without the daemon too",
    "keys": "make keys for people",
    "hook": "run or tell something when an event happens",
    "remote": "other decks that versions are sent to",
    "schedule": "acts by the clock, or when something happens",
    "pause": "stop a schedule; --all for maintenance",
    "resume": "let it fire again",
    "service": "systemd units",
    "backup": "the store into one file",
    "restore": "a backup into an empty home",
    "undo": "take back your own last act",
    "retention": "how much is kept of predictions and points",
    "hold": "keep samples whatever the limits say",
    "gc": "free the disk of what was removed",
    "export": "everything tracked and registered, in an open form",
    "import": "what was exported, into this store",
    "ask": "JSON lines in, JSON lines out",
}
