"""A job's process: reads `spec.json`, does what its kind says, leaves `result.json`; outlives the daemon."""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from quarterdeckd.pipeline.ending import StepEnded
from quarterdeckd.pipeline.explaining import logged
from quarterdeckd.pipeline.progress import Report
from quarterdeckd.pipeline.watch import Outcome, Watch, set_limits
from quarterstore.records.admission import AdmissionSpec
from quarterstore.records.batches import BatchSpec
from quarterstore.records.compression import OptimiseSpec
from quarterstore.records.conversions import ConvertSpec
from quarterstore.records.drills import DrillSpec
from quarterstore.records.feature_checks import ParitySpec, StatsSpec
from quarterstore.records.feature_files import CompactSpec, ForgetSpec
from quarterstore.records.features import JoinSpec, RowsSpec
from quarterstore.records.jobs import JobKind, JobResult, JobSpec
from quarterstore.records.monitoring import DriftSpec
from quarterstore.records.names import drawn
from quarterstore.records.online import MaterialiseSpec
from quarterstore.records.pipelines import PipelineSpec
from quarterstore.records.replays import ReplaySpec
from quarterstore.records.streams import StreamSpec
from quarterstore.records.studies import StudySpec

KINDS: dict[str, tuple[str, type]] = {
    "pipeline": ("quarterdeckd.pipeline.run", PipelineSpec),
    "drift": ("quarterdeckd.pipeline.drift", DriftSpec),
    "optimise": ("quarterdeckd.compression.quantise", OptimiseSpec),
    "admission": ("quarterdeckd.serving.admission", AdmissionSpec),
    "convert": ("quarterdeckd.pipeline.convert", ConvertSpec),
    "batch": ("quarterdeckd.serving.batch", BatchSpec),
    "feature_rows": ("quarterdeckd.features.rows", RowsSpec),
    "training_set": ("quarterdeckd.features.training_set", JoinSpec),
    "materialise": ("quarterdeckd.features.materialise", MaterialiseSpec),
    "compaction": ("quarterdeckd.features.compaction", CompactSpec),
    "feature_stats": ("quarterdeckd.features.stats", StatsSpec),
    "feature_parity": ("quarterdeckd.features.parity", ParitySpec),
    "forgetting": ("quarterdeckd.features.forgetting", ForgetSpec),
    "stream": ("quarterdeckd.serving.stream", StreamSpec),
    "replay": ("quarterdeckd.serving.replay", ReplaySpec),
    "drill": ("quarterdeckd.serving.drill", DrillSpec),
    "study": ("quarterdeckd.pipeline.tuning.study", StudySpec),
}
"""Kind of job -> the module whose `run(spec, report)` does it, and the record it is given. By name, so that a drift
job loads no torch (2.2 s here) and the floors stay apart."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
FORKING: tuple[JobKind, ...] = ("pipeline", "study")
"""Kinds that fork what they do, which takes a process of one thread: they beat, and keep limits, themselves."""
EVERY_CORE = ("batch", "materialise", "training_set", "compaction")
"""Kinds whose rows Polars reads and writes on every core, behind whatever else runs (they are nice)."""


def set_threads(kind: str, environ: Any = os.environ) -> int:
    """Threads of every numeric library, from `QD_JOB_THREADS` (default 1), before any of them is loaded."""
    threads = max(1, int(environ.get("QD_JOB_THREADS", "1")))
    for name in THREADS:
        environ[name] = str(threads)
    if kind in EVERY_CORE:
        environ["POLARS_MAX_THREADS"] = str(os.cpu_count() or 1)
    return threads


def carry_out(spec: JobSpec, report: Report) -> dict[str, Any]:
    """Do the work of one spec; raises a `Fault` or whatever the work raised."""
    module, kind = KINDS[spec.kind]
    asked: Any = msgspec.convert(spec.spec, kind)
    result = importlib.import_module(module).run(asked, report)
    plain: dict[str, Any] = msgspec.to_builtins(result)
    return plain


def work(folder: Path) -> JobResult:
    """Run the job of a folder to its result; never raises."""
    try:
        spec = msgspec.json.decode((folder / "spec.json").read_bytes(), type=JobSpec)
        with Report(folder / "progress.jsonl") as report:
            return JobResult(ok=True, result=carry_out(spec, report))
    except StepEnded as ended:  # what it died of is in the step's own log
        return JobResult(ok=False, error=str(ended), lost=ended.lost)
    except BaseException as error:  # a job's end is always a result: SystemExit of user code included
        return JobResult(ok=False, error=logged(error))


def claim() -> bool:
    """Hold the job's folder for as long as this process lives, with the pid inside, so that no job runs twice: a daemon
    that died between starting a job and noting it finds who holds it. False when another process does."""
    descriptor = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return True


def main(argv: list[str]) -> int:
    """`python -m quarterdeckd.pipeline.worker JOBDIR`; 0 when the job succeeded, else 1."""
    if len(argv) != 2 or not (Path(argv[1]) / "spec.json").is_file():
        print("usage: python -m quarterdeckd.pipeline.worker JOBDIR (a folder with spec.json)", file=sys.stderr)
        return 2
    folder = Path(argv[1]).absolute()
    os.chdir(folder)
    if not claim():
        print("another process does this job already", file=sys.stderr)
        return 3
    outcome = Outcome(folder)
    try:
        spec = msgspec.json.decode((folder / "spec.json").read_bytes(), type=JobSpec)
    except (msgspec.DecodeError, OSError) as error:
        outcome.settle(JobResult(ok=False, error=f"spec.json: {drawn(str(error), longest=300)}"))
        return 1
    set_threads(spec.kind)
    set_limits(spec.limits)
    if spec.kind not in FORKING:
        watch = Watch(outcome, spec.limits)
        signal.signal(signal.SIGTERM, watch.on_signal)
        watch.start()
    result = work(folder)
    settled = outcome.settle(result)
    sys.stdout.flush()
    return 0 if settled.ok else 1


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of user code or of a numeric library must not hold a finished job open
