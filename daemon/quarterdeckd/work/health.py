"""How the daemon is: one status record, and what the doctor finds."""

from __future__ import annotations

import os
import resource
import shutil
import time
from importlib.metadata import version

from quarterdeckd.api.dispatch import Dispatch, Quick, Wide
from quarterdeckd.api.posting import Poster
from quarterdeckd.api.writer import Writer
from quarterdeckd.services.schedules import in_maintenance
from quarterdeckd.work.disk import Disk, room
from quarterdeckd.work.remotes import Remotes
from quarterdeckd.work.retaining import Retaining
from quarterdeckd.work.rollouts import Rollouts
from quarterstore.ledger.opening import Ledger
from quarterstore.ledger.state import State
from quarterstore.records import store
from quarterstore.records.serving import ServingState

FEW_FILES = 1024
SECRETS = ("secret", "hook", "token", "key")
"""Endings of the files that nobody else may read."""
OTHERS = 0o077


class Health:
    """Looks at the parts of a running daemon."""

    def __init__(
        self,
        ledger: Ledger,
        view: State,
        writer: Writer,
        poster: Poster,
        rollouts: Rollouts,
        retaining: Retaining,
        remotes: Remotes,
        dispatch: Dispatch,
        refused: object,
        disk: Disk,
    ) -> None:
        self._ledger = ledger
        self._home = ledger.home
        self._view = view
        self._writer = writer
        self._poster = poster
        self._rollouts = rollouts
        self._retaining = retaining
        self._remotes = remotes
        self._dispatch = dispatch
        self._started = time.time()
        self._refused = refused
        self._disk_used = disk

    def readers(self) -> dict[type, Wide]:
        """What is asked -> what answers it, in threads."""
        return {store.Diagnose: lambda query, speaker, seen: self.findings()}

    def quick(self) -> dict[type, Quick]:
        """What is asked -> what answers it, on the loop."""
        return {store.ShowStatus: lambda query, speaker: self.status()}

    def status(self) -> store.Status:
        """The daemon in one record; cheap, it is asked often."""
        view, home = self._view, self._home
        serving = self._rollouts.serving
        return store.Status(
            version=version("quarterdeck"),
            home=str(home.root),
            profile=self._dispatch.profile,
            pid=os.getpid(),
            started=self._started,
            seq=self._dispatch.seq,
            posted=self._poster.posted,
            counts={
                name: len(book)
                for name, book in view.books().items()
                if name not in ("undo", "cursors", "admissions", "gate_answers", "retentions", "maintenance")
            },
            disk_free=shutil.disk_usage(home.root).free,
            disk_used=self._disk_used.used,
            read_only=self._writer.read_only,
            stale=tuple(f"{name}: {why}" for name, why in self._poster.stale.items()),
            recovered=self._ledger.recovered,
            serving=serving_words(serving, self._rollouts.stopped()),
            alerts=sum(alert.resolved is None for alert in view.alerts),
            approvals=sum(approval.state == "WAITING" for approval in view.approvals),
            jobs=sum(job.state in ("QUEUED", "RUNNING") for job in view.jobs),
            dropped={
                "predictions": self._rollouts.dropped,
                "handshakes refused": int(getattr(self._refused, "refused", 0)),
            },
            samples=self._retaining.words(),
            maintenance=maintenance.reason if (maintenance := in_maintenance(view, time.time())) else "",
        )

    def findings(self) -> list[store.Finding]:
        """Everything worth looking at when something is wrong, each with what to do."""
        looks = (
            *(self._store, self._disk, self._projection, self._recovery, self._keys, self._sockets, self._open_files),
            *(self._serving, self._stages, self._retention, self._predictions, self._segments),
        )
        return [*(look() for look in looks), *self._remotes.findings()]

    def _store(self) -> store.Finding:
        why = self._writer.read_only
        return _found("store", why is None, why or "writing goes on", "free some room")

    def _disk(self) -> store.Finding:
        enough, words = room(self._home.root)
        return _found("disk", enough, words, "free some room")

    def _projection(self) -> store.Finding:
        stale = self._poster.stale
        return _found("projection", not stale, str(stale or "as the journal"), "restart: it is made again")

    def _recovery(self) -> store.Finding:
        return _found("recovery", True, self._ledger.recovered or "nothing had to be recovered")

    def _keys(self) -> store.Finding:
        """Whether what is secret is this person's alone."""
        secrets = [path for kind in SECRETS for path in self._home.keys.glob(f"*.{kind}")]
        loose = [path.name for path in secrets if path.stat().st_mode & OTHERS]
        words = f"others can read {', '.join(loose)}" if loose else "only you can read them"
        return _found("keys", not loose, words, "chmod 600 them")

    def _sockets(self) -> store.Finding:
        folder = self._home.runtime
        private = folder.exists() and not folder.stat().st_mode & OTHERS
        return _found("sockets", private, str(folder), "chmod 700 it")

    def _open_files(self) -> store.Finding:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _found("open files", files >= FEW_FILES, f"limit {files}", "raise LimitNOFILE")

    def _serving(self) -> store.Finding:
        """Whether what has an endpoint is answered."""
        serving, stopped = self._rollouts.serving, self._rollouts.stopped()
        live = any(found.live for found in self._view.deployments)
        words = serving.error or serving_words(serving, stopped)
        todo = "qd serving start" if stopped else "qd serving status"
        return _found("serving", not live or serves(serving), words, todo)

    def _stages(self) -> store.Finding:
        """Whether what answers is in Production: another version may have been promoted and not deployed."""
        view, wrong, todo = self._view, [], []
        for found in view.deployments:
            live = view.versions.get(found.live or "")
            if live is None or live.stage == "Production":
                continue
            wrong.append(f"{live.id} answers at {found.endpoint} and is in {live.stage}")
            model = view.models.get(found.model)
            champion = model.production.get(found.environment) if model else None
            deploy = f"qd deploy {found.model}@{champion} --endpoint {found.endpoint}, or " if champion else ""
            todo.append(f"{deploy}qd rollback {found.endpoint}")
        return _found("stages", not wrong, "; ".join(wrong) or "what answers is in Production", "; ".join(todo))

    def _retention(self) -> store.Finding:
        unmet = self._retaining.unmet()
        words = unmet or "; ".join(f"{kind}: {words}" for kind, words in self._retaining.words().items())
        todo = "raise the limit (qd retention set) or release a hold (qd hold list)"
        return _found("retention", not unmet, words, todo)

    def _predictions(self) -> store.Finding:
        dropped = self._rollouts.dropped
        return _found("predictions", dropped == 0, f"{dropped} dropped", "free some room under serving/")

    def _segments(self) -> store.Finding:
        """Whether what hosts recorded could be read."""
        damaged = sorted((self._home.serving / "predictions").glob("*.damaged"))
        words = "every recorded prediction could be read"
        if damaged:
            words = damaged[0].read_text() + (f", and {len(damaged) - 1} more" if len(damaged) > 1 else "")
        todo = "look at the disk, then remove serving/predictions/*.damaged"
        return _found("segments", not damaged, words, todo)


def _found(name: str, ok: bool, words: str, todo: str = "") -> store.Finding:
    return store.Finding(name=name, ok=ok, words=words, next="" if ok else todo)


def serves(serving: ServingState) -> bool:
    """Whether what is deployed answers, all of it, by the routes it should have."""
    return bool(serving.hosts) and not serving.out and not serving.error


def serving_words(serving: ServingState, stopped: bool) -> str:
    """How serving is, in a line: hosts, their bounds where they follow the load, what is out of traffic."""
    if stopped:
        return "stopped by a person (qd serving start)"
    if not serving.hosts:
        return "nothing is served"
    count = len(serving.hosts)
    words = f"{count} host{'s' * (count != 1)} at {serving.address}"
    if serving.most > serving.least:
        words += f" ({serving.least} to {serving.most} by load)"
    return f"{words}; out of traffic: {', '.join(serving.out)}" if serving.out else words
