"""What every part of the life stands on: the daemon of a fresh home, its two people, the steps as they are told."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from quarterdeck import Client, Fault, connect, keys
from quarterstore.records import deployments, governance, jobs, pipelines, registry
from quarterstore.records.admission import Golden
from quarterstore.records.base import Act
from quarterstore.records.faults import Unreachable
from quarterstore.records.people import AddKey
from quarterstore.records.places import Home

if TYPE_CHECKING:
    from life.traffic import Traffic

MODEL = "cancer"
BIN = Path(sys.executable).parent
PATIENCE = 240.0
"""Seconds until what does not come is given up, however busy the machine is; what went wrong is said at once."""
LOOK = 0.05
GOING = ("QUEUED", "RUNNING")

Figures = dict[str, Any]


class Play:
    """A home, its daemon, the two people, and what the parts hand on to each other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.steps: list[Figures] = []
        self.deck: Client
        self.ana: Client
        self.traffic: Traffic
        self.daemon: subprocess.Popen[bytes]
        self.first = self.second = ""
        """The two candidates."""

    def step(self, name: str, do: Callable[[Play], Figures]) -> bool:
        """Run one step; print what it found."""
        began = time.monotonic()
        try:
            figures, ok = do(self), True
        except Exception as error:  # a step that fails is reported as such, and ends the play
            words = error.line() if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
            figures, ok = {"error": words}, False
        figures = {**figures, "seconds": round(time.monotonic() - began, 2)}
        self.steps.append({"name": name, "ok": ok, "figures": figures})
        print(f"{'✓' if ok else '✗'} {len(self.steps):>2} {name}", flush=True)
        for key, value in figures.items():
            print(f"      {key}: {value}", flush=True)
        return ok

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Return when something is so; raise when it does not come."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {PATIENCE:g} s for {what}")
            time.sleep(LOOK)

    def pipeline(self, run: str) -> pipelines.PipelineRun:
        """A pipeline run as it stands."""
        return self.deck.ask(pipelines.ShowPipelineRun(pipeline_run=run))

    def ended(self, run: str) -> pipelines.PipelineRun:
        """A pipeline run at its end; raises where that is none that was wanted."""
        self.until(lambda: self.pipeline(run).state not in GOING, "the pipeline to end")
        found = self.pipeline(run)
        if found.state != "SUCCEEDED":
            raise RuntimeError(f"{found.id} {found.state}: {found.error}")
        return found

    def done(self, job: jobs.Job) -> jobs.Job:
        """A job at its end; raises where it did not do what it was to do."""
        self.until(lambda: self.deck.ask(jobs.ShowJob(job=job.id)).state not in GOING, f"the job {job.kind} to end")
        found = self.deck.ask(jobs.ShowJob(job=job.id))
        if found.state != "SUCCEEDED":
            raise RuntimeError(f"{found.id} {found.state}: {found.error}")
        return found

    def propose(self, act: Act[Any]) -> governance.Approval:
        """Ask for what another person has to agree to."""
        return self.deck.ask(governance.Propose(act=msgspec.to_builtins(act), reason="the demo"))

    def agreed(self, act: Act[Any], note: str = "") -> governance.Approval:
        """Ask for it, and have ana agree on the evidence that was shown."""
        asked = self.propose(act)
        self.ana.ask(governance.Approve(approval=asked.id, evidence=asked.evidence, note=note))
        return asked

    def endpoint(self, name: str) -> deployments.Deployment:
        """An endpoint as it stands."""
        return self.deck.ask(deployments.ShowDeployment(endpoint=name))

    def deployed(self, version: str, endpoint: str) -> str:
        """Give an endpoint to a version that is in Production; answers where its hosts are once they have it."""
        self.deck.ask(deployments.Deploy(version=version, endpoint=endpoint))
        self.until(lambda: self.endpoint(endpoint).live == version, f"{endpoint} to be live")
        epoch = self.endpoint(endpoint).epoch
        self.until(lambda: self.deck.ask(deployments.ShowServing()).epoch >= epoch, "the hosts to acknowledge")
        return str(self.deck.ask(deployments.ShowServing()).address)

    def golden(self, version: registry.Version) -> Golden:
        """Rows of a version with their answers."""
        path = self.home.parent / "golden.json"
        self.deck.get(str(version.golden), path)
        return msgspec.json.decode(path.read_bytes(), type=Golden)

    def stop(self, keep: bool) -> None:
        """End the traffic, and the daemon with serving unless it is to stay."""
        if hasattr(self, "traffic"):
            self.traffic.stop()
        if keep or not hasattr(self, "daemon"):
            return
        self.end_jobs()
        subprocess.run(
            [str(BIN / "qd"), "--home", str(self.home), "-q", "serving", "stop"], capture_output=True, check=False
        )
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)

    def end_jobs(self) -> None:
        """Jobs outlive their daemon: those of a play that was broken off are cancelled."""
        try:
            with connect(self.home) as deck:
                for job in deck.ask(jobs.ListJobs()):
                    if job.state in GOING:
                        deck.ask(jobs.CancelJob(job=job.id))
        except Fault as fault:
            print(f"jobs were not cancelled: {fault.line()}", file=sys.stderr)


def start(play: Play) -> Figures:
    """The daemon of a fresh home, in profile `team`: four eyes are needed for Production."""
    log = (play.home.parent / "daemon.log").open("ab")
    words = [str(BIN / "quarterdeckd"), "--home", str(play.home), "--profile", "team"]
    play.daemon = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    def there() -> bool:
        try:
            play.deck = connect(play.home)
            play.deck.status()
        except (Unreachable, OSError):
            if play.daemon.poll() is not None:
                raise
            return False
        return True

    play.until(there, "the daemon to answer")
    public = keys.make(Home(play.home), "ana")
    play.deck.ask(AddKey(public=public, person="ana", roles=("approver",)))
    play.ana = connect(play.home, as_="ana")
    me = play.deck.status()
    return {"home": me.home, "profile": me.profile, "people": "you, and ana who approves"}
