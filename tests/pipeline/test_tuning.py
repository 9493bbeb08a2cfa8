"""A study's job as the daemon starts it: real processes that ask, run, prune, hang, are killed and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from quarterstore.records import jobs, studies
from quarterstore.records.pipelines import Definition
from quarterstore.records.spaces import TuneSection
from quarterstore.shelf.artefacts import Artefacts

ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
TRIVIAL = "def objective(trial):\n    return (trial.params['x'] - 3) ** 2\n"
X: dict[str, Any] = {"x": {"kind": "float", "low": -10, "high": 10}}


def definition(**more: Any) -> studies.StudyDefinition:
    fields = {
        "name": "s",
        "objectives": {"loss": "minimise"},
        "space": X,
        "objective": "objective.py:objective",
        "budget": {"trials": 20},
        "rescore": {"top": 1, "seeds": 2},
    }
    return msgspec.convert(fields | more, studies.StudyDefinition)


class Job:
    """The folder of a study's job, started as often as it takes."""

    def __init__(
        self, folder: Path, code: str = TRIVIAL, data: str | None = None, rows: Any = None, **more: Any
    ) -> None:
        self.folder, self.kept = folder, folder / "kept"
        folder.mkdir(exist_ok=True)
        (folder / "store").mkdir()
        (folder / "objective.py").write_text(code)
        digest, _ = Artefacts(folder / "store", folder / "store").adopt(folder / "objective.py")
        sources = {"objective.py": digest}
        self.spec = studies.StudySpec(
            "study-1", definition(data=rows, **more), str(self.kept), data, sources, str(folder / "store")
        )
        self.count = 0

    def start(self) -> subprocess.Popen[bytes]:
        self.count += 1
        job = self.folder / f"job{self.count}"
        job.mkdir()
        spec = jobs.JobSpec("job-1", "study", msgspec.to_builtins(self.spec))
        (job / "spec.json").write_bytes(msgspec.json.encode(spec))
        command = [sys.executable, "-m", "quarterdeckd.pipeline.worker", str(job)]
        with (job / "log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def run(self) -> studies.StudyResult:
        process = self.start()
        process.wait(60)
        found = self.result()
        assert found.ok, (found.error, (self.folder / f"job{self.count}" / "log").read_text()[-2000:])
        return msgspec.convert(found.result, studies.StudyResult)

    def result(self) -> jobs.JobResult:
        return msgspec.json.decode((self.folder / f"job{self.count}" / "result.json").read_bytes(), type=jobs.JobResult)

    def trials(self) -> list[studies.StudyTrial]:
        path = self.kept / "trials.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        found = [msgspec.json.decode(line, type=studies.StudyTrial) for line in lines]
        return sorted(found, key=lambda trial: trial.number)

    def until(self, count: int) -> None:
        """Wait until so many trials ended."""
        deadline = time.monotonic() + 30
        while len(self.trials()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def bare(trials: list[studies.StudyTrial]) -> list[Any]:
    """Trials without the time they took."""
    return [(each.number, each.state, each.params, each.values, each.curve) for each in trials]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


HELD = "import os, time\n" + TRIVIAL.replace(
    "    return", "    while trial.number >= 8 and not os.path.exists(GO):\n        time.sleep(0.01)\n    return"
)
"""From the ninth trial on each waits for a file."""


def test_one_worker_and_one_seed_give_the_same_trials_also_over_a_kill(tmp_path: Path) -> None:
    go = tmp_path / "go"
    code = f"GO = {str(go)!r}\n{HELD}"
    go.touch()
    whole = Job(tmp_path / "whole", code)
    result = whole.run()
    assert not result.order_dependent and result.complete == 20
    go.unlink()
    killed = Job(tmp_path / "killed", code)
    process = killed.start()
    killed.until(8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = killed.trials()
    assert len(kept) == 8
    go.touch()
    again = killed.run()
    assert bare(killed.trials()) == bare(whole.trials())
    assert killed.trials()[: len(kept)] == kept, "trials that ended were run again"
    assert again.complete == 20 and again.best[0].params == result.best[0].params


def test_several_workers_give_every_number_once_and_say_that_order_matters(tmp_path: Path) -> None:
    job = Job(tmp_path, budget={"trials": 60, "workers": 4})
    result = job.run()
    assert [trial.number for trial in job.trials()] == list(range(60))
    assert result.order_dependent and "order-dependent" in result.words
    assert abs(result.best[0].params["x"] - 3) < 2


BREAKS = "def objective(trial):\n    raise ValueError('no luck' if trial.params['x'] < 8 else 'too much')\n"


def test_a_study_without_a_trial_that_ended_well_says_what_most_failed_of(tmp_path: Path) -> None:
    job = Job(tmp_path, BREAKS, budget={"trials": 12})
    words = job.run().words
    errors = [trial.error for trial in job.trials()]
    count = sum("no luck" in str(error) for error in errors)
    assert 6 < count <= 12
    assert (
        words.startswith(f"12 trials, none ended well: 0 pruned, 12 failed; {count} of them: ") and "no luck" in words
    )


TELLS = "import os\n" + TRIVIAL.replace("    return", "    open('pids', 'a').write(f'{os.getpid()} ')\n    return")


def test_workers_are_used_again_and_the_journal_is_never_theirs(tmp_path: Path) -> None:
    job = Job(tmp_path, TELLS, budget={"trials": 30, "workers": 2}, rescore={"top": 0})
    job.run()
    pids = (job.folder / "job1" / "pids").read_text().split()
    assert len(pids) == 30 and len(set(pids)) == 2
    workers = {json.loads(line).get("worker_id") for line in (job.kept / "optuna.log").read_text().splitlines()}
    assert len(workers) == 1, "somebody else than the owner wrote into the journal"


def test_optuna_itself_opens_the_journal(tmp_path: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    job = Job(tmp_path)
    job.run()
    found = optuna.load_study(
        study_name="study-1", storage=JournalStorage(JournalFileBackend(str(job.kept / "optuna.log")))
    )
    assert [trial.params["x"] for trial in found.trials] == [trial.params["x"] for trial in job.trials()]


HANGS = """
import subprocess, time
def objective(trial):
    if trial.number == 2:
        children = [subprocess.Popen(words) for words in (["sleep", "600"], ["setsid", "sleep", "601"])]
        open("children", "w").write(" ".join(str(child.pid) for child in children))
        time.sleep(600)
    return trial.params["x"]
"""


def test_a_trial_that_hangs_is_ended_in_time_with_all_it_started(tmp_path: Path) -> None:
    job = Job(tmp_path, HANGS, budget={"trials": 6, "trial_seconds": 4.0})
    result = job.run()
    hung = job.trials()[2]
    assert hung.state == "FAILED" and "longer than its limit of 4 s" in str(hung.error)
    assert 4.0 <= hung.seconds < 60.0
    assert (result.complete, result.failed) == (5, 1)
    children = (job.folder / "job1" / "children").read_text().split()
    assert len(children) == 2 and not any(alive(int(child)) for child in children)


def ended_for_its_memory(folder: Path, code: str) -> None:
    """Trial 1 of three is, soon after it holds more than it may; the others go on."""
    job = Job(folder, code, budget={"trials": 3, "trial_memory": 700 << 20})
    result = job.run()
    assert (result.complete, result.failed) == (2, 1)
    assert "memory: got" in str(job.trials()[1].error) and job.trials()[1].seconds < 60


def test_a_trial_that_eats_is_ended_and_its_worker_replaced(tmp_path: Path) -> None:
    code = """
import time
def objective(trial):
    if trial.number == 1:
        held = bytearray(b"x" * (900 << 20))
        time.sleep(600)
    return trial.params["x"]
"""
    ended_for_its_memory(tmp_path, code)


def test_what_a_trial_starts_counts_for_its_memory(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
def objective(trial):
    if trial.number == 1:
        eats = "held = bytearray(b'x' * (900 << 20)); import time; time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", eats], start_new_session=True)
        time.sleep(600)
    return trial.params["x"]
"""
    ended_for_its_memory(tmp_path, code)


def test_a_study_forks_its_workers_from_a_process_of_one_thread(tmp_path: Path) -> None:
    code = """
import os
def objective(trial):
    return len(os.listdir(f"/proc/{os.getppid()}/task"))
"""
    job = Job(tmp_path, code, budget={"trials": 3})
    assert job.run().complete == 3 and {trial.values for trial in job.trials()} == {(1.0,)}
    warm = """
import os, sys
from quarterdeckd.pipeline.tuning import study
study._warm(study.StudyDefinition(name="s", objectives={}, space={}))
print(len(os.listdir("/proc/self/task")), "polars" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", warm], capture_output=True, text=True, env={**os.environ, **ONE})
    assert ran.stdout.split() == ["1", "False"], ran.stderr


def test_no_trial_is_begun_after_the_time_of_a_study(tmp_path: Path) -> None:
    code = "import time\n" + TRIVIAL.replace("    return", "    time.sleep(0.2)\n    return")
    job = Job(tmp_path, code, budget={"trials": 1000, "within": 3.0})
    result = job.run()
    assert 1 <= result.complete < 20 and result.failed == 0
    job.spec = msgspec.structs.replace(job.spec, definition=definition(budget={"trials": result.complete + 2}))
    assert job.run().complete == result.complete + 2


def test_a_worker_that_is_killed_runs_its_trial_again_once(tmp_path: Path) -> None:
    code = """
import os
def objective(trial):
    if trial.number == 1 and not os.path.exists("once"):
        open("once", "w").close()
        os.kill(os.getpid(), 9)
    if trial.number == 3:
        os.kill(os.getpid(), 11)
    return trial.params["x"]
"""
    job = Job(tmp_path, code, budget={"trials": 6})
    job.run()
    trials = job.trials()
    assert [trial.state for trial in trials] == ["COMPLETE"] * 3 + ["FAILED"] + ["COMPLETE"] * 2
    assert "SIGSEGV" in str(trials[3].error)


def test_what_an_objective_does_wrong_fails_its_trial_and_no_other(tmp_path: Path) -> None:
    code = """
import sys
def objective(trial):
    if trial.number == 0:
        raise ValueError("no such thing")
    if trial.number == 1:
        sys.exit(3)
    return [1.0, float("nan"), "much", (1.0, 2.0), None, 1.0][trial.number - 2 if trial.number < 7 else 5]
"""
    job = Job(tmp_path, code, budget={"trials": 9})
    result = job.run()
    errors = [str(trial.error) for trial in job.trials()]
    words = ("line 5: ValueError: no such thing", "sys.exit(3)", "None", "nan", "much", "2 values", "None")
    assert (result.complete, result.failed) == (3, 6)
    for error, expected in zip(errors, words, strict=False):
        assert expected in error


def test_a_file_without_the_objective_ends_the_study_before_a_trial(tmp_path: Path) -> None:
    job = Job(tmp_path, "def other(trial):\n    return 1\n")
    job.start().wait(60)
    found = job.result()
    assert not found.ok and "objective: got no function objective, expected one of other" in str(found.error)
    assert job.trials() == []


def test_pruned_trials_keep_their_curves(tmp_path: Path) -> None:
    code = """
def objective(trial):
    for step in range(1, 30):
        trial.report(step, trial.params["x"] ** 2 + 1 / step)
        if trial.should_prune():
            raise trial.Pruned
    return trial.params["x"] ** 2
"""
    job = Job(tmp_path, code, pruner="asha", budget={"trials": 40})
    result = job.run()
    pruned = [trial for trial in job.trials() if trial.state == "PRUNED"]
    assert result.pruned == len(pruned) > 5
    for trial in pruned:
        assert 1 <= len(trial.curve) < 29 and trial.values == ()
        for step, value in trial.curve:
            assert value == pytest.approx(trial.params["x"] ** 2 + 1 / step)
    assert abs(result.best[0].params["x"]) < 1


def test_two_objectives_give_a_front_and_nothing_beats_it(tmp_path: Path) -> None:
    code = "def objective(trial):\n    x = trial.params['x']\n    return x ** 2, (x - 2) ** 2\n"
    job = Job(tmp_path, code, objectives={"a": "minimise", "b": "minimise"}, budget={"trials": 80})
    result = job.run()
    front = studies.pareto(job.spec.definition, job.trials())
    assert len(front) > 3 and all(-0.5 < trial.params["x"] < 2.5 for trial in front)
    assert result.best[0].trial == front[0].number


def test_conditional_parameters_come_up_only_where_they_hold(tmp_path: Path) -> None:
    space = {
        "depth": {"kind": "int", "low": 1, "high": 3, "when": {"kind": ["tree", "forest"]}},
        "kind": {"kind": "choice", "choices": ["tree", "forest", "line"]},
        "leaf": {"kind": "int", "low": 10, "high": 50, "step": 10, "when": {"depth": 3}},
        "hidden": {"kind": "choice", "choices": [[8], [8, 8]], "when": {"kind": "line"}},
    }
    code = (
        "def objective(trial):\n    assert type(trial.params.get('hidden', [])) is list\n    return len(trial.params)\n"
    )
    job = Job(tmp_path, code, space=space, sampler="random", budget={"trials": 60})
    result = job.run()
    assert result.failed == 0
    for trial in job.trials():
        params = trial.params
        assert ("depth" in params) == (params["kind"] != "line")
        assert ("leaf" in params) == (params.get("depth") == 3)
        assert params.get("leaf", 10) in (10, 20, 30, 40, 50)
        assert params.get("hidden") in ([8], [8, 8], None) and ("hidden" in params) == (params["kind"] == "line")
    assert set(result.importance) == set(space) and sum(result.importance.values()) == pytest.approx(1, abs=1e-3)


TRAINS = """
import json
from sklearn.linear_model import Ridge
def train(frame, target, params, log):
    with open("seen", "a") as file:
        file.write(json.dumps(sorted(frame["x"].to_list())) + "\\n")
    return Ridge(alpha=params["alpha"]).fit(frame["x"].to_numpy().reshape(-1, 1), frame[target].to_numpy())
"""


def test_a_split_by_hash_is_dealt_anew_for_the_search(tmp_path: Path) -> None:
    """The same hash would hold out none of the rows that it left to learn from."""
    rows = pl.DataFrame(
        {"who": [f"k{n}" for n in range(200)], "x": [n / 2 for n in range(200)], "y": [n * 1.5 for n in range(200)]}
    )
    rows.write_csv(tmp_path / "rows.csv")
    job = Job(
        tmp_path / "job",
        data=str(tmp_path / "rows.csv"),
        objective=None,
        objectives={"rmse": "minimise"},
        space={"alpha": {"kind": "float", "low": 0.01, "high": 100, "log": True}},
        train={"learner": "ridge"},
        split={"by": "hash", "key": ["who"]},
        budget={"trials": 2},
        rows={"target": "y", "dataset": "d", "ignore": ["who"]},
    )
    result = job.run()
    assert (result.complete, result.failed) == (2, 0) and 30 < result.best[0].untouched < 70


def test_the_step_tune_takes_metrics_as_a_gate_does() -> None:
    section = msgspec.convert({"objectives": {"roc_auc": "maximise"}, "space": {}}, TuneSection)
    assert studies.study_of(Definition(name="p", tune=section)).objectives == {"roc auc": "maximise"}


def test_the_winner_is_scored_again_on_rows_that_no_trial_saw(tmp_path: Path) -> None:
    rows = pl.DataFrame({"x": [float(n) for n in range(200)], "y": [n * 1.5 + (n % 5) for n in range(200)]})
    rows.write_csv(tmp_path / "rows.csv")
    job = Job(
        tmp_path / "job",
        TRAINS,
        str(tmp_path / "rows.csv"),
        objective=None,
        objectives={"rmse": "minimise"},
        space={"alpha": {"kind": "float", "low": 0.01, "high": 100, "log": True}},
        train={"python": "objective.py:train"},
        rows={"target": "y", "dataset": "d"},
    )
    result = job.run()
    seen = [set(json.loads(line)) for line in (job.folder / "job1" / "seen").read_text().splitlines()]
    tuned, fresh = seen[:20], seen[20:]
    assert len(fresh) == 2 and all(each == fresh[0] for each in fresh)
    never = set(rows["x"].to_list()) - fresh[0]
    assert result.best[0].untouched == len(never) == 50
    assert all(each < fresh[0] and not each & never for each in tuned)
    [best] = result.best
    assert best.tuned[0] > 0 and best.low[0] <= best.honest[0] <= best.high[0]
    assert "on 50 rows that no trial saw" in result.words
