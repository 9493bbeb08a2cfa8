"""The steps of a run, begun as those before them are done: cached, reused, tried again, ended at their limits."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import select
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from msgspec.structs import replace

from quarterdeckd.pipeline import forking, kinds, made
from quarterdeckd.pipeline.ending import StepEnded
from quarterdeckd.pipeline.forking import Forked
from quarterdeckd.pipeline.keying import key
from quarterdeckd.pipeline.progress import Report
from quarterdeckd.pipeline.sources import laid
from quarterdeckd.pipeline.step import At
from quarterdeckd.pipeline.watch import BEAT
from quarterdeckd.proc import born
from quarterstore.records import flows
from quarterstore.records.evaluations import Against
from quarterstore.records.faults import Fault, got
from quarterstore.records.features import JoinSpec
from quarterstore.records.pipeline_results import PipelineOutcome
from quarterstore.records.pipelines import CACHED, PipelineSpec, Step, StepSection
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import digest_of

LONGEST_WAIT = 600.0
"""Seconds between two tries at most."""


class Engine:
    """One run of a flow in the folder of its job; this process does none of the work itself."""

    def __init__(self, spec: PipelineSpec, report: Report, folder: Path) -> None:
        self._spec = spec
        self._report = report
        self._folder = folder
        self._store = Artefacts(Path(spec.store), Path(spec.store))
        self._flow = flows.flow(spec.definition)
        self._ours = [step for step in self._flow if not (step.uses and flows.KINDS[step.uses].daemon)]
        self._steps = {step.name: step for step in spec.steps or flows.waiting(spec.definition)}
        self._places: dict[str, dict[str, Path]] = {}
        """Step that is done -> its files and where they lie."""
        self._running: dict[str, Forked] = {}
        self._not_before: dict[str, float] = {}
        self._failed: StepEnded | None = None
        self._told_to_end = False
        self._preempted: dict[str, str] = {}
        self._rehearsed = spec.preempt is None
        self._bell, self._ringer = os.pipe()
        os.set_blocking(self._ringer, False)

    def run(self) -> PipelineOutcome:
        """Until every step is done, one asks a person, or one ended the run (`StepEnded`), or it is cancelled."""
        signal.set_wakeup_fd(self._ringer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_beat)
        # a timer, not a thread (it forks) and not a turn of the loop: hashing a large file is longer than the patience
        # of the supervisor
        signal.setitimer(signal.ITIMER_REAL, 0.001, BEAT)
        forking.adopt_orphans()
        try:
            laid(self._folder / "code", self._spec.sources, self._store)
            self._take_up()
            while self._go_on():
                self._wait()
        finally:
            for forked in self._running.values():
                forked.end("")
                forked.reap()
            forking.end_orphans(set())
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._told_to_end:
            raise KeyboardInterrupt
        if self._failed is not None:
            raise self._failed
        asks = next((step for step in self._ours if self._steps[step.name].state != "DONE"), None)
        if asks is not None:
            return PipelineOutcome(asks=self._asked(asks))
        return PipelineOutcome(result=self._result())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = True

    def _on_beat(self, number: int, frame: FrameType | None) -> None:
        (self._folder / "beat").touch()

    def _take_up(self) -> None:
        """Steps that were done before this job are done, as long as their files are what they were."""
        for step in self._ours:
            known = self._steps[step.name]
            if known.state != "DONE":
                continue
            if all(each in self._places for each in step.after) and self._found(known.outputs, step.name):
                continue
            self._tell(
                replace(known, state="WAITING", outputs={}, how="", words="its files are gone: it is done again")
            )

    def _found(self, outputs: Mapping[str, str], name: str) -> bool:
        try:
            self._places[name] = {file: self._store.checked(digest) for file, digest in outputs.items()}
        except Fault as fault:
            print(f"{name}: {fault.line()}", flush=True)
            return False
        return True

    def _go_on(self) -> bool:
        """Begin what can be begun; whether anything runs or waits for its next try."""
        if self._told_to_end or self._failed is not None:
            return bool(self._running)
        more = True
        while more:
            more = False
            for step in self._ready():
                free = self._failed is None and len(self._running) < max(1, self._spec.definition.parallel)
                if free and self._begin(step):
                    more = True  # a cached step may be what the next one waited for
        return bool(self._running) or bool(self._not_before)

    def _ready(self) -> Iterator[StepSection]:
        now = time.monotonic()
        for step in self._ours:
            waits = self._steps[step.name].state not in ("DONE", "RUNNING")
            if (
                waits
                and step.uses != "approve"
                and self._not_before.get(step.name, 0.0) <= now
                and all(self._steps[each].state == "DONE" for each in step.after)
            ):
                yield step

    def _begin(self, step: StepSection) -> bool:
        """Take a step from the cache (True), or begin it."""
        self._not_before.pop(step.name, None)
        known = self._steps[step.name]
        inputs = self._digests(step)
        spec = self._spec
        join, against = self._join(step), self._against(step)
        try:
            digest = key(spec.definition, step, self._data(), spec.sources, inputs, against, join)
        except Fault as fault:  # such as an interpreter that is no longer there
            now = time.time()
            tried = replace(known, attempts=known.attempts + 1, started=now, ended=now)
            self._again(step, tried, fault.line(), lost=False)
            return False
        cached = self._spec.cache.get(digest)
        if cached is not None and self._found(cached.outputs, step.name):
            now = time.time()
            self._tell(
                replace(
                    known,
                    state="DONE",
                    started=now,
                    ended=now,
                    key=digest,
                    how="cached",
                    words=CACHED,
                    figures=cached.figures,
                    outputs=cached.outputs,
                )
            )
            return True
        self._fork(step, replace(known, key=digest, attempts=known.attempts + 1))
        return False

    def _fork(self, step: StepSection, known: Step) -> None:
        folder = self._folder / "steps" / step.name
        for part in ("out", "work"):
            shutil.rmtree(folder / part, ignore_errors=True)
            (folder / part).mkdir(parents=True)
        (folder / "answer.json").unlink(missing_ok=True)
        at = self._at(step, folder / "out", self._checkpoint(known.key))
        at.checkpoint.mkdir(parents=True, exist_ok=True)
        do = kinds.function_of(flows.kind_of(step))
        forked = forking.fork(do, at, folder, step.limits)
        with (self._folder / "groups").open("a") as groups:
            groups.write(f"{forked.pid} {born(forked.pid) or 0}\n")
        self._running[step.name] = forked
        began = replace(known, state="RUNNING", started=time.time(), ended=None, how="", words="", figures={})
        self._tell(began)

    def _wait(self) -> None:
        """Until a step is over, a signal comes, or it is time to look again."""
        descriptors = {forked.descriptor: name for name, forked in self._running.items()}
        soon = min([*self._not_before.values(), time.monotonic() + forking.LOOK_EVERY]) - time.monotonic()
        ready, _, _ = select.select([self._bell, *descriptors], [], [], max(0.0, soon))
        if self._bell in ready:
            os.read(self._bell, 64)
        for descriptor in ready:
            if descriptor in descriptors:
                self._over(descriptors[descriptor])
        table = functools.cache(forking.processes)  # read once, if anybody looks
        for forked in self._running.values():
            if self._told_to_end and forked.asked_to_end is None:
                forked.ask_to_end()
            self._rehearse(forked)
            forked.look(table)

    def _rehearse(self, forked: Forked) -> None:
        """The preemption that was asked for, once a run and where there is a checkpoint to go on from: SIGTERM."""
        if self._rehearsed or time.monotonic() - forked.began < (self._spec.preempt or 0.0):
            return
        if not any(forked.checkpoint.iterdir()):
            return
        self._rehearsed = forked.preempted = True
        forked.ask_to_end()

    def _over(self, name: str) -> None:
        """What came of a step: its files, another try, or the end of the run."""
        step = next(each for each in self._ours if each.name == name)
        forked = self._running.pop(name)
        answer, how = forked.reap()
        forking.end_orphans({each.pid for each in self._running.values()})
        with contextlib.suppress(OSError):
            forked.checkpoint.rmdir()  # an empty one is none
        known = replace(self._steps[name], ended=time.time())
        if self._told_to_end:
            return
        if answer is not None and answer.ok and forked.ended_for is None:
            words = "; ".join(filter(None, (answer.words, self._preempted.get(name))))
            self._done(step, replace(known, words=words, figures=answer.figures))
        elif forked.preempted and forked.ended_for is None:
            self._preempted[name] = f"preempted after {time.monotonic() - forked.began:.1f} s"
            words = f"{self._preempted[name]}, goes on from its checkpoint"
            self._tell(replace(known, state="WAITING", words=words, attempts=known.attempts - 1))
        elif forked.ended_for:
            self._again(step, known, forked.ended_for, lost=False)
        elif answer is not None:
            self._again(step, replace(known, figures=answer.figures), answer.words, lost=False)
        else:
            how = f"was silent for {forking.STUCK:g} s and was ended" if forked.ended_for == "" else how
            self._again(step, known, f"its process {how} without a result", lost=True)

    def _done(self, step: StepSection, known: Step) -> None:
        out = self._folder / "steps" / step.name / "out"
        try:
            files = dict(_files(out))
        except Fault as fault:
            self._again(step, known, fault.line(), lost=False)
            return
        self._places[step.name] = {name: out / name for name in files}
        shutil.rmtree(self._folder / "steps" / step.name / "work", ignore_errors=True)
        shutil.rmtree(self._checkpoint(known.key), ignore_errors=True)
        self._tell(replace(known, state="DONE", outputs=files))

    def _again(self, step: StepSection, known: Step, why: str, lost: bool) -> None:
        """Another try after a while (exponential, with jitter: Brooker 2015), or the end of the run."""
        shutil.rmtree(self._folder / "steps" / step.name / "out", ignore_errors=True)
        if known.attempts <= step.retries:
            pause = min(LONGEST_WAIT, step.backoff * 2.0 ** (known.attempts - 1)) * random.uniform(0.5, 1.5)
            self._not_before[step.name] = time.monotonic() + pause
            words = f"try {known.attempts} of {step.retries + 1} ended, the next in {pause:.1f} s: {why}"
            self._tell(replace(known, state="WAITING", words=words))
            return
        self._failed = StepEnded(why, lost)
        self._tell(replace(known, state="LOST" if lost else "FAILED", words=why))
        for forked in self._running.values():
            forked.ask_to_end()

    def _tell(self, step: Step) -> None:
        self._steps[step.name] = step
        self._report.step(step)
        print(f"{step.name}: {step.state.lower()} {step.words}".rstrip(), flush=True)

    def _against(self, step: StepSection) -> Against | None:
        return self._spec.against if step.uses == "evaluate" else None

    def _join(self, step: StepSection) -> JoinSpec | None:
        return self._spec.join if step.uses == "features" else None

    def _data(self) -> str | None:
        data = self._spec.definition.data
        return data.dataset or data.builtin

    def _checkpoint(self, digest: str) -> Path:
        return Path(self._spec.checkpoints) / digest

    def _digests(self, step: StepSection) -> dict[str, str]:
        """The files of every step this one is behind, `STEP/FILE` -> SHA-256."""
        return {
            f"{name}/{file}": digest
            for name in flows.above(self._flow, step.name)
            if name in self._places
            for file, digest in sorted(self._steps[name].outputs.items())
        }

    def _at(self, step: StepSection, out: Path, checkpoint: Path) -> At:
        inputs = {
            f"{name}/{file}": path
            for name in flows.above(self._flow, step.name)
            for file, path in sorted(self._places.get(name, {}).items())
        }
        return At(
            name=step.name,
            definition=flows.effective(self._spec.definition, step),
            params=step.params,
            inputs=inputs,
            out=out,
            checkpoint=checkpoint,
            code=self._folder / "code",
            data=Path(self._spec.data) if self._spec.data else None,
            report=self._report,
            artefact=self._store.checked,
            against=self._against(step),
            join=self._join(step),
        )

    def _asked(self, step: StepSection) -> Step:
        """The step that asks, with what a person may want to know: figures of the steps before it, hashes of files."""
        before = [self._steps[name] for name in flows.above(self._flow, step.name)]
        evidence = {each.name: each.figures for each in before if each.figures}
        figures: dict[str, Any] = {"evidence": evidence, "files": self._digests(step)}
        return replace(self._steps[step.name], state="ASKING", figures=figures)

    def _result(self) -> Any:
        register = next((step for step in self._flow if step.uses == "register"), None)
        if register is None:
            return None
        at = self._at(register, self._folder, self._folder)
        return made.result(at, self._digests(register), tuple(self._steps[step.name] for step in self._ours))


def _files(out: Path) -> Iterator[tuple[str, str]]:
    """The plain files below a folder, path -> SHA-256; anything else there is a fault."""
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or (path.is_file() and path.lstat().st_nlink > 1):
            raise got(name, "a link or a device", "plain files under out")
        if path.is_file():
            yield name, digest_of(path)
