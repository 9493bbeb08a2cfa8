"""Who may speak which message: the key names the person, the person's roles decide, at every request."""

from __future__ import annotations

from typing import Any, NamedTuple

from quarterstore.ledger.state import State
from quarterstore.records.base import Role, tag_of
from quarterstore.records.faults import Forbidden
from quarterstore.records.runs import Beat, EndRun, LogArtefact, LogMetrics, LogParams, SetTags
from quarterstore.records.store import GetBlob, PutBlob, ShowStatus

JOB_MAY: tuple[type, ...] = (Beat, EndRun, LogArtefact, LogMetrics, LogParams, SetTags, PutBlob, GetBlob, ShowStatus)
"""What a job's own key may speak, and only of its own run."""


class Speaker(NamedTuple):
    """The person behind a key."""

    person: str
    roles: tuple[Role, ...]
    key: str
    run: str | None = None
    job: str | None = None


DAEMON = Speaker("quarterdeckd", ("daemon", "admin"), "")
"""The daemon itself: its clock, its supervisor, its reactions."""


def speaker_of(state: State, public: str) -> Speaker:
    """The person a key speaks for; `Forbidden` for a key that is unknown or revoked."""
    key = state.keys.get(public)
    if key is None or key.revoked is not None:
        raise Forbidden("this key may not speak", field="key")
    return Speaker(key.person, state.people[key.person].roles, public, key.run, key.job)


def check(speaker: Speaker, message: Any) -> None:
    """Raise `Forbidden` unless the speaker holds the role the message needs; a job's key writes its own run only."""
    kind = type(message)
    if speaker.job is not None:
        if kind not in JOB_MAY or getattr(message, "run", speaker.run) != speaker.run:
            raise Forbidden(f"the key of {speaker.job} may write its own run only", field="key")
        return
    needed: Role = kind.role
    roles = speaker.roles
    if needed in roles or (needed != "daemon" and "admin" in roles):
        return
    if needed == "viewer" and roles:
        return
    raise Forbidden(
        f"{tag_of(kind)} needs the role {needed}; {speaker.person} holds {', '.join(roles) or 'none'}", field="role"
    )
