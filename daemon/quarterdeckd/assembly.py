"""The assembly: every part of the daemon made and joined, in one place, by name."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import zmq

from quarterdeckd.api.broadcast import Broadcast
from quarterdeckd.api.clock import Clock
from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.gateway import Gateway, Handshakes, bind_privately, curve_server
from quarterdeckd.api.identity import enrol_owner, server_secret
from quarterdeckd.api.intake import Intake
from quarterdeckd.api.logged import ended, taken
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
from quarterdeckd.serving.listener import refuse_taken
from quarterdeckd.settings import Settings
from quarterdeckd.work.disk import Disk
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
from quarterstore.ledger.opening import Ledger
from quarterstore.records import store as store_records
from quarterstore.records.faults import Corrupt
from quarterstore.records.hosts import HostNews
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
RECORDED: Final = ("drift", "replay", "drill")
"""Jobs that read recorded predictions: those of until now are folded first."""
REMEMBER_EVERY = 0.5


class Daemon:
    """The parts of one running daemon; `start` answers the first request, `work` does the rest behind it."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self.ledger, self.settings = ledger, settings
        self.view = ledger.state.copied()
        self.bus = Bus()
        self.clock = Clock()
        kept = self.view.cursors.get("profile")
        self._kept_profile = kept.value if kept else None
        self.profile = settings.profile or self._kept_profile or FIRST_PROFILE
        self.ticked = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._make_ledger_parts()
        self._make_samples()
        self._make_jobs()
        self._make_serving()
        self._make_automation()
        self._make_outside()

    def _make_ledger_parts(self) -> None:
        """What decides, keeps and posts."""
        ledger = self.ledger
        head = ledger.journal.head.seq
        self.artefacts = Artefacts(ledger.home.artefacts, ledger.home.incoming)
        self.dispatch = Dispatch(self.view, ANSWERS, self.bus, self.profile, self.clock)
        self.dispatch.seq = head
        self.remembered = Remembered(ledger.database, lambda seq: bytes(ledger.entry(seq).answer))
        self.writer = Writer(
            *(ledger.state, ledger.journal, RULES, self.profile, self.clock),
            *(self.remembered, self.dispatch.on_group, ledger.reserve),
        )
        self.poster = Poster(ledger, head)
        self.dispatch.writer, self.dispatch.poster = self.writer, self.poster

    def _make_samples(self) -> None:
        """What is kept beside the journal: points, predictions, outcomes, within their limits."""
        home, view = self.ledger.home, self.view
        self.hearing = Hearing(view, self.dispatch, self.settings.lost_after)
        self.intake = Intake(home.samples / "metrics", self.hearing.heard)
        self.dispatch.syncing = Syncing(self.intake.sync)
        self.intake.is_open = self._is_open
        self.point_pulses = PointPulses(self.bus, lambda run: self.intake.newest.get(run, {}))
        self.predictions = Predictions(home, view)
        self.retaining = Retaining(home, view, self.intake, self.predictions, self.dispatch)
        said = [self.ledger.recovered, *self.intake.recovered, *self.retaining.recovered]
        self.ledger.recovered = "; ".join(filter(None, said))
        self.outcomes = Outcomes(home, view, self.dispatch, self.bus, self.artefacts, self.predictions)

    def _make_jobs(self) -> None:
        """What follows the children that work, and frees what they leave."""
        home, workers = self.ledger.home, self.settings.workers
        self.supervisor = Supervisor(home, self.view, self.dispatch, self.intake, self.artefacts, self.bus, workers)
        for kind in RECORDED:
            self.supervisor.before_start[kind] = self.predictions.fold_all
        self.doomed = DoomedFiles(home, self.view, self.artefacts, self.bus)

    def _make_serving(self) -> None:
        """What follows the hosts: routes, canaries, trials, streams, features online."""
        home, settings, view = self.ledger.home, self.settings, self.view
        self.streams = Streams(home, view, self.bus)
        self.link = ServingLink(home, self._news, settings.http, settings.hosts, settings.grpc)
        self.traffic = Traffic(view)
        readings = Readings(view, self.predictions, self.outcomes)
        self.online = OnlineFeatures(home, view, self.dispatch, self.bus, self.artefacts)
        self.rollouts = Rollouts(view, self.dispatch, self.bus, self.link, self.artefacts.path, home.online, readings)
        self.predictions.dropped = lambda: self.rollouts.dropped
        self.trials = Trials(view, self.dispatch, self.bus, self.predictions, self.outcomes.by_arm)
        self.rollouts.on_copies = self.trials.copied

    def _make_automation(self) -> None:
        """What acts by itself: by the clock, on events, by triggers."""
        self.scheduler = Scheduler(self.view, self.dispatch, self.bus)
        alarms = self.scheduler
        self.reactions = Reactions(self.ledger.home.journal, alarms.listens, alarms.held, alarms.happened)
        self.retraining = Retraining(self.view, self.dispatch, self.bus, self.outcomes, self.clock)

    def _make_outside(self) -> None:
        """What meets other programs and machines: hooks, remotes, doors."""
        home = self.ledger.home
        self.hooks = Hooks(home, self.view, self.dispatch, self.poster.entry, self.settings.hook_within)
        self.remotes = Remotes(home, self.view, self.dispatch, self.bus, self.artefacts)
        self.doors = Doors(home, self.dispatch, self.artefacts, self.intake, self.bus)
        self.dispatch.hold = Gates(self.view, self.dispatch, self.hooks, RULES).held

    def _is_open(self, run: str) -> bool:
        found = self.view.runs.get(run)
        return found is not None and found.state in ("RUNNING", "LOST")

    def _newer(self, run: str) -> None:
        self.searching.touch(run)
        self.point_pulses.touch(run)

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
        self.disk = Disk(home.root)
        self.health = Health(
            *(self.ledger, self.view, self.writer, self.poster, self.rollouts, self.retaining),
            *(self.remotes, self.dispatch, self.handshakes, self.disk),
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
        """Every part says what it answers in threads, what at once, and what it adds to which acts."""
        dispatch, view, artefacts = self.dispatch, self.view, self.artefacts
        found = Readers(self.ledger, view, self.poster, self.intake, artefacts)
        self.searching = found.searching
        dispatch.on_changes = self.searching.follow
        self.intake.on_points = self._newer
        storing = Storing(
            *(self.ledger, view, self.poster, dispatch, self.intake),
            *(self.predictions, artefacts, self.retaining),
        )
        uploads = Uploads(artefacts)
        bundles = Bundles(self.ledger.home, view, artefacts, uploads.described)
        rows, tuned = RowFiles(view, artefacts), Studies(self.ledger.home, view)
        dispatch.wide.update(readers(found))
        for in_threads in (
            *(self.health, storing, rows, tuned, bundles, self.predictions, self.outcomes),
            *(self.trials, self.online, self.retraining, self.remotes),
        ):
            dispatch.wide.update(in_threads.readers())
        dispatch.quick.update(taken(view, self.intake))
        for at_once in (self.health, self.rollouts, self.traffic, self.trials, self.streams):
            dispatch.quick.update(at_once.quick())
        dispatch.enrich.update(ended(self.intake))
        for before in (uploads, rows, Fitting(view, artefacts), bundles, self.online, self.hooks, self.remotes):
            dispatch.prepare.update(before.preparers())

    async def work(self) -> None:
        """Behind the first answer: adopt, schedule, watch, until cancelled."""
        await self._remember()
        await self.reactions.catch_up(self.ledger.journal.head.seq)
        await asyncio.to_thread(self.outcomes.settle)
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
            self.retaining.run(),
            self.disk.run(),
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
