"""The rules of remotes without a daemon: what is sent, whose bundles are taken, and every bundle that is refused."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeckd.services.remotes import registering
from quarterdeckd.services.signing import new_secret, public_of, sign, signed
from quarterstore.records import remotes
from quarterstore.records.faults import Conflict, Fault, Invalid, NotFound, Refused
from quarterstore.records.registry import MoveStage, RegisterVersion, Signature, Tensor
from tests.ruling import Ruling

SECRET = new_secret()
KEY = public_of(SECRET)
SIGNATURE = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1,)),),
)
ADD = remotes.AddRemote(name="prod", url="https://deck.example:8600", token="keyring", kept="keyring")
SENDER = remotes.Sender(name="laptop", key=KEY, added=0.0, added_by="ana")


def manifest(serial: int = 1_700_000_000_000, **other: Any) -> remotes.Manifest:
    """What a bundle of `churn@2` says of itself."""
    found = remotes.Manifest(
        form=remotes.FORM,
        receiver="deck",
        serial=serial,
        at=1.0,
        sent_by="ana",
        model="churn",
        version="churn@2",
        semver="1.1.0",
        digest="a" * 64,
        size=10,
        format="onnx",
        signature=SIGNATURE,
    )
    return replace(found, **other)


def bundle(of: remotes.Manifest, secret: bytes = SECRET) -> remotes.TakeBundle:
    """It signed, with its files looked at."""
    text = msgspec.json.encode(of).decode()
    key = public_of(secret)
    return remotes.TakeBundle(
        manifest=text, signature=sign(secret, text), key=key, register=registering(of, replace(SENDER, key=key))
    )


@pytest.fixture
def deck() -> Ruling:
    """A deck that trusts `laptop`."""
    found = Ruling()
    found.act(remotes.TrustSender(key=KEY, name="laptop"))
    return found


def test_a_bundle_becomes_a_version_that_says_where_it_comes_from(deck: Ruling) -> None:
    taken = deck.act(bundle(manifest(provenance={"commit": "c0ffee"})), "olga")
    assert (taken.version, taken.sender, taken.by, taken.theirs) == ("churn@1", "laptop", "olga", "churn@2")
    version = deck.state.versions["churn@1"]
    assert version.tags == {"sender": "laptop", "sender.version": "churn@2", "sender.commit": "c0ffee"}
    assert [each.id for each in deck.ask(remotes.ListBundles())] == [taken.id]


def test_the_same_file_sent_again_is_the_version_that_it_was(deck: Ruling) -> None:
    deck.act(bundle(manifest()))
    assert deck.act(bundle(manifest(serial=1_700_000_000_001))).version == "churn@1"
    assert deck.act(bundle(manifest(serial=1_700_000_000_002, digest="b" * 64))).version == "churn@2"
    assert deck.state.models["churn"].latest == 2


OTHER = new_secret()
WRONG: list[tuple[str, remotes.TakeBundle, type[Fault], str]] = [
    ("not signed", replace(bundle(manifest()), signature=""), Refused, "not signed"),
    ("signed by a stranger", bundle(manifest(), OTHER), Refused, "is not trusted here"),
    ("signed by another", replace(bundle(manifest(), OTHER), key=KEY), Refused, "altered, or another key"),
    (
        "altered",
        replace(bundle(manifest()), manifest=bundle(manifest()).manifest.replace("churn@2", "churn@3")),
        Refused,
        "altered",
    ),
    ("a signature that is none", replace(bundle(manifest()), signature="x"), Invalid, "64 bytes in base64"),
    ("a key that is none", replace(bundle(manifest()), key="x"), Invalid, "32 bytes in base64"),
    ("of another form", bundle(manifest(form="quarterdeck.bundle/9")), Invalid, "quarterdeck.bundle/1"),
    ("with a path for a digest", bundle(manifest(digest="../../etc/passwd")), Invalid, "a SHA-256"),
    ("with a terminal's codes", bundle(manifest(version="churn@2\x1b[2J")), Invalid, "no control"),
    ("with a model that is no name", bundle(manifest(model="a/b")), Invalid, "without '/'"),
    ("of next year", bundle(manifest(serial=1_800_000_000_000)), Invalid, "compare the two clocks"),
    ("whose files were not looked at", replace(bundle(manifest()), register=None), Refused, "not looked at"),
    (
        "with another file than it names",
        replace(bundle(manifest()), register=registering(manifest(digest="b" * 64), SENDER)),
        Refused,
        "not looked at",
    ),
]


@pytest.mark.parametrize(("act", "kind", "words"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_a_bundle_is_refused_and_says_why(deck: Ruling, act: remotes.TakeBundle, kind: type[Fault], words: str) -> None:
    before = deck.kept()
    with pytest.raises(kind, match=words):
        deck.act(act)
    assert deck.kept() == before


def test_a_copy_of_an_old_bundle_is_refused_as_replayed(deck: Ruling) -> None:
    first, second = bundle(manifest()), bundle(manifest(serial=1_700_000_000_900, digest="b" * 64))
    deck.act(first)
    deck.act(second)
    with pytest.raises(Conflict, match="taken already"):
        deck.act(first)
    older = bundle(manifest(serial=1_700_000_000_500, digest="c" * 64))
    with pytest.raises(Refused, match=r"replayed: its serial is 1700000000500, and 1700000000900 \(churn@2\)"):
        deck.act(older)
    deck.act(bundle(manifest(serial=1_700_000_000_500, model="other")))


def test_a_sender_that_is_trusted_no_more_is_refused_and_cannot_replay_when_it_is_again(deck: Ruling) -> None:
    taken = bundle(manifest())
    deck.act(taken)
    deck.act(remotes.DistrustSender(name="laptop"))
    with pytest.raises(Refused, match="qd remote trust"):
        deck.act(bundle(manifest(serial=1_700_000_000_001)))
    deck.act(remotes.TrustSender(key=KEY, name="laptop2"))
    with pytest.raises(Conflict):
        deck.act(taken)


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_a_manifest_can_be_turned(place: int, bit: int) -> None:
    """Whatever is left is no text, or no manifest that this key signed."""
    found = bundle(manifest(notes="a note"))
    data = bytearray(found.manifest.encode())
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(Refused):
        signed(data.decode("utf-8", "surrogateescape"), found.signature, found.key)


def test_two_senders_have_two_names_and_two_keys(deck: Ruling) -> None:
    for key, name in ((KEY, "other"), (public_of(OTHER), "laptop")):
        with pytest.raises(Conflict):
            deck.act(remotes.TrustSender(key=key, name=name))
    with pytest.raises(Invalid):
        deck.act(remotes.TrustSender(key=base64.b64encode(b"short").decode(), name="x"))
    with pytest.raises(NotFound):
        deck.act(remotes.DistrustSender(name="laptp"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://deck.example", "expected https://HOST/PATH"),
        ("https://ana:secret@deck.example", "user name"),
        ("https://deck.example/path", "without a path"),
        ("https://169.254.169.254", "metadata"),
        ("https://10.0.0.1", "--allow-private"),
        ("https://2130706433", "four decimal numbers"),
        ("http://8.8.8.8", "--allow-http"),
        ("https://[::ffff:127.0.0.1]", "--allow-private"),
        ("https://deck.example:0", "a port"),
    ],
)
def test_a_remote_is_where_the_daemon_may_go(url: str, words: str) -> None:
    with pytest.raises(Fault, match=words) as found:
        Ruling().act(replace(ADD, url=url))
    assert found.value.field == "url"


def test_a_remote_has_one_name_and_a_token_that_is_kept() -> None:
    deck = Ruling()
    assert deck.act(ADD).url == "https://deck.example:8600"
    with pytest.raises(Conflict, match="already"):
        deck.act(ADD)
    for other, words in (
        (replace(ADD, name="b", token="../x"), "no token"),
        (replace(ADD, name="b", within=0), "within"),
    ):
        with pytest.raises(Fault, match=words):
            deck.act(other)


def test_only_a_production_version_is_sent_and_one_at_a_time() -> None:
    deck = Ruling()
    deck.act(ADD)
    deck.act(RegisterVersion(model="m", digest="a" * 64, size=1, format="onnx", signature=SIGNATURE))
    sending = remotes.SendVersion(version="m@1", remote="prod")
    with pytest.raises(Refused, match="expected Production"):
        deck.act(sending)
    deck.act(MoveStage(version="m@1", stage="Production", skip_stage=True, reason="a test"))
    with pytest.raises(NotFound, match="nearest: prod"):
        deck.act(replace(sending, remote="prd"))
    change = deck.act(sending)
    assert (change.state, change.digest, change.asked_by) == ("WAITING", "a" * 64, "ana")
    with pytest.raises(Conflict, match="on its way"):
        deck.act(sending)
    with pytest.raises(Conflict, match="on its way"):
        deck.act(remotes.RemoveRemote(remote="prod"))
    ended = deck.act(remotes.NoteChange(change=change.id, ok=False, fault="Unreachable", why="no answer"))
    assert (ended.state, ended.fault) == ("FAILED", "Unreachable")
    with pytest.raises(Conflict, match="FAILED already"):
        deck.act(remotes.NoteChange(change=change.id, ok=True))
    assert deck.act(sending).serial > change.serial


def test_serials_grow_though_the_clock_goes_back() -> None:
    deck = Ruling()
    deck.act(ADD)
    first = deck.act(remotes.RollBackThere(remote="prod", endpoint="a"))
    deck.now -= 3600
    assert deck.act(remotes.RollBackThere(remote="prod", endpoint="b")).serial == first.serial + 1
