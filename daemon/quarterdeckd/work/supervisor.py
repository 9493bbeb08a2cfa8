"""The supervisor: starts the jobs that are queued, follows their files, says how each ended; level-triggered, at start
and always."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.identity import job_key
from quarterdeckd.api.intake import Intake
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.proc import JOB, born
from quarterdeckd.work.adoption import age, alive, claimer, end_all, end_group, ending_of, holder
from quarterdeckd.work.handover import Handover
from quarterdeckd.work.left import clear_steps, read_lines, result_of, steps_told, written_since
from quarterdeckd.work.steps import Steps
from quarterstore.ledger.state import State
from quarterstore.records import jobs, people
from quarterstore.records.faults import Conflict, Fault
from quarterstore.records.places import Home
from quarterstore.records.runs import LogMetrics
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import write_over, write_whole

log = logging.getLogger(__name__)
GRACE = 5.0
"""Seconds between asking a job to end and ending it."""
CHUNKS_KEPT = 7 * 86_400.0
"""Seconds for which the finished chunks of a batch that ended badly wait for somebody to go on with it."""
SILENT = 15.0
"""Seconds without a beat after which a process counts as stuck."""


class Watched:
    """A running job as the supervisor sees it."""

    def __init__(self, job: str, pid: int, since: int, process: subprocess.Popen[bytes] | None) -> None:
        self.job = job
        self.pid = pid
        self.born = since
        self.process = process
        self.offset = 0
        self.asked_to_end: float | None = None
        self.silent = False
        self.descriptor: int | None = None
        """Readable once the process is over."""
        self._beat: float | None = None
        self._heard = time.monotonic()

    def over(self) -> bool:
        """Whether the process has ended; reaps it when it is our own child."""
        if self.process is not None:
            return self.process.poll() is not None
        return not alive(self.pid, self.born)

    def quiet(self, beat: Path) -> float:
        """Seconds for which the beat has not changed, by the monotonic clock: a jump of the wall clock silences
        nobody."""
        found = beat.stat().st_mtime if beat.exists() else None
        if found != self._beat:
            self._beat, self._heard = found, time.monotonic()
        return time.monotonic() - self._heard

    def ending(self) -> str:
        """How it ended, for a person."""
        if self.silent:
            return f"was silent for {SILENT:g} s and was ended"
        return ending_of(self.process.returncode if self.process is not None else None)


class Supervisor:
    """Keeps the jobs that run equal to the jobs that should: `look` may be called at any time, and does what is
    missing."""

    def __init__(
        self, home: Home, view: State, dispatch: Dispatch, intake: Intake, artefacts: Artefacts, bus: Bus, workers: int
    ) -> None:
        self.home = home
        self.handover = Handover(home, view, artefacts)
        self.before_start: dict[jobs.JobKind, Callable[[], Any]] = {}
        """What has to be done before a job of a kind is started (predictions folded before drift is looked for)."""
        self._view = view
        self._dispatch = dispatch
        self._intake = intake
        self._bus = bus
        self._steps = Steps(view, dispatch, self.handover)
        self._workers = workers
        self._watched: dict[str, Watched] = {}
        self._looked = False
        self._looking = asyncio.Lock()
        self._wake = asyncio.Event()
        bus.on_kept(self._kept)

    def _kept(self, kept: Kept) -> None:
        if any(isinstance(event, jobs.JobQueued | jobs.JobEnded) for event in kept.events):
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled: look now, whenever a job is queued or ended, and five times a second while any runs."""
        await asyncio.to_thread(self.handover.forget_chunks, time.time() - CHUNKS_KEPT)
        while True:
            await self.look()
            try:
                # not wait_for: in Python 3.11 it swallows a cancel that comes with the wake, and stopping hangs
                async with asyncio.timeout(0.2 if self._watched else 5.0):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def look(self) -> None:
        """Follow what runs, adopt what ran before the daemon did, end what was cancelled, start what is queued."""
        async with self._looking:
            for watched in list(self._watched.values()):
                await self._follow(watched)
            for job in [job for job in self._view.jobs if job.state == "RUNNING" and job.id not in self._watched]:
                await self._adopt(job)
            if not self._looked:
                # cancelled as the daemon before ended, or before this look: nobody told its process yet
                self._looked = True
                for job in self._view.jobs:
                    if job.state == "CANCELLED" and job.id not in self._watched and alive(job.pid, job.born):
                        self._watch(job)
            lasting = sum(self._view.jobs[each].kind == "stream" for each in self._watched)
            free = self._workers - (len(self._watched) - lasting)
            queued = sorted(
                (job for job in self._view.jobs if job.state == "QUEUED"),
                key=lambda job: (job.kind != "admission", job.created),
            )
            # a stream lasts: it waits for no worker, and takes none from what ends
            streams = [job for job in queued if job.kind == "stream"]
            ending = [job for job in queued if job.kind != "stream"]
            for job in [*streams, *ending[: max(0, free)]]:
                await self._start(job)

    async def _start(self, job: jobs.Job) -> None:
        folder = self.home.jobs / job.id
        pid = holder(folder)
        if pid is None and (before := claimer(folder)) is not None:
            # a worker that ended before anybody noted that it began
            await asyncio.to_thread(end_all, folder, before, None)
        if pid is None and not (folder / "result.json").exists():
            try:
                if job.kind == "pipeline":
                    await self._give_key(job)
                pid = await asyncio.to_thread(self._spawn, job, folder)
            except (Fault, OSError) as error:
                words = error.line() if isinstance(error, Fault) else f"it could not be started: {error.strerror}"
                await self._speak(jobs.EndJob(job=job.id, state="FAILED", error=words))
                return
        since = born(pid) if pid is not None else None
        await self._speak(jobs.BeginJob(job=job.id, pid=pid or 0, born=since or 0))
        if pid is not None and since is not None and job.id not in self._watched:
            self._watched[job.id] = Watched(job.id, pid, since, None)
        if job.id not in self._watched:
            await self._ended(job.id)
        elif self._watched[job.id].descriptor is None:
            self._wake_at_the_end(self._watched[job.id])

    async def _give_key(self, job: jobs.Job) -> None:
        """A pipeline may run a person's code: what that asks of the daemon it asks with a key of its own."""
        public = await asyncio.to_thread(job_key, self.home, job.id)
        await self._dispatch.speak(people.AddJobKey(public=public, job=job.id), request=f"key-{job.id}")

    def _spawn(self, job: jobs.Job, folder: Path) -> int:
        before = self.before_start.get(job.kind)
        if before is not None:
            before()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        spec = jobs.JobSpec(job=job.id, kind=job.kind, spec=self.handover.resolved(job), limits=job.limits)
        write_whole(folder / "spec.json", msgspec.json.encode(spec))
        environment = {**os.environ, "QUARTERDECK_HOME": str(self.home.root), "QUARTERDECK_AS": job.id, JOB: job.id}
        environment["QUARTERDECK_RUN"] = self._run_of(job) or ""
        environment.pop("NOTIFY_SOCKET", None)
        environment.pop("QD_CRASH_AT", None)
        with (folder / "log.txt").open("ab") as log_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "quarterdeckd.pipeline.worker", str(folder)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                env=environment,
            )
        self._watched[job.id] = Watched(job.id, process.pid, born(process.pid) or 0, process)
        return process.pid

    async def _adopt(self, job: jobs.Job) -> None:
        if alive(job.pid, job.born):
            self._watch(job)
        else:
            await asyncio.to_thread(end_all, self.home.jobs / job.id, job.pid, job.born)
            await self._ended(job.id)

    def _watch(self, job: jobs.Job) -> None:
        assert job.pid is not None and job.born is not None
        watched = Watched(job.id, job.pid, job.born, None)
        watched.offset = self._offset_of(job.id)
        self._watched[job.id] = watched
        self._wake_at_the_end(watched)
        log.info("adopted %s, process %d", job.id, job.pid)

    def _wake_at_the_end(self, watched: Watched) -> None:
        """Look again the moment a process is over, not at the next turn."""
        try:
            watched.descriptor = os.pidfd_open(watched.pid)
        except ProcessLookupError:
            self._wake.set()
            return
        asyncio.get_running_loop().add_reader(watched.descriptor, self._wake.set)

    def _forget(self, watched: Watched) -> None:
        del self._watched[watched.job]
        if watched.descriptor is not None:
            asyncio.get_running_loop().remove_reader(watched.descriptor)
            os.close(watched.descriptor)

    async def _follow(self, watched: Watched) -> None:
        job = self._view.jobs[watched.job]
        over = watched.over()
        await self._read_progress(watched)
        if over:
            self._forget(watched)
            await asyncio.to_thread(end_all, self.home.jobs / watched.job, watched.pid, watched.born)
            self.home.secret_key(watched.job).unlink(missing_ok=True)
            if job.state == "RUNNING":
                await self._ended(watched.job, watched.ending())
            elif job.kind == "pipeline":
                await asyncio.to_thread(clear_steps, self.home.jobs / job.id)
            return
        if job.state == "RUNNING" and watched.quiet(self.home.jobs / job.id / "beat") > SILENT:
            watched.silent = True
            end_group(watched.pid, signal.SIGKILL)  # what cannot beat cannot hear a SIGTERM either
        elif job.state != "RUNNING" or age(watched.born) > job.limits.seconds + GRACE:
            # the worker keeps its own limits, the grace is for one that cannot
            self._end(watched)

    def _end(self, watched: Watched) -> None:
        now = time.monotonic()
        if watched.asked_to_end is None:
            watched.asked_to_end = now
            end_group(watched.pid, signal.SIGTERM)
        elif now - watched.asked_to_end > GRACE:
            end_group(watched.pid, signal.SIGKILL)

    async def _ended(self, job_id: str, ending: str = "ended") -> None:
        """Say how a job ended, by its result file; without one it is LOST, with one that cannot be read FAILED."""
        job = self._view.jobs[job_id]
        folder = self.home.jobs / job_id
        if job.kind == "pipeline":
            # what was told and not read yet, or read by a daemon that died before it said so
            await self._steps.note(job, await asyncio.to_thread(steps_told, job_id, folder))
        run = self._run_of(job)
        metrics = self._intake.latest.get(run, {}) if run else {}
        result = await asyncio.to_thread(result_of, folder)
        if result is None:
            why = f"its process {ending} without a result"
            act = jobs.EndJob(job=job_id, state="LOST", error=why, metrics=metrics)
        else:
            act = await asyncio.to_thread(self._act_of, job, folder, result, metrics)
        await self._speak(act)
        if act.state != "SUCCEEDED":
            await asyncio.to_thread(shutil.rmtree, folder / "out", True)
        await asyncio.to_thread(clear_steps, folder)

    def _act_of(self, job: jobs.Job, folder: Path, result: jobs.JobResult, metrics: dict[str, float]) -> jobs.EndJob:
        if not result.ok or result.result is None:
            state: jobs.JobState = "CANCELLED" if result.error == "cancelled" else "LOST" if result.lost else "FAILED"
            return jobs.EndJob(job=job.id, state=state, error=result.error, metrics=metrics)
        try:
            taken = self.handover.taken_over(job, folder, result.result)
        except KeyError as error:
            return jobs.EndJob(job=job.id, state="FAILED", error=f"its result has no {error}", metrics=metrics)
        except (Fault, OSError, msgspec.ValidationError) as error:
            words = error.line() if isinstance(error, Fault) else str(error)
            return jobs.EndJob(job=job.id, state="FAILED", error=words, metrics=metrics)
        shutil.rmtree(folder / "out", ignore_errors=True)
        return jobs.EndJob(job=job.id, state="SUCCEEDED", result=taken, metrics=metrics)

    async def _speak(self, act: Any) -> None:
        """Speak an act once; a conflict means that somebody (a cancel) was faster."""
        try:
            await self._dispatch.speak(act, request=f"{type(act).__name__.lower()}-{act.job}")
        except Conflict as fault:
            log.info("%s: %s", act.job, fault.line())
        except Fault as fault:
            log.error("%s could not be ended as %s: %s", act.job, act, fault.line())
            if isinstance(act, jobs.EndJob) and act.state == "SUCCEEDED":
                failed = jobs.EndJob(job=act.job, state="FAILED", error=fault.line(), metrics=act.metrics)
                await self._dispatch.speak(failed, request=f"failed-{act.job}")

    def _run_of(self, job: jobs.Job) -> str | None:
        run = job.spec.get("run")
        return run if isinstance(run, str) else None

    def _offset_of(self, job: str) -> int:
        path = self.home.jobs / job / "offset"
        text = path.read_text(errors="replace").strip() if path.exists() else ""
        return int(text) if text.isdigit() else 0

    async def _read_progress(self, watched: Watched) -> None:
        whole = written_since(self.home.jobs / watched.job, watched.offset)
        if not whole:
            return
        lines = read_lines(watched.job, whole)
        job = self._view.jobs[watched.job]
        end = watched.offset + len(whole)
        self._log_points(job, [line for line in lines if line.kind == "point"], watched.offset, end)
        watched.offset = end
        write_over(self.home.jobs / watched.job / "offset", str(end).encode())
        for line in lines:
            if line.kind == "progress":
                self._bus.pulse(jobs.Progress(job=job.id, step=line.name, fraction=line.fraction, words=line.words))
        if job.kind == "pipeline":
            await self._steps.note(job, lines)

    def _log_points(self, job: jobs.Job, lines: list[jobs.Line], start: int, end: int) -> None:
        run = self._run_of(job)
        if not lines or run is None:
            return
        keys = tuple(dict.fromkeys(line.name for line in lines))
        index = {key: number for number, key in enumerate(keys)}
        values = [float(line.value) if line.value is not None else float("nan") for line in lines]
        batch = LogMetrics(
            run=run,
            batch=f"{job.id}.{start}.{end}",
            keys=keys,
            key=array("H", [index[line.name] for line in lines]).tobytes(),
            step=array("q", [line.number for line in lines]).tobytes(),
            time=array("d", [line.at for line in lines]).tobytes(),
            value=array("d", values).tobytes(),
        )
        try:
            self._intake.take(batch)
        except Fault as fault:
            log.error("points of %s: %s", job.id, fault.line())
            return
