"""The assembly: every part of the daemon made and joined, in one place, by name."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import zmq

from quarterdeckd.api.broadcast import Broadcast
from quarterdeckd.api.clock import Clock
from quarterdeckd.api.dispatch import Dispatch, with_metrics
from quarterdeckd.api.gateway import Gateway, Handshakes, bind_privately, curve_server
from quarterdeckd.api.identity import enrol_owner, server_secret
from quarterdeckd.api.intake import Intake
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.api.points import PointPulses
from quarterdeckd.api.posting import Poster
from quarterdeckd.api.reactions import Reactions
from quarterdeckd.api.reading import Readers, readers
from quarterdeckd.api.remembering import Remembered
from quarterdeckd.api.syncing import Syncing
from quarterdeckd.api.writer import Writer
from quarterdeckd.bus import Bus
from quarterdeckd.doors.opened import Doors
from quarterdeckd.doors.remote.bundles import Bundles
from quarterdeckd.rules import ANSWERS, RULES
from quarterdeckd.services import runs
from quarterdeckd.serving.listener import refuse_taken
from quarterdeckd.settings import Settings
from quarterdeckd.work.doomed import DoomedFiles
from quarterdeckd.work.fitting import Fitting
from quarterdeckd.work.gates import Gates
from quarterdeckd.work.health import Health
from quarterdeckd.work.hearing import Hearing
from quarterdeckd.work.hooks import Hooks
from quarterdeckd.work.online import OnlineFeatures
from quarterdeckd.work.outcomes import Outcomes
from quarterdeckd.work.predictions import Predictions
from quarterdeckd.work.readings import Readings
from quarterdeckd.work.remotes import Remotes
from quarterdeckd.work.retaining import Retaining
from quarterdeckd.work.retraining import Retraining
from quarterdeckd.work.rollouts import Rollouts
from quarterdeckd.work.rows import RowFiles
from quarterdeckd.work.scheduler import Scheduler
from quarterdeckd.work.serving_link import ServingLink
from quarterdeckd.work.steps import Deadlines
from quarterdeckd.work.storing import Storing
from quarterdeckd.work.streams import Streams
from quarterdeckd.work.studies import Studies
from quarterdeckd.work.supervisor import Supervisor
from quarterdeckd.work.traffic import Traffic
from quarterdeckd.work.trials import Trials
from quarterdeckd.work.uploads import Uploads
from quarterstore.ledger import journal
from quarterstore.ledger.finding import deployment_of
from quarterstore.ledger.opening import Ledger, keep_reserve
from quarterstore.ledger.state import State
from quarterstore.records import deployments as deployment_records
from quarterstore.records import predictions as prediction_records
from quarterstore.records import runs as run_records
from quarterstore.records import store as store_records
from quarterstore.records import streams as stream_records
from quarterstore.records import trials as trial_records
from quarterstore.records.batches import StartBatch
from quarterstore.records.checks import CheckRows
from quarterstore.records.datasets import AddDataset, CompareDatasets
from quarterstore.records.faults import Corrupt
from quarterstore.records.feature_checks import CheckParity
from quarterstore.records.hooks import AddHook
from quarterstore.records.hosts import HostNews
from quarterstore.records.logged_models import LogModelArtefact
from quarterstore.records.online import Materialise
from quarterstore.records.pipelines import CheckPipeline
from quarterstore.records.registry import RegisterVersion
from quarterstore.records.remotes import AddRemote, CheckBundle, RollBackThere, SendVersion, TakeBundle
from quarterstore.shelf.artefacts import Artefacts

log = logging.getLogger(__name__)
FIRST_PROFILE = "solo"
FOLD_EVERY = 30.0
LOOKS = 10
"""A trial is looked at so many times less often than a canary: outcomes come later than answers."""
ONLINE_EVERY = 5.0
"""Seconds between two looks at how far the views behind online features are."""
LOOK_EVERY = 15.0
"""Seconds between two looks at the triggers of continuous training when nothing happens."""
KEEP_EVERY = 0.5
KEEP_SOON = 0.1
KEEP_AGAIN = 5.0
POSTED_WITHIN = 5.0
REMEMBER_EVERY = 0.5


class Daemon:
    """The parts of one running daemon; `start` answers the first request, `work` does the rest behind it."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        home = ledger.home
        self.ledger, self.settings = ledger, settings
        self.view = State()
        for name, book in ledger.state.books().items():
            self.view.books()[name].rows.update(book.rows)
        self.bus = Bus()
        kept = self.view.cursors.get("profile")
        self._kept_profile = kept.value if kept else None
        self.profile = settings.profile or self._kept_profile or FIRST_PROFILE
        self.clock = Clock()
        self.dispatch = Dispatch(self.view, ANSWERS, self.bus, self.profile, self.clock)
        self.dispatch.seq = ledger.journal.head.seq
        remembered = Remembered(ledger.database, self._answer_at)
        self.remembered = remembered
        self.writer = Writer(
            *(ledger.state, ledger.journal, RULES, self.profile, self.clock),
            *(remembered, self.dispatch.on_group, self._reserve),
        )
        self.poster = Poster(ledger, ledger.journal.head.seq)
        self.dispatch.writer, self.dispatch.poster = self.writer, self.poster
        self.artefacts = Artefacts(home.artefacts, home.incoming)
        self.hearing = Hearing(self.view, self.dispatch, settings.lost_after)
        self.intake = Intake(home.samples / "metrics", self.hearing.heard)
        self.dispatch.syncing = Syncing(self.intake.sync)
        self.intake.is_open = self._is_open
        self.point_pulses = PointPulses(self.bus, lambda run: self.intake.newest.get(run, {}))
        self.predictions = Predictions(home, self.view)
        self.retaining = Retaining(home, self.view, self.intake, self.predictions, self.dispatch, self._fold_points)
        said = [ledger.recovered, *self.intake.recovered, *self.retaining.recovered]
        ledger.recovered = "; ".join(filter(None, said))
        self.outcomes = Outcomes(home, self.view, self.dispatch, self.bus, self.artefacts, self.predictions)
        self.supervisor = Supervisor(
            home, self.view, self.dispatch, self.intake, self.artefacts, self.bus, settings.workers
        )
        self.doomed = DoomedFiles(home, self.view, self.artefacts, self.bus)
        self.streams = Streams(home, self.view, self.bus)
        self.link = ServingLink(home, self._news, settings.http, settings.hosts, settings.grpc)
        self.traffic = Traffic(self.view)
        readings = Readings(self.view, self.predictions, self.outcomes)
        self.online = OnlineFeatures(home, self.view, self.dispatch, self.bus, self.artefacts)
        self.rollouts = Rollouts(
            self.view, self.dispatch, self.bus, self.link, self.artefacts.path, home.online, readings
        )
        self.trials = Trials(self.view, self.dispatch, self.bus, self.predictions, self.outcomes.by_arm)
        self.rollouts.on_copies = self.trials.copied
        self.scheduler = Scheduler(self.view, self.dispatch, self.bus)
        self.reactions = Reactions(home.journal, self.scheduler.held, self.scheduler.happened)
        self.retraining = Retraining(self.view, self.dispatch, self.bus, self.outcomes, self.clock)
        self.hooks = Hooks(home, self.view, self.dispatch, self._entry_at, settings.hook_within)
        self.remotes = Remotes(home, self.view, self.dispatch, self.bus, self.artefacts)
        self.doors = Doors(home, self.dispatch, self.artefacts, self.intake, self.bus)
        self.dispatch.hold = Gates(self.view, self.dispatch, self.hooks, RULES).held
        self.ticked = time.monotonic()
        self._full = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def _answer_at(self, seq: int) -> bytes:
        [(position, before)] = self.ledger.database.places(seq - 1, 1)
        return bytes(journal.read_at(self.ledger.home.journal, position, before).answer)

    def _entry_at(self, seq: int) -> journal.Entry:
        """A kept entry, once it is posted; from a thread."""
        self.poster.wait_for(seq, POSTED_WITHIN)
        [(position, before)] = self.ledger.database.places(seq - 1, 1)
        return journal.read_at(self.ledger.home.journal, position, before)

    def _reserve(self, keep: bool) -> bool:
        """Keep room aside or free it; answers whether it is kept."""
        if keep:
            return keep_reserve(self.ledger.home.reserve)
        self.ledger.home.reserve.unlink(missing_ok=True)
        return False

    def _is_open(self, run: str) -> bool:
        found = self.view.runs.get(run)
        return found is not None and found.state in ("RUNNING", "LOST")

    def _news(self, news: HostNews) -> None:
        self.traffic.heard(news)
        self.rollouts.news(news)

    async def start(self, *, enrol: bool = False) -> None:
        """Open the sockets: from here the daemon answers. With `enrol` the owner gets a key again."""
        home = self.ledger.home
        self.link.refuse_taken()
        refuse_taken(home, {door: getattr(self.settings, door) for door in ("mlflow", "rest", "remote")})
        self.writer.start()
        self.poster.start()
        try:
            await self._open(enrol)
        except BaseException:
            # the threads end before the ledger is closed under them
            await self.doors.close()
            await asyncio.to_thread(self.writer.stop)
            await asyncio.to_thread(self.poster.stop)
            raise

    async def _open(self, enrol: bool) -> None:
        home = self.ledger.home
        self._context: zmq.Context[Any] = zmq.Context()
        secret = server_secret(home)
        self.hooks.drop_secrets()
        self.remotes.drop_tokens()
        await enrol_owner(home, self.view, self.dispatch, again=enrol)
        await self._keep_profile()
        self.handshakes = Handshakes(self._context, self._known)
        self.health = Health(
            self.ledger,
            self.view,
            self.writer,
            self.poster,
            self.rollouts,
            self.retaining,
            self.profile,
            self.handshakes,
        )
        self._join()
        feed = curve_server(self._context, zmq.PUB, secret)
        bind_privately(feed, home.feed_address, home.feed_socket)
        self._feed = feed
        self.broadcast = Broadcast(feed, self.bus)
        self.bus.on_kept(self.reactions.kept)
        self.gateway = Gateway(self._context, secret, self.dispatch)
        self.gateway.bind(home.ask_address, home.ask_socket)
        if self.settings.listen is not None:
            self.gateway.bind(self.settings.listen)
        await self.doors.open(self.settings)
        self.gateway.start()

    async def _keep_profile(self) -> None:
        """A start that names no profile keeps to the last one: four eyes are not lost by a restart."""
        before = self._kept_profile
        if self.profile == (before or FIRST_PROFILE):
            return
        log.warning("profile %s, before %s: said in the journal", self.profile, before or FIRST_PROFILE)
        await self.dispatch.speak(store_records.SetProfile(profile=self.profile, before=before))

    def _known(self, public: str) -> bool:
        key = self.view.keys.get(public)
        return key is not None and key.revoked is None

    def _join(self) -> None:
        """The tables of what is read in threads, what is taken at once, and what is added to an act."""
        found = Readers(self.ledger, self.view, self.poster, self.intake, self.artefacts)
        wide = self.dispatch.wide
        wide.update(readers(found))
        self.searching = found.searching
        self.dispatch.on_changes = self.searching.follow
        self.intake.on_points = self._newer
        wide[store_records.Diagnose] = lambda query, speaker, seen: [
            *self.health.findings(),
            *self.remotes.findings(),
        ]
        storing = Storing(
            self.ledger,
            self.view,
            self.poster,
            self.dispatch,
            self.intake,
            self.predictions,
            self.artefacts,
            self.retaining,
        )
        row_files = RowFiles(self.view, self.artefacts)
        wide[CompareDatasets] = row_files.difference
        wide[CheckPipeline] = row_files.check
        wide[CheckRows] = row_files.findings
        wide[prediction_records.ListPredictions] = lambda query, speaker, seen: self.predictions.newest(
            query.endpoint, max(1, min(query.limit, 10_000)), query.version
        )
        wide[prediction_records.ShowPrediction] = lambda query, speaker, seen: self.predictions.one(query.prediction)
        wide[prediction_records.CountPredictions] = self._count
        wide[trial_records.ReportShadow] = lambda query, speaker, seen: self.trials.report(query)
        tuned = Studies(self.ledger.home, self.view)
        for part in (storing, self.remotes, self.retraining, self.outcomes, self.online, tuned):
            wide.update(part.readers())
        quick = self.dispatch.quick
        quick[store_records.ShowStatus] = lambda query, speaker: self.health.status(self.dispatch.seq)
        quick[deployment_records.ShowServing] = lambda query, speaker: self.rollouts.serving
        quick[deployment_records.ShowTraffic] = lambda query, speaker: self.traffic.history(query)
        quick[deployment_records.ListDeployments] = lambda query, speaker: self.rollouts.listed()
        quick[deployment_records.ShowDeployment] = lambda query, speaker: self.rollouts.read(
            deployment_of(self.view, query.endpoint)
        )
        quick[trial_records.ShowTrial] = lambda query, speaker: self.trials.shown(query)
        quick[stream_records.ListStreams] = lambda query, speaker: self.streams.listed(query)
        quick[stream_records.ShowStream] = lambda query, speaker: self.streams.shown(query)
        quick[run_records.LogMetrics] = self._points
        quick[run_records.Beat] = self._beat
        add = with_metrics(lambda run: self.intake.latest.get(run, {}))
        self.dispatch.enrich[run_records.EndRun] = add
        self.dispatch.enrich[run_records.LoseRun] = add
        uploads = Uploads(self.artefacts)
        self.dispatch.prepare[RegisterVersion] = uploads.described
        self.dispatch.prepare[AddDataset] = row_files.counted
        self.dispatch.prepare[StartBatch] = Fitting(self.view, self.artefacts).checked
        self.dispatch.prepare[run_records.LogArtefact] = uploads.kept
        self.dispatch.prepare[LogModelArtefact] = uploads.kept
        self.dispatch.prepare[Materialise] = self.online.folded
        self.dispatch.prepare[CheckParity] = self.online.noted
        self.dispatch.prepare[AddHook] = self.hooks.prepared
        bundles = Bundles(self.ledger.home, self.view, self.artefacts, uploads.described)
        wide[CheckBundle] = lambda query, speaker, seen: bundles.plan(query)
        self.dispatch.prepare[TakeBundle] = bundles.prepared
        self.dispatch.prepare[AddRemote] = self.remotes.prepared
        self.dispatch.prepare[SendVersion] = self.dispatch.prepare[RollBackThere] = self.remotes.reached

    def _newer(self, run: str) -> None:
        self.searching.touch(run)
        self.point_pulses.touch(run)

    def _points(self, batch: run_records.LogMetrics, speaker: Speaker) -> run_records.Logged:
        runs.writable(self.view, batch.run, speaker.run)
        return self.intake.take(runs.composed_keys(batch))

    def _beat(self, beat: run_records.Beat, speaker: Speaker) -> None:
        runs.writable(self.view, beat.run, speaker.run)
        self.intake.beat(beat.run)

    def _count(self, query: Any, speaker: Speaker, seen: int) -> prediction_records.PredictionCount:
        counts = self.predictions.count(query.endpoint, query.since)
        return prediction_records.PredictionCount(
            endpoint=query.endpoint, versions=counts, dropped=self.rollouts.dropped
        )

    async def work(self) -> None:
        """Behind the first answer: adopt, schedule, watch, until cancelled."""
        await self._remember()
        await self.reactions.catch_up(self.ledger.journal.head.seq)
        await asyncio.to_thread(self.outcomes.settle)
        self.supervisor.before_start["drift"] = self.predictions.fold_all
        self.supervisor.before_start["replay"] = self.predictions.fold_all
        self.supervisor.before_start["drill"] = self.predictions.fold_all
        self.scheduler.start()
        self.bus.on_kept(self.hooks.kept)
        self.hooks.start()
        endless: tuple[Coroutine[Any, Any, None], ...] = (
            self.supervisor.run(),
            self.rollouts.run(self.settings.judge_every),
            self.online.run(ONLINE_EVERY),
            self.trials.run(LOOKS * self.settings.judge_every),
            self.streams.run(),
            self.doomed.run(),
            self.hearing.watch(),
            Deadlines(self.view, self.dispatch, self.bus, self.clock).watch(),
            self.remotes.run(self.settings.remotes_every),
            self.scheduler.watch_jumps(),
            self.retraining.run(LOOK_EVERY),
            self._every(0.5, self._sync),
            self._every(FOLD_EVERY, self._fold),
            self._keep_within(),
            self._tick(),
        )
        self._tasks = [asyncio.create_task(each) for each in endless]
        await asyncio.gather(*self._tasks)

    async def _remember(self) -> None:
        """A damaged projection is made again by the poster meanwhile."""
        while True:
            try:
                return await asyncio.to_thread(self.remembered.fill)
            except Corrupt as fault:
                log.warning("request ids are not read yet: %s", fault.line())
                await asyncio.sleep(REMEMBER_EVERY)

    async def _every(self, seconds: float, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await do()
            except Exception:
                log.exception("%s failed; it is tried again in %g s", do.__name__, seconds)

    async def _sync(self) -> None:
        await asyncio.to_thread(self.intake.sync)

    async def _fold(self) -> None:
        if self.predictions.waiting():
            await asyncio.to_thread(self.predictions.fold)
        await asyncio.to_thread(self.outcomes.tidy)
        await asyncio.to_thread(self.online.fold)

    async def _fold_points(self) -> None:
        await asyncio.to_thread(self.intake.fold, self.intake.roll())

    async def _keep_within(self) -> None:
        """Until cancelled, twice a second and whenever a log is full: what fills up before its time is folded, then
        what is over a limit goes."""
        self.intake.on_due = self._full.set
        pause = KEEP_EVERY
        while True:
            try:
                # not wait_for: in Python 3.11 it swallows a cancel that comes with the wake, and stopping hangs
                async with asyncio.timeout(pause):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            try:
                pause = KEEP_SOON if await self.retaining.keep() else KEEP_EVERY
            except Exception:
                log.exception("retention failed; it is tried again in %g s", KEEP_AGAIN)
                await asyncio.sleep(KEEP_AGAIN)

    async def _tick(self) -> None:
        while True:
            self.ticked = time.monotonic()
            await asyncio.sleep(0.5)

    def alive(self, within: float) -> bool:
        """Whether the loop and the writer both ticked lately: what the watchdog is told."""
        now = time.monotonic()
        return now - self.ticked < within and now - self.writer.ticked < within

    async def stop(self) -> None:
        """Take nothing new, finish what is queued, post, close. Jobs and serving go on."""
        self.gateway.stop()
        await self.doors.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            self.scheduler.stop()
        self.hooks.stop()
        self.remotes.stop()
        await asyncio.to_thread(self.writer.stop)
        await asyncio.sleep(0)  # the last group settles on this loop
        await asyncio.to_thread(self.poster.stop)
        await self.dispatch.syncing.close()
        await asyncio.to_thread(self.dispatch.close)  # a reader may wait for this loop
        self.searching.close()
        self.point_pulses.close()
        self.online.close()
        self.link.close()
        self.intake.close()
        self.gateway.close()
        self.handshakes.close()
        self._feed.close()
        self._context.term()
        self.ledger.close()


def words(status: store_records.Status) -> str:
    """One line for the service manager."""
    return f"entry {status.seq}, {status.jobs} jobs, {status.serving}"
