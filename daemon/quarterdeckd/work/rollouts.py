"""The daemon's hand on serving: wanted routes pushed, running canaries judged on what the hosts counted, crashes
noted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from quarterdeckd.api.dispatch import Dispatch, Quick
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.rollout import canary as rollout
from quarterdeckd.services.routing import table_of
from quarterdeckd.serving.restarts import Restarts
from quarterdeckd.serving.shedding import Shedding
from quarterdeckd.work.readings import Readings
from quarterdeckd.work.serving_link import ServingLink
from quarterstore.ledger.finding import deployment_of
from quarterstore.ledger.state import State
from quarterstore.records import deployments, monitoring, trials
from quarterstore.records.faults import Conflict, Failed, Fault, Unreachable
from quarterstore.records.features import ViewDefined
from quarterstore.records.hosts import HostNews
from quarterstore.records.online import GenerationMade
from quarterstore.records.retention import RetentionSet
from quarterstore.records.serving import ServingState

log = logging.getLogger(__name__)
ROUTING = (
    deployments.Switched,
    deployments.CanaryStarted,
    deployments.CanaryAdvanced,
    deployments.CanaryFinished,
    deployments.RolledBack,
    deployments.EndpointStopped,
    deployments.RecordingSet,
    deployments.BatchingSet,
    deployments.ServingStopped,
    trials.TrialStarted,
    trials.TrialWeighed,
    trials.TrialEnded,
    RetentionSet,
    ViewDefined,
    GenerationMade,
)


class Rollouts:
    """Level-triggered: `push` works the routing table out from the state and sends it whenever it is not what was
    acknowledged last; a canary's step is judged by an act, from the counts of its own epoch only."""

    def __init__(
        self,
        view: State,
        dispatch: Dispatch,
        bus: Bus,
        link: ServingLink,
        path_of: Callable[[str], Path],
        generations: Path,
        readings: Readings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.serving = ServingState(launcher=None, address=None, epoch=0, hosts=())
        self.dropped = 0
        self.on_copies: Callable[[HostNews], None] = lambda news: None
        """Told what was copied to a shadow, and what was dropped for it."""
        self._view = view
        self._dispatch = dispatch
        self._bus = bus
        self._link = link
        self._path_of = path_of
        self._generations = generations
        self._gates = readings
        self._acknowledged: deployments.RoutingTable | None = None
        self._counts: dict[str, tuple[int, dict[str, deployments.ArmCounts]]] = {}
        self._readings: dict[str, tuple[int, deployments.CanaryVerdict]] = {}
        self._said: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._counted = asyncio.Event()
        self._speaking: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._watching: dict[str, tuple[tuple[str, int, float], float]] = {}
        """Which step of each endpoint is watched, and since when by the monotonic clock: a wall clock that jumps
        neither passes a soak nor holds it. While no daemon watched nobody would have taken it back: it begins anew."""
        self._deaths = Restarts()
        self._shedding = Shedding()
        bus.on_kept(self._kept)
        link.on_state, link.on_ended = self._heard, self._wake.set

    def _kept(self, kept: Kept) -> None:
        if any(isinstance(event, ROUTING) for event in kept.events):
            self._wake.set()
            self._begin_watching()

    def _begin_watching(self) -> None:
        for deployment in self._view.deployments:
            if deployment.canary is not None:
                self._watched(deployment.endpoint, deployment.canary)

    def _watched(self, endpoint: str, canary: deployments.Canary) -> float:
        """Seconds for which this daemon has watched a step."""
        now, place = self._clock(), (canary.candidate, canary.step, canary.step_since)
        if self._watching.get(endpoint, (None, now))[0] != place:
            self._watching[endpoint] = place, now  # not by epoch: other changes do not begin a step anew
        return now - self._watching[endpoint][1]

    def _heard(self, state: ServingState) -> None:
        """A state came, asked for or not; another launcher than before may hold other routes, so it is pushed ours."""
        if state.launcher != self.serving.launcher:
            self._acknowledged = None
            self._wake.set()
        self.serving = state
        shed = self._shedding.took(time.monotonic(), {host.pid: host.shed for host in state.hosts})
        if shed:
            self._later(
                monitoring.RaiseAlert(
                    kind="overloaded",
                    subject="serving",
                    severity="critical",
                    words=f"{shed} requests were turned away, by {len(state.hosts)} of at most {state.most} hosts",
                    next="qd serving status; more of them: quarterdeckd --hosts MIN:MAX",
                )
            )

    def quick(self) -> dict[type, Quick]:
        """What is asked -> what answers it, on the loop."""
        return {
            deployments.ShowServing: lambda query, speaker: self.serving,
            deployments.ListDeployments: lambda query, speaker: self.listed(),
            deployments.ShowDeployment: lambda query, speaker: self.read(deployment_of(self._view, query.endpoint)),
        }

    def stopped(self) -> bool:
        """Whether a person stopped serving."""
        cursor = self._view.cursors.get("serving")
        return cursor is not None and cursor.value == "stopped"

    async def run(self, every: float) -> None:
        """Until cancelled: push what is not acknowledged, judge what is on trial. The two do not wait for each other: a
        host that loads a large file must not keep another endpoint's canary from being taken back."""
        await asyncio.gather(self._keep_pushing(every), self._keep_judging(every))

    async def _keep_pushing(self, every: float) -> None:
        while True:
            self._wake.clear()
            pushing = asyncio.ensure_future(self.push())
            woken = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({pushing, woken}, return_when=asyncio.FIRST_COMPLETED)
                if not pushing.done():
                    continue  # the routes changed: the newer ones go out at once, not after the answer to these
                try:
                    pushing.result()
                except (Fault, OSError) as error:
                    self._trouble(error)
                await asyncio.wait({woken}, timeout=every)
            finally:
                pushing.cancel()
                woken.cancel()

    def _trouble(self, error: Fault | OSError) -> None:
        """Serving cannot be made as it should be: said once, and shown until it can."""
        words = error.line() if isinstance(error, Fault) else str(error)
        if words != self.serving.error:
            log.warning("%s", words)
        self.serving = replace(self.serving, error=words)

    async def _keep_judging(self, every: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._counted.wait(), every if self._gated() else None)
            self._counted.clear()
            try:
                await self.judge()
            except (Fault, OSError) as error:
                log.warning("canaries: %s", error)
            await asyncio.sleep(every)

    def _gated(self) -> bool:
        """Whether a canary may be moved by what comes without traffic, such as labels."""
        return any(found.canary is not None and found.canary.rule.gates for found in self._view.deployments)

    async def push(self) -> None:
        """Make the hosts serve what the deployments say."""
        if self.stopped():
            if self._acknowledged is not None or self.serving.launcher is not None or self._link.beginning():
                await self._link.stop()
                self._acknowledged = None
                self.serving = replace(self.serving, launcher=None, hosts=())
            return
        table = table_of(self._view, self._path_of, self._generations)
        alive = self._link.alive()
        if not table.routes and self._acknowledged is None and not alive:
            return
        if table == self._acknowledged and alive:
            return
        await self._link.start()
        began = time.perf_counter()
        self.serving = await self._link.push(table)
        if self.serving.epoch < table.epoch:
            raise Failed(f"got epoch {self.serving.epoch} from the hosts, expected {table.epoch}", field="serving")
        self._acknowledged = table
        log.info("epoch %d acknowledged after %.0f ms", table.epoch, (time.perf_counter() - began) * 1000)

    def news(self, news: HostNews) -> None:
        """Take what the hosts say of themselves."""
        if news.kind == "copies":
            self.on_copies(news)
        elif news.kind == "latency":
            if news.latency is not None:
                self._bus.pulse(news.latency)
            if news.counts:
                self._counted.set()
                self._counts[news.endpoint] = (news.epoch, news.counts)
        elif news.kind == "dropped":
            self.dropped = news.dropped
            self._later(
                monitoring.RaiseAlert(
                    kind="predictions dropped",
                    subject="serving",
                    severity="warning",
                    words=f"{news.dropped} predictions were answered but not recorded: {news.detail}",
                    next="qd doctor",
                )
            )
        elif news.kind == "crash":
            self._died(news)
        elif news.kind == "breaker":
            self._later(
                deployments.NoteCrash(endpoint=news.endpoint, version=news.version, detail=news.detail, out=True)
            )

    def _died(self, news: HostNews) -> None:
        if news.endpoint:
            self._later(deployments.NoteCrash(endpoint=news.endpoint, version=news.version, detail=news.detail))
        now = time.monotonic()
        self._deaths.died(now, proven=True)
        if many := self._deaths.many(now):
            self._later(
                monitoring.RaiseAlert(
                    kind="hosts die",
                    subject="serving",
                    severity="critical",
                    words=f"{many} hosts died within a minute; the last: {news.detail}",
                    next="qd serving status",
                )
            )

    def _later(self, act: monitoring.RaiseAlert | deployments.NoteCrash) -> None:
        async def speak() -> None:
            try:
                await self._dispatch.speak(act)
            except Fault as fault:
                log.warning("%s: %s", type(act).__name__, fault.line())

        task = asyncio.get_running_loop().create_task(speak())
        self._speaking.add(task)
        task.add_done_callback(self._spoken)

    def _spoken(self, task: asyncio.Task[None]) -> None:
        self._speaking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what a host said could not be kept", exc_info=error)

    async def judge(self) -> None:
        """Judge every running canary; the figures are a pulse, a step or another reason to hold is an entry."""
        for deployment in list(self._view.deployments):
            canary = deployment.canary
            epoch, counts = self._counts.get(deployment.endpoint, (-1, {}))
            if canary is None or epoch != deployment.epoch or deployment.live is None:
                continue
            live = counts.get(deployment.live) or deployments.ArmCounts(version=deployment.live)
            candidate = counts.get(canary.candidate) or deployments.ArmCounts(version=canary.candidate)
            readings = self._gates.newest(deployment)
            watched = self._watched(deployment.endpoint, canary)
            verdict = rollout.judge(canary.rule, live, candidate, watched, readings)
            self._readings[deployment.endpoint] = (epoch, verdict)
            self._bus.pulse(deployments.CanaryReading(endpoint=deployment.endpoint, epoch=epoch, verdict=verdict))
            if not self._worth_saying(deployment.endpoint, canary, verdict):
                continue
            act = deployments.JudgeStep(
                endpoint=deployment.endpoint,
                epoch=deployment.epoch,
                live=live,
                candidate=candidate,
                readings=readings,
                watched=watched,
            )
            try:
                await self._dispatch.speak(act)
            except Conflict as fault:
                log.info("canary at %s: %s", deployment.endpoint, fault.line())

    def _worth_saying(self, endpoint: str, canary: deployments.Canary, verdict: deployments.CanaryVerdict) -> bool:
        now = time.monotonic()
        if not rollout.worth_an_entry(canary.judged, verdict, now - self._said.get(endpoint, -math.inf)):
            return False
        self._said[endpoint] = now
        return True

    def read(self, deployment: deployments.Deployment) -> deployments.Deployment:
        """A deployment as it is now: with the canary's verdict of now, since the kept one is as old as its reason, and
        as stopped while serving is."""
        if self.stopped() and deployment.state != "STOPPED":
            return replace(deployment, state="STOPPED", why="serving was stopped by a person: qd serving start")
        epoch, verdict = self._readings.get(deployment.endpoint, (-1, None))
        if deployment.canary is None or epoch != deployment.epoch:
            return deployment
        return replace(deployment, canary=replace(deployment.canary, judged=verdict))

    def listed(self) -> list[deployments.Deployment]:
        """Every deployment, as `read` says, by endpoint."""
        return [self.read(found) for found in sorted(self._view.deployments, key=lambda found: found.endpoint)]

    async def state(self) -> ServingState:
        """The launcher and its hosts as they are now."""
        try:
            self.serving = await self._link.state()
        except (Unreachable, OSError):
            self.serving = replace(self.serving, launcher=None, hosts=())
        return self.serving
