"""The daemon's hand on trials: arms judged by their outcomes, copies for a shadow counted and said, its report read."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from quarterdeckd.api.dispatch import Dispatch, Quick, Wide
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.rollout import ab, bandit
from quarterdeckd.services.trials import nothing
from quarterdeckd.work.census import Census
from quarterdeckd.work.predictions import Predictions
from quarterstore.ledger.finding import last_trial_at, trial_at
from quarterstore.ledger.state import State
from quarterstore.records import monitoring, trials
from quarterstore.records.faults import Fault
from quarterstore.records.hosts import HostNews
from quarterstore.records.outcomes import ArmOutcome, Unit
from quarterstore.records.predictions import COLUMNS, feature_of

if TYPE_CHECKING:
    from quarterdeckd.rollout.shadow import Pair

log = logging.getLogger(__name__)
ByArm = Callable[[str, str, int, Unit], dict[str, ArmOutcome]]
BESIDE = ["id", "row", "at", "status", "latency", "prediction", "score"]


class Trials:
    """What is heard of running trials; `report` may run in a thread."""

    def __init__(self, view: State, dispatch: Dispatch, bus: Bus, predictions: Predictions, by_arm: ByArm) -> None:
        self._view = view
        self._dispatch = dispatch
        self._bus = bus
        self._predictions = predictions
        self._copies: dict[str, HostNews] = {}
        """The last count of each trial."""
        self._speaking: set[asyncio.Task[None]] = set()
        self.by_arm = by_arm
        """The outcomes of each version that answered at an endpoint from an epoch on, under a metric; reads files."""
        self._census = Census(predictions)
        self._said: dict[str, float] = {}
        self._readings: dict[str, trials.TrialVerdict] = {}
        """How each running trial stood at the last look."""
        self._began = asyncio.Event()
        bus.on_kept(self._kept)

    def _kept(self, kept: Kept) -> None:
        if any(isinstance(event, trials.TrialStarted) for event in kept.events):
            self._began.set()

    def readers(self) -> dict[type, Wide]:
        """What is asked -> what answers it, in threads."""
        return {trials.ReportShadow: lambda query, speaker, seen: self.report(query)}

    def quick(self) -> dict[type, Quick]:
        """What is asked -> what answers it, on the loop."""
        return {trials.ShowTrial: lambda query, speaker: self.shown(query)}

    async def run(self, every: float) -> None:
        """Until cancelled: look at what is on trial, each `every` seconds."""
        while True:
            for trial in list(self._view.trials):
                if trial.state == "RUNNING" and trial.metric:
                    try:
                        await self._look(trial)
                    except (Fault, OSError) as error:
                        log.warning("%s: %s", trial.words(), error)
            running = {trial.id for trial in self._view.trials if trial.state == "RUNNING"}
            self._census.keep(running)
            self._readings = {trial: found for trial, found in self._readings.items() if trial in running}
            if running:
                await asyncio.sleep(every)
            else:
                self._began.clear()
                await self._began.wait()

    async def _look(self, trial: trials.Trial) -> None:
        """Judge one; the figures are a pulse, and an entry where they change something."""
        unit: Unit = "caller" if trial.ab else "dealt"
        arms = await asyncio.to_thread(self.by_arm, trial.endpoint, trial.metric, trial.epoch, unit)
        outcomes = tuple(arms.get(version, nothing(version)) for version in trial.versions)
        callers: tuple[int, ...] = ()
        now = time.monotonic()
        if trial.ab is not None:
            for newest in (False, True):
                callers = await asyncio.to_thread(self._census.callers, trial, newest=newest)
                verdict = ab.judge(trial.ab, outcomes[0], outcomes[1], callers, trial.shares)
                if verdict.verdict == "NEEDS" and any(callers):
                    break  # what decides nothing need not know the callers of the last seconds
            news = ab.worth_an_entry(trial.judged, verdict, now - self._said.get(trial.id, -math.inf))
        else:
            assert trial.bandit is not None
            shares = bandit.shares(trial.bandit, outcomes)
            verdict = bandit.verdict(trial.bandit, outcomes, shares)
            news = bandit.worth_routes([share / 100 for share in trial.shares], shares)
        self._readings[trial.id] = verdict
        self._bus.pulse(trials.TrialReading(trial=trial.id, endpoint=trial.endpoint, verdict=verdict, at=time.time()))
        if news:
            self._said[trial.id] = now
            await self._dispatch.speak(trials.JudgeTrial(trial=trial.id, outcomes=outcomes, callers=callers))

    def shown(self, query: trials.ShowTrial) -> trials.Trial:
        """The trial at an endpoint as it stands now: the kept verdict is as old as what it changed."""
        trial = last_trial_at(self._view, query.endpoint)
        verdict = self._readings.get(trial.id)
        return trial if verdict is None or trial.state != "RUNNING" else replace(trial, judged=verdict)

    def copied(self, news: HostNews) -> None:
        """Take what the hosts say of the requests they copied: a pulse, and an alert when the first one is dropped."""
        trial = trial_at(self._view, news.endpoint)
        if trial is None or trial.epoch != news.epoch:
            return
        before = self._copies.get(trial.id)
        self._copies[trial.id] = news
        self._bus.pulse(
            trials.TrialReading(trial=trial.id, endpoint=trial.endpoint, copied=news.copied, dropped=news.dropped)
        )
        if news.dropped and not (before and before.dropped):
            self._alert(trial, news)

    def _alert(self, trial: trials.Trial, news: HostNews) -> None:
        alert = monitoring.RaiseAlert(
            kind=trials.BEHIND,
            subject=trial.endpoint,
            severity="warning",
            words=f"{news.dropped:,} of {news.copied + news.dropped:,} requests were not shown to {trial.versions[1]}; "
            "the live answers are as they were",
            next=f"qd shadow report {trial.endpoint}",
        )

        async def speak() -> None:
            try:
                await self._dispatch.speak(alert)
            except Fault as fault:
                log.warning("%s: %s", alert.kind, fault.line())

        task = asyncio.get_running_loop().create_task(speak())
        self._speaking.add(task)
        task.add_done_callback(self._speaking.discard)

    def report(self, query: trials.ReportShadow) -> trials.ShadowReport:
        """A shadow beside what was answered, from what is kept of both."""
        from quarterdeckd.measures.quality import wilson
        from quarterdeckd.rollout import shadow

        trial = last_trial_at(self._view, query.endpoint, "shadow")
        shadow.checked(query.tolerance, query.top, query.newest)
        said, answered = self._both(trial, query.newest)
        good = said.filter(said["status"] == 200)
        pairs = list(_pairs(answered.filter(answered["status"] == 200), good))
        compared = shadow.compare(pairs, query.tolerance, query.top)
        n, failed = len(pairs), said.height - good.height
        low, high = wilson(compared.agreed, n) if n else (None, None)
        news = self._copies.get(trial.id)
        report = trials.ShadowReport(
            trial=trial.id,
            endpoint=trial.endpoint,
            live=trial.versions[0],
            shadow=trial.versions[1],
            pairs=n,
            agreed=compared.agreed,
            rate=compared.agreed / n if n else None,
            low=low,
            high=high,
            failed=failed,
            copied=news.copied if news else said["id"].n_unique(),
            dropped=news.dropped if news else 0,
            words="",
            live_p95=answered["latency"].quantile(0.95),
            shadow_p95=said["latency"].quantile(0.95),
            slices=compared.slices,
            disagreements=compared.disagreements,
        )
        return _worded(report)

    def _both(self, trial: trials.Trial, newest: int) -> tuple[Any, Any]:
        """The newest rows that the shadow said, and those that were answered under the same ids."""
        import polars

        self._predictions.fold()
        mine = (polars.col("epoch") == trial.epoch) & (polars.col("version") == trial.versions[1])
        said = self._predictions.rows(self._predictions.shadows, trial.endpoint, mine, BESIDE)
        said = said.sort("at").tail(newest)
        theirs = (polars.col("epoch") == trial.epoch) & polars.col("id").is_in(said["id"].implode())
        answered = self._predictions.rows(self._predictions.folder, trial.endpoint, theirs, None)
        return said, answered


def _pairs(answered: Any, said: Any) -> Iterator[Pair]:
    """The rows that both answered, with the fields that are kept of them."""
    from quarterdeckd.rollout.shadow import Pair

    beside = said.select("id", "row", shadow="prediction", shadow_score="score")
    for row in answered.join(beside, on=["id", "row"], how="inner").iter_rows(named=True):
        inputs = {
            feature_of(name): value
            for name, value in row.items()
            if name not in COLUMNS and name not in ("shadow", "shadow_score")
        }
        yield Pair(
            row["id"],
            row["row"],
            row["at"],
            row["prediction"],
            row["shadow"],
            row["score"],
            row["shadow_score"],
            inputs,
        )


def _worded(report: trials.ShadowReport) -> trials.ShadowReport:
    if report.rate is None:
        words = "no request was answered by both yet"
    else:
        words = (
            f"{report.shadow} agrees with {report.live} on {report.rate:.2%} ({report.low:.2%} to {report.high:.2%}) "
            f"of {report.pairs:,} rows"
        )
    if report.failed:
        words += f"; it failed on {report.failed:,} rows"
    if report.dropped:
        words += f"; {report.dropped:,} of {report.copied + report.dropped:,} requests were dropped for it"
    return replace(report, words=words)
