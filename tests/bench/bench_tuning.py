"""A study of a hundred trivial trials on two workers, from the request to its result, with the daemon asked every few
milliseconds meanwhile; beside it a bare Optuna study in memory, in one process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from benching import counted, deck, quantile, report

from quarterdeck.client import Client
from quarterstore.records import jobs, spaces, studies

TRIALS = counted(100, 20)
REPEATS = counted(5, 1)
OBJECTIVE = b"def objective(trial):\n    return (trial.params['x'] - 3) ** 2\n"
BARE = f"""
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=7))
study.optimize(lambda trial: (trial.suggest_float("x", -10, 10) - 3) ** 2, n_trials={TRIALS})
"""


def floor() -> float:
    """Seconds of the bare study, with the start of its process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE], check=True, capture_output=True)
    return time.perf_counter() - began


def searched(client: Client, code: str, number: int) -> float:
    """Seconds from the request to the result of one study."""
    definition = studies.StudyDefinition(
        name=f"bench-{number}",
        objectives={"loss": "minimise"},
        space={"x": spaces.Parameter(kind="float", low=-10, high=10)},
        objective="objective.py:objective",
        seed=number,
        budget=spaces.Budget(trials=TRIALS, workers=2),
        rescore=spaces.Rescoring(top=3, seeds=3),
    )
    began = time.perf_counter()
    study = client.ask(studies.StartStudy(definition=definition, sources={"objective.py": code}))
    while (job := client.ask(jobs.ShowJob(job=study.job))).ended is None:
        threading.Event().wait(0.02)
    took = time.perf_counter() - began
    found = client.ask(studies.ShowStudy(study=study.id))
    if job.state != "SUCCEEDED" or found.result is None or found.result.complete != TRIALS:
        raise SystemExit(f"{job.state}: {job.error}")
    return took


def asked(client: Client, over: threading.Event, waits: list[float]) -> None:
    """How long the daemon takes to answer, until told to end: seconds of each question."""
    while not over.wait(0.005):
        began = time.perf_counter()
        client.status()
        waits.append(time.perf_counter() - began)


def main() -> None:
    """Studies one after the other, a floor before each."""
    seconds, floors, waits, over = [], [], list[float](), threading.Event()
    with deck() as daemon, daemon.client() as client, daemon.client() as other:
        code, _ = client.put(OBJECTIVE)
        watcher = threading.Thread(target=asked, args=(other, over, waits))
        for number in range(REPEATS):
            floors.append(floor())
            if number == 0:
                watcher.start()
            seconds.append(searched(client, code, number))
        over.set()
        watcher.join()
    report(
        "tuning",
        figure=f"{TRIALS} trivial trials on two reused workers, best 3 scored again with 3 seeds, s",
        values=seconds,
        floor="bare Optuna in memory, one process with its start, s",
        floors=floors,
        reach="< 15 s",
        met=max(seconds) < 15,
    )
    answered = [1000 * each for each in waits]
    report(
        "tuning beside the daemon",
        figure="an answer of the daemon while studies run, ms",
        values=answered,
        reach="p99 < 20 ms",
        met=quantile(answered, 0.99) < 20,
        more={"p99": round(quantile(answered, 0.99), 2)},
    )


main()
