"""The rules of outcomes: each upload is one entry, with the hash of its file and what its rows were."""

from __future__ import annotations

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.state import State
from quarterstore.records import outcomes
from quarterstore.records.faults import Conflict

MOST = 1000


def _note(state: State, act: outcomes.NoteUpload, asking: Asking) -> Decision:
    upload = act.upload
    if upload.id in state.uploads:
        raise Conflict(f"{upload.id} is noted already", field="upload")
    words = (
        f"{upload.by} sent {upload.rows:,} outcomes ({upload.metric}): {upload.joined:,} joined, {upload.late:,} late, "
        f"{upload.unknown:,} unknown, {upload.duplicate:,} duplicate, {upload.conflicting:,} conflicting"
    )
    return Decision([outcomes.OutcomesAdded(upload=upload)], words, lambda after: upload)


def _list(state: State, query: outcomes.ListUploads, asking: Asking) -> list[outcomes.OutcomeUpload]:
    return sorted(state.uploads, key=lambda found: found.at, reverse=True)[: max(1, min(query.limit, MOST))]


RULES: Rules = {outcomes.NoteUpload: _note}
ANSWERS: Answerers = {outcomes.ListUploads: _list}
