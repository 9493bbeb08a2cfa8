"""Remotes: other decks that versions are sent to, and here the senders whose signed bundles are taken."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import msgspec

from quarterstore.records.base import Act, Event, Pulse, Query, Record, Role
from quarterstore.records.registry import Metric, RegisterVersion, Signature

FORM: Final = "quarterdeck.bundle/1"
"""What a manifest says it is; another form is refused."""
LONGEST_MANIFEST: Final = 1024 * 1024
WITHIN: Final = 10.0
"""Seconds that one request to a remote may take, unless the remote was added with others."""

Kept = Literal["file", "keyring", "credentials"]
ChangeKind = Literal["deploy", "rollback"]
ChangeState = Literal["WAITING", "DONE", "FAILED"]
Reach = Literal["REACHABLE", "UNREACHABLE", "REFUSED"]


class Remote(Record, frozen=True):
    """Another deck under a name: its address, how far the daemon may go for it, and where its token is kept (`token`
    names it, `kept` says where); `ca` holds certificates (PEM) that are trusted beside the usual ones."""

    name: str
    url: str
    added: float
    added_by: str
    token: str
    kept: Kept = "file"
    within: float = WITHIN
    allow_private: bool = False
    allow_http: bool = False
    ca: str = ""


class RemoteChange(Record, frozen=True):
    """What was asked of a remote: to deploy one of our versions, or to roll an endpoint back; who asked, which file it
    is, when, and what came of it. `serial` grows with each, so that no older bundle can be sent again."""

    id: str
    remote: str
    kind: ChangeKind
    endpoint: str
    state: ChangeState
    asked_by: str
    at: float
    serial: int
    environment: str = "default"
    version: str | None = None
    digest: str | None = None
    reason: str = ""
    bundle: str | None = None
    there: str | None = None
    """The version as the remote calls it."""
    ended: float | None = None
    fault: str | None = None
    """What kind of fault ended it."""
    why: str = ""


class Manifest(Record, frozen=True):
    """What a bundle says of itself; the signature is over these bytes. `receiver` names the one deck that it is for,
    `serial` is milliseconds of the sender's clock and grows with every bundle."""

    form: str
    receiver: str
    serial: int
    at: float
    sent_by: str
    model: str
    version: str
    semver: str
    digest: str
    size: int
    format: str
    signature: Signature
    golden: str | None = None
    golden_size: int = 0
    metrics: tuple[Metric, ...] = ()
    notes: str = ""
    provenance: dict[str, str] = msgspec.field(default_factory=dict)
    """Where it comes from: run, commit, dataset, who made it, who approved it."""


class Sender(Record, frozen=True):
    """A deck whose bundles are taken here: its public key (Ed25519, base64) under a name."""

    name: str
    key: str
    added: float
    added_by: str


class Bundle(Record, frozen=True):
    """A bundle that was taken: from whom, by whose token, what and when; `id` is the SHA-256 of its manifest."""

    id: str
    sender: str
    key: str
    model: str
    serial: int
    digest: str
    theirs: str
    version: str
    """The version it became here."""
    by: str
    at: float
    provenance: dict[str, str] = msgspec.field(default_factory=dict)


class BundlePlan(Record, frozen=True):
    """What is still to be sent of a bundle: for each file (SHA-256) its size and how much of it is here."""

    id: str
    sender: str
    files: dict[str, tuple[int, int]]
    version: str | None = None
    """The version it became, once it was taken."""


class Identity(Record, frozen=True):
    """What this deck is called by others: its name for bundles that are meant for it, and the public key that signs
    those it sends."""

    deck: str
    key: str


class EndpointThere(Record, frozen=True):
    """An endpoint as the deck that has it tells of it. Figures are of the last second that had any; None is unknown,
    which is not 0."""

    endpoint: str
    state: str
    live: str | None
    epoch: int
    why: str = ""
    pending: str | None = None
    bundle: str | None = None
    """The bundle that the live version came in."""
    requests: int | None = None
    errors: int | None = None
    p95: float | None = None


class DeckThere(Record, frozen=True):
    """A deck as it tells of itself at its door."""

    deck: str
    version: str
    profile: str
    endpoints: tuple[EndpointThere, ...] = ()


class Errand(Record, frozen=True, forbid_unknown_fields=True):
    """What a deck wants of an endpoint of another: a bundle deployed, or a rollback."""

    bundle: str = ""
    environment: str = "default"
    reason: str = ""
    change: str = ""
    """The asker's own name of it: asked again, it is done once."""


class Received(Record, frozen=True):
    """How much of a file is there."""

    received: int


class RemoteStatus(Record, frozen=True):
    """How a remote is: REFUSED is an answer that says no. `endpoints` are those of the last answer; without an answer
    now they are what was, and say so in their state."""

    remote: str
    url: str
    state: Reach
    why: str = ""
    heard: float | None = None
    """When it answered last."""
    failures: int = 0
    """In a row; from the fifth on it is asked again only after a pause."""
    deck: str = ""
    version: str = ""
    profile: str = ""
    endpoints: tuple[EndpointThere, ...] = ()


class AddRemote(Act[Remote], tag="remotes.add", frozen=True):
    """Name another deck that versions may be sent to (`https://HOST:PORT`, the address of its `--remote` door). The
    token is the secret of a key there: read from `token_file` on the daemon's machine, or kept in the desktop's keyring
    or in the service's credentials. Private addresses need `allow_private`, plain http beyond loopback `allow_http`;
    `token` and `ca` are filled in by the daemon."""

    role: ClassVar[Role] = "admin"
    name: str
    url: str
    token_file: str | None = None
    kept: Kept = "file"
    ca_file: str | None = None
    within: float = WITHIN
    allow_private: bool = False
    allow_http: bool = False
    token: str = ""
    ca: str = ""


class RemoveRemote(Act[Remote], tag="remotes.remove", frozen=True):
    """Forget a remote and its token; what was deployed there stays there."""

    role: ClassVar[Role] = "admin"
    remote: str


class SendVersion(Act[RemoteChange], tag="remotes.send", frozen=True):
    """Send a Production version to a remote as a signed bundle and deploy it there; what was sent before is not sent
    again. `Unreachable`, and nothing is changed, where the remote does not answer."""

    version: str
    remote: str
    endpoint: str | None = None
    """The model's name unless given."""
    environment: str = "default"


class RollBackThere(Act[RemoteChange], tag="remotes.roll_back", frozen=True):
    """Give the traffic of an endpoint of a remote back to the version before."""

    remote: str
    endpoint: str
    reason: str = ""


class NoteChange(Act[RemoteChange], tag="remotes.note", frozen=True):
    """Say what became of a change; spoken by the daemon once it is over."""

    role: ClassVar[Role] = "daemon"
    change: str
    ok: bool
    bundle: str | None = None
    there: str | None = None
    fault: str | None = None
    why: str = ""


class TrustSender(Act[Sender], tag="remotes.trust", frozen=True):
    """Take bundles that this key signed (`qd remote key` on the other deck says it); the name is how it is called
    here."""

    role: ClassVar[Role] = "admin"
    key: str
    name: str


class DistrustSender(Act[Sender], tag="remotes.distrust", frozen=True):
    """Take no more bundles of a sender; what came before stays."""

    role: ClassVar[Role] = "admin"
    name: str


class TakeBundle(Act[Bundle], tag="remotes.take", frozen=True):
    """Register what a bundle holds, once its files are here. Refused where it is not signed by a trusted sender, was
    altered, is meant for another deck, or is not newer than the last one of its sender and model; `register` is filled
    in by the daemon."""

    manifest: str
    signature: str
    key: str
    register: RegisterVersion | None = None


class CheckBundle(Query[BundlePlan], tag="remotes.check", frozen=True):
    """Whether a bundle would be taken, and how much of its files is here."""

    role: ClassVar[Role] = "operator"
    manifest: str
    signature: str
    key: str


class ListRemotes(Query[list[Remote]], tag="remotes.list", frozen=True):
    """Every remote."""


class ListChanges(Query[list[RemoteChange]], tag="remotes.changes", frozen=True):
    """What was asked of remotes, newest first."""

    remote: str | None = None
    limit: int = 50


class ShowChange(Query[RemoteChange], tag="remotes.show_change", frozen=True):
    """One change."""

    change: str


class ShowRemote(Query[RemoteStatus], tag="remotes.status", frozen=True):
    """How a remote is now: it is asked."""

    remote: str


class ListReached(Query[list[RemoteStatus]], tag="remotes.reached", frozen=True):
    """How every remote was when it was asked last, without asking again: those that something was deployed on are asked
    every few seconds."""


class ListSenders(Query[list[Sender]], tag="remotes.senders", frozen=True):
    """Whose bundles are taken here."""


class ListBundles(Query[list[Bundle]], tag="remotes.bundles", frozen=True):
    """The bundles that were taken, newest first."""

    limit: int = 50


class ShowIdentity(Query[Identity], tag="remotes.identity", frozen=True):
    """The key that signs what this deck sends."""


class RemoteAdded(Event, tag="remotes.added", frozen=True):
    """Another deck has a name here."""

    remote: Remote


class RemoteRemoved(Event, tag="remotes.removed", frozen=True):
    """A remote is forgotten, with its token."""

    name: str
    token: str
    at: float


class ChangeAsked(Event, tag="remotes.change_asked", frozen=True):
    """Something shall be deployed or rolled back on a remote."""

    change: RemoteChange


class ChangeEnded(Event, tag="remotes.change_ended", frozen=True):
    """A change of a remote was made, or was not."""

    change: str
    ok: bool
    at: float
    bundle: str | None = None
    there: str | None = None
    fault: str | None = None
    why: str = ""


class SenderTrusted(Event, tag="remotes.sender_trusted", frozen=True):
    """Bundles of another deck are taken."""

    sender: Sender


class SenderDistrusted(Event, tag="remotes.sender_distrusted", frozen=True):
    """Bundles of another deck are taken no more."""

    name: str
    at: float


class BundleTaken(Event, tag="remotes.bundle_taken", frozen=True):
    """A bundle is here whole, and a version of ours."""

    bundle: Bundle


class SendProgress(Pulse, tag="remotes.progress", frozen=True):
    """How much of a bundle is on the other side."""

    change: str
    remote: str
    sent: int
    size: int
    words: str = ""


class RemoteReading(Pulse, tag="remotes.reading", frozen=True):
    """How a remote is, whenever it was asked."""

    status: RemoteStatus
