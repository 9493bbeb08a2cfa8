"""A canary's soak by the monotonic clock: a wall clock that jumps neither passes a step nor blocks it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quarterdeckd.bus import Bus, Kept
from quarterdeckd.work.rollouts import Rollouts
from quarterstore.ledger.folding import events_of
from quarterstore.records import deployments, hosts
from quarterstore.records.deployments import CanaryRule
from tests.services.test_canaries import counts
from tests.services.test_trials import ready

SOAK = 60.0


class Watch:
    """The rules, and who watches: its own clock and the wall clock of the rules are set by hand."""

    def __init__(self) -> None:
        self.ruling = ready()
        self.clock = 1000.0
        rule = CanaryRule(effect=0.3, baseline=0.02, least=50, soak=SOAK)
        self.start()
        self.keep(deployments.StartCanary(version="m@2", ladder=(10, 50, 100), rule=rule))

    def start(self) -> None:
        """As a daemon begins: it knows what is in the state and nothing else."""
        self.bus = Bus()
        link: Any = SimpleNamespace()
        readings: Any = SimpleNamespace(newest=lambda deployment: ())
        self.rollouts = Rollouts(
            self.ruling.state,
            self,  # type: ignore[arg-type]
            self.bus,
            link,
            Path,
            Path(),
            readings,
            lambda: self.clock,
        )

    def keep(self, act: Any) -> None:
        """Decide, and tell the bus."""
        self.ruling.act(act)
        entry = self.ruling.entries[-1]
        self.bus.kept(Kept(entry, events_of(entry.events)))

    async def speak(self, act: Any) -> None:
        """What the daemon says of itself."""
        self.keep(act)

    async def step_after(self, seconds: float) -> int:
        """The step that the canary is on once it was judged so many seconds later, with traffic enough."""
        self.clock += seconds
        epoch = self.ruling.state.deployments["m"].epoch
        both = {name: counts(name, 400) for name in ("m@1", "m@2")}
        self.rollouts.news(hosts.HostNews(kind="latency", endpoint="m", epoch=epoch, counts=both))
        await self.rollouts.judge()
        canary = self.ruling.state.deployments["m"].canary
        assert canary is not None
        return canary.step


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0, -1_600_000_000.0])
async def test_a_wall_clock_that_jumps_neither_passes_a_soak_nor_holds_it(jump: float) -> None:
    watch = Watch()
    assert await watch.step_after(1.0) == 0
    watch.ruling.now += jump
    assert await watch.step_after(SOAK - 2.0) == 0, "59 of 60 seconds"
    assert await watch.step_after(2.0) == 1
    assert await watch.step_after(SOAK - 1.0) == 1, "the next step begins anew"


async def test_a_daemon_that_began_anew_watches_the_whole_soak() -> None:
    watch = Watch()
    assert await watch.step_after(SOAK - 1.0) == 0
    watch.start()
    assert await watch.step_after(2.0) == 0
    assert await watch.step_after(SOAK - 1.0) == 0
    assert await watch.step_after(1.0) == 1


async def test_another_change_of_the_deployment_does_not_begin_a_soak_anew() -> None:
    watch = Watch()
    assert await watch.step_after(SOAK - 1.0) == 0
    watch.keep(deployments.SetRecording(endpoint="m", days=30))
    assert await watch.step_after(1.0) == 1


async def test_serving_that_is_stopped_while_its_launcher_starts_is_stopped() -> None:
    """Nothing was acknowledged and no state has come: there is something to stop all the same, once."""
    watch = Watch()
    stopped: list[bool] = []

    async def stop() -> None:
        stopped.append(True)

    watch.rollouts._link = SimpleNamespace(beginning=lambda: not stopped, stop=stop)  # type: ignore[assignment]
    watch.keep(deployments.StopServing())
    for _ in range(2):
        await watch.rollouts.push()
    assert stopped == [True]
