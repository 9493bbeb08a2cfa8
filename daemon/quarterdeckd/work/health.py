"""How the daemon is: one status record, and what the doctor finds."""

from __future__ import annotations

import os
import resource
import shutil
import time
from importlib.metadata import version
from pathlib import Path

from quarterdeckd.api.posting import Poster
from quarterdeckd.api.writer import Writer
from quarterdeckd.services.schedules import in_maintenance
from quarterdeckd.work.retaining import Retaining
from quarterdeckd.work.rollouts import Rollouts
from quarterstore.ledger.opening import Ledger
from quarterstore.ledger.state import State
from quarterstore.records import store
from quarterstore.records.deployments import ServingState

FEW = 5 * 1024**3
"""Bytes free below which the doctor warns."""


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
        profile: str,
        refused: object,
    ) -> None:
        self._ledger = ledger
        self._view = view
        self._writer = writer
        self._poster = poster
        self._rollouts = rollouts
        self._retaining = retaining
        self._profile = profile
        self._started = time.time()
        self._refused = refused

    def status(self, seq: int) -> store.Status:
        """The daemon in one record; cheap, it is asked often."""
        view, home = self._view, self._ledger.home
        serving = self._rollouts.serving
        return store.Status(
            version=version("quarterdeck"),
            home=str(home.root),
            profile=self._profile,
            pid=os.getpid(),
            started=self._started,
            seq=seq,
            posted=self._poster.posted,
            counts={
                name: len(book)
                for name, book in view.books().items()
                if name not in ("undo", "cursors", "admissions", "gate_answers", "retentions", "maintenance")
            },
            disk_free=shutil.disk_usage(home.root).free,
            disk_used={},
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
        home = self._ledger.home
        free = shutil.disk_usage(home.root).free
        kinds = ("secret", "hook", "token", "key")
        secrets = [path for kind in kinds for path in home.keys.glob(f"*.{kind}")]
        loose = [path.name for path in secrets if path.stat().st_mode & 0o077]
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        serving = self._rollouts.serving
        live = [found.endpoint for found in self._view.deployments if found.live]
        damaged = sorted((home.serving / "predictions").glob("*.damaged"))
        checks = [
            ("store", self._writer.read_only is None, self._writer.read_only or "writing goes on", "free some room"),
            ("disk", free > FEW, f"{free / 1e9:.1f} GB free", "free some room: qd status --json shows what uses it"),
            (
                "projection",
                not self._poster.stale,
                "as the journal" if not self._poster.stale else str(self._poster.stale),
                "restart: it is made again",
            ),
            ("recovery", True, self._ledger.recovered or "nothing had to be recovered", ""),
            (
                "keys",
                not loose,
                "only you can read them" if not loose else f"others can read {', '.join(loose)}",
                "chmod 600 them",
            ),
            ("sockets", _private(home.runtime), f"{home.runtime}", "chmod 700 it"),
            ("open files", files >= 1024, f"limit {files}", "raise LimitNOFILE"),
            (
                "serving",
                not live or serves(serving),
                serving.error or serving_words(serving, self._rollouts.stopped()),
                "qd serving start" if self._rollouts.stopped() else "qd serving status",
            ),
            self._stages(),
            (
                "retention",
                not self._retaining.unmet(),
                self._retaining.unmet()
                or "; ".join(f"{kind}: {words}" for kind, words in self._retaining.words().items()),
                "raise the limit (qd retention set) or release a hold (qd hold list)",
            ),
            (
                "predictions",
                self._rollouts.dropped == 0,
                f"{self._rollouts.dropped} dropped",
                "free some room under serving/",
            ),
            (
                "segments",
                not damaged,
                damaged[0].read_text() + (f", and {len(damaged) - 1} more" if len(damaged) > 1 else "")
                if damaged
                else "every recorded prediction could be read",
                "look at the disk, then remove serving/predictions/*.damaged",
            ),
        ]
        return [
            store.Finding(name=name, ok=ok, words=words, next="" if ok else todo) for name, ok, words, todo in checks
        ]

    def _stages(self) -> tuple[str, bool, str, str]:
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
        return "stages", not wrong, "; ".join(wrong) or "what answers is in Production", "; ".join(todo)

    def disk_used(self) -> dict[str, int]:
        """Bytes under each folder of the home."""
        return {
            folder.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            for folder in sorted(self._ledger.home.root.iterdir())
            if folder.is_dir()
        }


def _private(folder: Path) -> bool:
    return folder.exists() and folder.stat().st_mode & 0o077 == 0


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
