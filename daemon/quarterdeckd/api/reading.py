"""The readers: queries that look into files or the projection, and the blobs; each runs in a thread, none blocks the
loop."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.dispatch import Wide
from quarterdeckd.api.intake import Intake
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.api.posting import Poster
from quarterdeckd.api.searching import Searching
from quarterdeckd.services import runs as run_rules
from quarterdeckd.services import search as search_rules
from quarterstore.ledger import journal
from quarterstore.ledger.finding import one_of, run_of
from quarterstore.ledger.opening import Ledger
from quarterstore.ledger.state import State
from quarterstore.records import governance, jobs, pipelines, runs, store
from quarterstore.records.faults import got, missing
from quarterstore.records.names import composed
from quarterstore.records.search import Branch, ListColumns, RunColumns, RunTree, SearchRuns
from quarterstore.records.wire import PROTOCOL, Published, encode
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import open_inside

POSTED_WITHIN = 5.0
LONGEST_LOG = 256 * 1024
"""Bytes of a log that are read, from its end."""
INDEX_AFTER = 0.5
"""Seconds after a search until the index is made: who opens a screen asks for more at once, and would wait for it."""


class Readers:
    """What the readers need: the open store, the certain state, the samples."""

    def __init__(self, ledger: Ledger, view: State, poster: Poster, intake: Intake, artefacts: Artefacts) -> None:
        self.ledger = ledger
        self.view = view
        self.poster = poster
        self.intake = intake
        self.artefacts = artefacts
        self.searching = Searching(view, lambda run: intake.latest.get(run, {}), INDEX_AFTER)

    def latest(self, run: runs.Run) -> dict[str, float]:
        """The last value of each metric of a run, as far as the intake knows."""
        return self.intake.latest.get(run.id, {})

    def list_runs(self, query: runs.ListRuns, speaker: Speaker, seen: int) -> runs.RunPage:
        """A page of runs."""
        return run_rules.page(self.view, query, lambda run: self.latest(run) or run.metrics)

    def search_runs(self, query: SearchRuns, speaker: Speaker, seen: int) -> runs.RunPage:
        """A page of the runs that an expression holds of."""
        return self.searching.search(query)

    def run_columns(self, query: ListColumns, speaker: Speaker, seen: int) -> RunColumns:
        """The names that runs have."""
        return self.searching.columns(query)

    def show_run(self, query: runs.ShowRun, speaker: Speaker, seen: int) -> runs.Run:
        """One run with its last metrics."""
        run = run_of(self.view, query.run, removed=True)
        return run_rules.with_metrics(run, self.latest(run))

    def tree(self, query: RunTree, speaker: Speaker, seen: int) -> list[Branch]:
        """Nested runs, each with its last metrics."""
        branches = search_rules.tree(self.view, query)
        return [replace(each, run=run_rules.with_metrics(each.run, self.latest(each.run))) for each in branches]

    def compare(self, query: runs.CompareRuns, speaker: Speaker, seen: int) -> runs.Comparison:
        """Runs side by side."""
        return run_rules.compare(self.view, query, lambda run: {**run.metrics, **self.latest(run)})

    def history(self, query: runs.MetricHistory, speaker: Speaker, seen: int) -> list[runs.Curve]:
        """Curves of a run."""
        run = run_of(self.view, query.run, removed=True)
        return self.intake.history(run.id, query.keys, query.points)

    def job_log(self, query: jobs.JobLog, speaker: Speaker, seen: int) -> list[str]:
        """The last lines of a job's log, behind them those of its steps; at most 256 KiB of each are read."""
        job: jobs.Job = one_of(self.view.jobs, "job", query.job)
        folder = self.ledger.home.jobs / job.id
        logs = sorted(folder.glob("steps/*/log.txt"), key=lambda path: path.lstat().st_mtime)
        names = [("log.txt",), *(("steps", path.parent.name, "log.txt") for path in logs)]
        return _last([(folder, each) for each in names], query.lines)

    def pipeline_log(self, query: pipelines.PipelineLog, speaker: Speaker, seen: int) -> list[str]:
        """The last lines of the steps of a run, each where it was run last."""
        run: pipelines.PipelineRun = one_of(self.view.pipeline_runs, "pipeline_run", query.pipeline_run)
        names = [step.name for step in run.steps]
        if query.step is not None and query.step not in names:
            raise missing("step", query.step, names)
        asked = [step for step in run.steps if query.step in (None, step.name)]
        jobs_of = ((step, self.ledger.home.jobs / (step.job or run.job)) for step in asked)
        return _last([(folder, ("steps", step.name, "log.txt")) for step, folder in jobs_of], query.lines)

    def audit(self, query: governance.ListAudit, speaker: Speaker, seen: int) -> list[governance.AuditEntry]:
        """The audit trail, newest first."""
        self.poster.wait_for(seen, POSTED_WITHIN)
        pattern = "%" + composed(query.text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self.ledger.database.query(
            'SELECT seq, "at", actor, act, words, hash, position, '
            "coalesce((SELECT hash FROM entries AS p WHERE p.seq = e.seq - 1), repeat('0', 64)) "
            "FROM (SELECT * FROM entries WHERE seq < ? AND "
            "(actor ILIKE ? ESCAPE '\\' OR act ILIKE ? ESCAPE '\\' OR words ILIKE ? ESCAPE '\\') "
            "ORDER BY seq DESC LIMIT ?) AS e ORDER BY seq DESC",
            [query.before or 2**62, pattern, pattern, pattern, max(1, min(query.limit, 10_000))],
        )
        return [
            governance.AuditEntry(
                seq=seq,
                at=at,
                actor=actor,
                act=act,
                words=words,
                hash=hash_,
                events=self._event_tags(position, bytes.fromhex(before)),
            )
            for seq, at, actor, act, words, hash_, position, before in rows
        ]

    def _event_tags(self, position: int, before: bytes) -> tuple[str, ...]:
        entry = journal.read_at(self.ledger.home.journal, position, before)
        return tuple(str(event.get("type")) for event in msgspec.msgpack.decode(entry.events))

    def head(self, query: governance.ShowHead, speaker: Speaker, seen: int) -> governance.AuditHead:
        """The newest entry that is certain."""
        self.poster.wait_for(seen, POSTED_WITHIN)
        ((newest, digest),) = self.ledger.database.query("SELECT seq, hash FROM head")
        return governance.AuditHead(seq=newest, hash=digest)

    def verify(self, query: governance.VerifyAudit, speaker: Speaker, seen: int) -> governance.AuditVerdict:
        """The journal read from its first byte to the entry that is certain: behind it the writer may be at work."""
        anchor = None
        if query.seq is not None and query.hash is not None:
            try:
                anchor = journal.Head(query.seq, bytes.fromhex(query.hash))
            except ValueError as error:
                raise got("hash", query.hash, "64 hex digits") from error
        found = journal.verify(self.ledger.home.journal, anchor, seen)
        head = governance.AuditHead(seq=found.head.seq, hash=found.head.hash.hex())
        return governance.AuditVerdict(
            ok=found.first_bad is None, entries=found.entries, head=head, first_bad=found.first_bad, why=found.why
        )

    def replay(self, query: store.Replay, speaker: Speaker, seen: int) -> list[msgspec.Raw]:
        """Entries as they were published, for a follower that missed some."""
        self.poster.wait_for(seen, POSTED_WITHIN)
        found: list[msgspec.Raw] = []
        for position, before in self.ledger.database.places(query.after, max(1, min(query.limit, 5000))):
            entry = journal.read_at(self.ledger.home.journal, position, before)
            published = Published(PROTOCOL, entry.seq, entry.at, entry.actor, entry.act, entry.events)
            found.append(msgspec.Raw(encode(published)))
        return found

    def put(self, blob: store.PutBlob, speaker: Speaker, seen: int) -> store.Received:
        """One chunk of an upload."""
        size, digest = self.artefacts.receive(blob.upload, blob.offset, blob.data, blob.digest)
        return store.Received(upload=blob.upload, size=size, digest=digest)

    def get(self, blob: store.GetBlob, speaker: Speaker, seen: int) -> store.Chunk:
        """One chunk of a kept file; the first one is sent only after the whole was checked against its hash."""
        if blob.offset == 0:
            self.artefacts.checked(blob.digest)
        if not blob.offset >= 0 or not 0 < blob.length <= 8 * 1024 * 1024:
            raise got("length", blob.length, "1 to 8 MiB, from offset 0 on")
        data, size = self.artefacts.read(blob.digest, blob.offset, blob.length)
        return store.Chunk(data=data, size=size)


def _last(logs: list[tuple[Path, tuple[str, ...]]], lines: int) -> list[str]:
    """The last lines of files that are there, one behind the other; what a person's code put in the place of one, such
    as a link to somewhere else, is not read."""
    found: list[str] = []
    for folder, names in logs:
        try:
            with open_inside(folder, *names) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_LOG))
                found += file.read(LONGEST_LOG).decode("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            continue
        except OSError:
            found.append(f"{'/'.join(names)}: got a link or a device, expected a plain file")
    return found[-max(1, min(lines, 10_000)) :]


def readers(found: Readers) -> dict[type, Wide]:
    """The table of what is read in a thread."""
    return {
        runs.ListRuns: found.list_runs,
        SearchRuns: found.search_runs,
        RunTree: found.tree,
        ListColumns: found.run_columns,
        runs.ShowRun: found.show_run,
        runs.CompareRuns: found.compare,
        runs.MetricHistory: found.history,
        jobs.JobLog: found.job_log,
        pipelines.PipelineLog: found.pipeline_log,
        governance.ListAudit: found.audit,
        governance.ShowHead: found.head,
        governance.VerifyAudit: found.verify,
        store.Replay: found.replay,
        store.PutBlob: found.put,
        store.GetBlob: found.get,
    }
