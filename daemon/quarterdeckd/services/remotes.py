"""The rules of remotes: what may be sent where, what came of it, whose bundles are taken and which are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.signing import bundle_id, checked_key, signed
from quarterdeckd.services.targets import check_address, checked_url
from quarterstore.ledger.finding import one_of, places_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records import remotes
from quarterstore.records.base import Act
from quarterstore.records.faults import Conflict, NotFound, Refused, got, missing
from quarterstore.records.names import checked_name, checked_text, checked_word
from quarterstore.records.registry import RegisterVersion, Version

MOST = 100
"""Remotes of one deck, and senders."""
AHEAD_MS = 600_000
"""Milliseconds by which a sender's clock may be before ours: a bundle of next year would end today's."""
_digest = re.compile(r"[0-9a-f]{64}\Z")
_token = re.compile(r"(remotetoken-[0-9a-z]{16}|keyring|credentials)\Z")


def remote_of(state: State, name: str) -> remotes.Remote:
    """A remote by its name."""
    found = state.remotes.get(name)
    if found is None:
        raise missing("remote", name, state.remotes.rows, next="qd remote add NAME https://HOST:PORT")
    return found


def _add(state: State, act: remotes.AddRemote, asking: Asking) -> Decision:
    name = checked_word("name", act.name)
    if name in state.remotes:
        raise Conflict(f"{name} is {state.remotes[name].url} already", field="name", next=f"qd remote rm {name}")
    if len(state.remotes) >= MOST:
        raise Refused(f"there are {MOST} remotes already", field="name", next="qd remote rm one of them")
    place = checked_url(act.url, "url")
    if place.path != "/":
        raise got("url", act.url, "https://HOST:PORT without a path")
    if place.literal is not None:
        leave = {"allow_private": act.allow_private, "allow_http": act.allow_http}
        check_address(place.literal, place.scheme, field="url", **leave)
    if not 0.1 <= act.within <= 600:
        raise got("within", act.within, "0.1 to 600 seconds")
    if not _token.match(act.token):
        raise Refused("no token was kept", field="token", next="ask the daemon with remotes.add")
    remote = remotes.Remote(
        name=name,
        url=act.url.rstrip("/"),
        added=asking.now,
        added_by=asking.actor,
        token=act.token,
        kept=act.kept,
        within=act.within,
        allow_private=act.allow_private,
        allow_http=act.allow_http,
        ca=act.ca,
    )
    return Decision([remotes.RemoteAdded(remote=remote)], f"named {remote.url} {name}", lambda after: remote)


def _remove(state: State, act: remotes.RemoveRemote, asking: Asking) -> Decision:
    remote = remote_of(state, act.remote)
    waiting = [each.id for each in state.remote_changes if each.remote == remote.name and each.state == "WAITING"]
    if waiting:
        raise Conflict(f"{waiting[0]} is on its way there", field="remote", next=f"qd remote changes {remote.name}")
    event = remotes.RemoteRemoved(name=remote.name, token=remote.token, at=asking.now)
    return Decision([event], f"forgot the remote {remote.name}", lambda after: remote)


def _send(state: State, act: remotes.SendVersion, asking: Asking) -> Decision:
    remote = remote_of(state, act.remote)
    version = version_of(state, act.version, environment=act.environment)
    if act.environment not in places_of(state, version):
        raise Refused(
            f"{version.id} is in {version.stage}, expected Production: what is sent is meant to be live",
            field="version",
            next=f"qd promote {version.id} Production",
        )
    if version.format != "onnx":
        raise Refused(f"{version.id} is {version.format}, expected onnx: only that is served", field="version")
    if version.freed is not None:
        raise Refused(f"the file of {version.id} was freed", field="version")
    endpoint = checked_word("endpoint", act.endpoint or version.model)
    change = _change(state, remote, "deploy", endpoint, asking)
    change = replace(change, environment=act.environment, version=version.id, digest=version.digest)
    words = f"sends {version.id} ({version.digest[:12]}) to {remote.name}"
    return Decision([remotes.ChangeAsked(change=change)], words, lambda after: after.remote_changes[change.id])


def _roll_back(state: State, act: remotes.RollBackThere, asking: Asking) -> Decision:
    remote = remote_of(state, act.remote)
    change = _change(state, remote, "rollback", checked_word("endpoint", act.endpoint), asking)
    change = replace(change, reason=act.reason and checked_text("reason", act.reason, longest=1000))
    words = f"rolls {change.endpoint} back on {remote.name}"
    return Decision([remotes.ChangeAsked(change=change)], words, lambda after: after.remote_changes[change.id])


def _change(
    state: State, remote: remotes.Remote, kind: remotes.ChangeKind, endpoint: str, asking: Asking
) -> remotes.RemoteChange:
    """One at a time for each endpoint: two that run beside each other would end in either order."""
    for each in state.remote_changes:
        if (each.remote, each.endpoint, each.state) == (remote.name, endpoint, "WAITING"):
            raise Conflict(f"{each.id} is on its way to {endpoint} of {remote.name}", field="endpoint")
    last = max((each.serial for each in state.remote_changes), default=0)
    return remotes.RemoteChange(
        id=asking.id("change"),
        remote=remote.name,
        kind=kind,
        endpoint=endpoint,
        state="WAITING",
        asked_by=asking.actor,
        at=asking.now,
        serial=max(last + 1, int(asking.now * 1000)),
    )


def _note(state: State, act: remotes.NoteChange, asking: Asking) -> Decision:
    change: remotes.RemoteChange = one_of(state.remote_changes, "change", act.change)
    if change.state != "WAITING":
        raise Conflict(f"{change.id} is {change.state} already", field="change")
    event = remotes.ChangeEnded(
        change=change.id,
        ok=act.ok,
        at=asking.now,
        bundle=act.bundle,
        there=act.there,
        fault=act.fault,
        why=act.why[:1000],
    )
    what = change.version if change.kind == "deploy" else f"rollback of {change.endpoint}"
    words = f"{what} on {change.remote}: " + (f"done, as {act.there}" if act.ok else f"not done: {act.why[:200]}")
    return Decision([event], words, lambda after: after.remote_changes[change.id])


def _trust(state: State, act: remotes.TrustSender, asking: Asking) -> Decision:
    name, key = checked_word("name", act.name), checked_key("key", act.key)
    for each in state.senders:
        if each.key == key or each.name == name:
            raise Conflict(f"{each.name} is trusted already", field="key" if each.key == key else "name")
    if len(state.senders) >= MOST:
        raise Refused(f"there are {MOST} senders already", field="name", next="qd remote distrust one of them")
    sender = remotes.Sender(name=name, key=key, added=asking.now, added_by=asking.actor)
    return Decision([remotes.SenderTrusted(sender=sender)], f"trusts bundles of {name}", lambda after: sender)


def _distrust(state: State, act: remotes.DistrustSender, asking: Asking) -> Decision:
    sender = state.senders.get(act.name)
    if sender is None:
        raise missing("name", act.name, state.senders.rows)
    event = remotes.SenderDistrusted(name=sender.name, at=asking.now)
    return Decision([event], f"trusts bundles of {sender.name} no more", lambda after: sender)


def trusted(state: State, bundle: remotes.TakeBundle | remotes.CheckBundle) -> tuple[remotes.Manifest, remotes.Sender]:
    """What a bundle says and who sent it; raises where it is not signed by a sender that is trusted here."""
    if not bundle.signature:
        raise Refused("the bundle is not signed", field="signature")
    key = checked_key("key", bundle.key)
    sender = next((each for each in state.senders if each.key == key), None)
    if sender is None:
        raise Refused(
            f"{key} is not trusted here", field="key", next=f"an admin of this deck can: qd remote trust {key} NAME"
        )
    manifest = signed(bundle.manifest, bundle.signature, key)
    checked_name("manifest.model", manifest.model)
    checked_text("manifest.version", manifest.version)
    for digest in filter(None, (manifest.digest, manifest.golden)):
        if not _digest.match(digest):
            raise got("manifest.digest", digest, "a SHA-256 in hex")
    return manifest, sender


def check_newer(state: State, manifest: remotes.Manifest, sender: remotes.Sender, now: float) -> None:
    """`Refused` unless a bundle is newer than every one of its sender and model that was taken: a copy of an old one,
    genuine as it is, must not bring an old model back."""
    of_one = [each for each in state.bundles if (each.key, each.model) == (sender.key, manifest.model)]
    newest = max(of_one, key=lambda each: each.serial, default=None)
    if newest is not None and manifest.serial <= newest.serial:
        raise Refused(
            f"it is replayed: its serial is {manifest.serial}, and {newest.serial} ({newest.theirs}) was taken already",
            field="manifest.serial",
            next="send it again with qd deploy --to",
        )
    if manifest.serial > now * 1000 + AHEAD_MS:
        raise got("manifest.serial", manifest.serial, f"at most {int(now * 1000) + AHEAD_MS}: compare the two clocks")


def _take(state: State, act: remotes.TakeBundle, asking: Asking) -> Decision:
    manifest, sender = trusted(state, act)
    own = bundle_id(act.manifest)
    if own in state.bundles:
        raise Conflict(f"bundle {own[:12]} was taken already", field="manifest")
    check_newer(state, manifest, sender, asking.now)
    register = act.register
    if register is None or (register.digest, register.model) != (manifest.digest, manifest.model):
        raise Refused("its files were not looked at", field="register", next="ask the daemon with remotes.take")
    same = _same(state, manifest)
    model = state.models.get(manifest.model)
    version = same.id if same else f"{manifest.model}@{(model.latest if model else 0) + 1}"
    bundle = remotes.Bundle(
        id=own,
        sender=sender.name,
        key=sender.key,
        model=manifest.model,
        serial=manifest.serial,
        digest=manifest.digest,
        theirs=manifest.version,
        version=version,
        by=asking.actor,
        at=asking.now,
        provenance=manifest.provenance,
    )

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if same is None:
            yield register, asked

    words = f"took {manifest.version} ({manifest.digest[:12]}) of {sender.name} as {version}"
    return Decision([remotes.BundleTaken(bundle=bundle)], words, lambda after: after.bundles[own], then)


def _same(state: State, manifest: remotes.Manifest) -> Version | None:
    """The version that this very file became when it was sent before."""
    known = {each.version for each in state.bundles if each.digest == manifest.digest}
    for version in state.versions:
        if version.id in known and version.model == manifest.model and version.removed is None:
            return version
    return None


def registering(manifest: remotes.Manifest, sender: remotes.Sender) -> RegisterVersion:
    """The act that makes a version of a bundle's files."""
    return RegisterVersion(
        model=manifest.model,
        digest=manifest.digest,
        size=manifest.size,
        format="onnx",
        signature=manifest.signature,
        metrics=manifest.metrics,
        golden=manifest.golden,
        notes=manifest.notes[:2000],
        tags={
            "sender": sender.name,
            "sender.version": manifest.version,
            **{f"sender.{name}": value for name, value in manifest.provenance.items()},
        },
    )


def bundle_of(state: State, own: str) -> remotes.Bundle:
    """A bundle that was taken, by its whole id."""
    found = state.bundles.get(own)
    if found is None:
        raise NotFound(f"got {own[:64]}, expected a bundle that was taken", field="bundle", next="finish it first")
    return found


def _changes(state: State, query: remotes.ListChanges, asking: Asking) -> list[remotes.RemoteChange]:
    if query.remote is not None and not any(each.remote == query.remote for each in state.remote_changes):
        remote_of(state, query.remote)
    found = [each for each in state.remote_changes if query.remote in (None, each.remote)]
    return sorted(found, key=lambda each: each.at, reverse=True)[: max(1, query.limit)]


def _show_change(state: State, query: remotes.ShowChange, asking: Asking) -> remotes.RemoteChange:
    found: remotes.RemoteChange = one_of(state.remote_changes, "change", query.change)
    return found


RULES: Rules = {
    remotes.AddRemote: _add,
    remotes.RemoveRemote: _remove,
    remotes.SendVersion: _send,
    remotes.RollBackThere: _roll_back,
    remotes.NoteChange: _note,
    remotes.TrustSender: _trust,
    remotes.DistrustSender: _distrust,
    remotes.TakeBundle: _take,
}
ANSWERS: Answerers = {
    remotes.ListRemotes: lambda state, query, asking: sorted(state.remotes, key=lambda each: each.name),
    remotes.ListChanges: _changes,
    remotes.ShowChange: _show_change,
    remotes.ListSenders: lambda state, query, asking: sorted(state.senders, key=lambda each: each.name),
    remotes.ListBundles: lambda state, query, asking: sorted(state.bundles, key=lambda each: each.at, reverse=True)[
        : max(1, query.limit)
    ],
}
