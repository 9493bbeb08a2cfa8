"""The door of other decks: nobody without a token, nothing unsigned, pieces in their place, TLS beyond this machine."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from quarterdeck import keys
from quarterdeckd.services.signing import new_secret, public_of, sign
from quarterstore.records import deployments, governance, registry, remotes
from quarterstore.records.people import AddKey
from tests.conftest import Daemon
from tests.decks import SIGNATURE, Pair, made, produced
from tests.doors.test_mlflow import free_port
from tests.small import onnx_file

SECRET = new_secret()
DATA = onnx_file("door")
DIGEST = hashlib.sha256(DATA).hexdigest()


class Open:
    """A deck with its door, and who may speak there."""

    def __init__(self, daemon: Daemon, url: str) -> None:
        self.daemon, self.url = daemon, url
        with daemon.client() as owner:
            for name, role in (("olga", "operator"), ("vera", "viewer"), ("otto", "operator")):
                owner.ask(AddKey(public=keys.make(daemon.home, name), person=name, roles=(role,)))  # type: ignore[arg-type]
            owner.ask(remotes.TrustSender(key=public_of(SECRET), name="laptop"))
            self.deck = owner.ask(remotes.ShowIdentity()).deck

    def client(self, name: str) -> httpx.Client:
        """As somebody."""
        secret = self.daemon.home.secret_key(name).read_text().strip()
        return httpx.Client(base_url=self.url, timeout=30, headers={"authorization": f"Bearer {secret}"})

    def bundle(self, **other: Any) -> dict[str, Any]:
        """A signed bundle of our file."""
        about: dict[str, Any] = {
            "form": remotes.FORM,
            "receiver": self.deck,
            "serial": int(time.time() * 1000),
            "at": time.time(),
            "sent_by": "ana",
            "model": "door",
            "version": "door@1",
            "semver": "1.0.0",
            "digest": DIGEST,
            "size": len(DATA),
            "format": "onnx",
            "signature": SIGNATURE,
            **other,
        }
        text = msgspec.json.encode(remotes.Manifest(**about)).decode()
        given = remotes.CheckBundle(manifest=text, signature=sign(SECRET, text), key=public_of(SECRET))
        found: dict[str, Any] = msgspec.to_builtins(given)
        return found


@pytest.fixture(scope="module")
def door() -> Iterator[Open]:
    daemon, port = made(), free_port()
    daemon.start("--remote", f"127.0.0.1:{port}")
    yield Open(daemon, f"http://127.0.0.1:{port}")
    daemon.end()


def test_nobody_speaks_without_a_token_not_even_the_owner_in_solo(door: Open) -> None:
    assert httpx.get(f"{door.url}/v1/status").status_code == 401
    for wrong in ("Bearer " + "x" * 40, "Bearer", "Basic b3duZXI6"):
        assert httpx.get(f"{door.url}/v1/status", headers={"authorization": wrong}).status_code == 401
    with door.client("vera") as vera:
        assert vera.get("/v1/status").status_code == 403
    with door.client("olga") as olga:
        assert olga.get("/v1/status").json()["deck"] == door.deck
        assert olga.get("/v1/status", headers={"origin": door.url}).status_code == 403, "a page of a browser"
        assert olga.get("/v1/status", headers={"host": "elsewhere.example"}).status_code == 403
        assert olga.get("/v1/statuses").status_code == 404
        assert olga.post("/v1/status").status_code == 404


def test_what_is_wrong_with_a_bundle_is_said_before_a_byte_is_taken(door: Open) -> None:
    good = door.bundle()
    other = new_secret()
    stranger = {**good, "key": public_of(other), "signature": sign(other, good["manifest"])}
    wrong = [
        ({**good, "signature": ""}, 403, "not signed"),
        (stranger, 403, "qd remote trust"),
        ({**good, "manifest": good["manifest"].replace("door@1", "door@9")}, 403, "altered"),
        (door.bundle(receiver="0" * 32), 403, "meant for the deck"),
        (door.bundle(size=-1), 413, "manifest.size"),
        (door.bundle(size=10**12), 413, "manifest.size"),
        ({}, 400, "body"),
        ({**good, "manifest": 7}, 400, "body"),
    ]
    with door.client("olga") as olga:
        for body, status, words in wrong:
            answer = olga.post("/v1/bundles", json=body)
            said = answer.json()["fault"]
            assert answer.status_code == status, answer.text
            assert words in " ".join(filter(None, (said["message"], said["field"], said["next"]))), answer.text
        assert olga.post("/v1/bundles", content=b"\xff[" * 100).status_code == 400
        assert olga.post("/v1/bundles", content=b"x" * (5 * 1024 * 1024)).status_code == 413
    assert not list(door.daemon.home.incoming.glob("bundle-*"))


def test_pieces_come_in_order_by_who_began_and_are_checked_as_a_whole(door: Open) -> None:
    with door.client("olga") as olga, door.client("otto") as otto:
        plan = olga.post("/v1/bundles", json=door.bundle()).json()
        assert plan["files"] == {DIGEST: [len(DATA), 0]}
        path = f"/v1/bundles/{plan['id']}/files/{DIGEST}"
        finish = f"/v1/bundles/{plan['id']}/finish"
        assert otto.put(path, content=DATA).status_code == 404, "another began it"
        assert olga.put(path.replace(DIGEST, "0" * 64), content=DATA).status_code == 404
        for offset, status in (("10", 409), ("-1", 400), ("x", 400), (str(len(DATA)), 400)):
            assert olga.put(path, params={"offset": offset}, content=b"abc").status_code == status, offset
        assert olga.post(finish).status_code == 404, "not whole yet"
        assert olga.put(path, params={"offset": "0"}, content=DATA[:50]).json() == {"received": 50}
        assert olga.post("/v1/bundles", json=door.bundle()).json()["files"] == {DIGEST: [len(DATA), 50]}
        bad = DATA[50:-1] + bytes([DATA[-1] ^ 1])
        assert olga.put(path, params={"offset": "50"}, content=bad).json()["fault"]["kind"] == "Corrupt"
        assert olga.put(path, params={"offset": "0"}, content=DATA).json() == {"received": len(DATA)}
        taken = olga.post(finish)
        assert taken.status_code == 200, taken.text
        assert olga.post(finish).json() == taken.json(), "asked again, it is done once"
        assert (taken.json()["version"], taken.json()["by"]) == ("door@1", "olga")
        deployed = olga.post("/v1/endpoints/door/deploy", json={"bundle": plan["id"]})
        assert deployed.status_code == 200, deployed.text
        assert olga.post("/v1/endpoints/..%2Fx/deploy", json={"bundle": plan["id"]}).status_code in (400, 404)
        assert olga.post("/v1/endpoints/door/deploy", json={"bundle": "0" * 64}).status_code == 404
        assert olga.post("/v1/endpoints/nowhere/rollback", json={}).status_code == 404
        assert olga.post("/v1/endpoints/door/rollback", json={"force": True}).status_code == 400


def test_a_file_that_is_not_what_the_manifest_says_is_no_version(door: Open) -> None:
    data = b"no model at all"
    digest = hashlib.sha256(data).hexdigest()
    with door.client("olga") as olga:
        given = door.bundle(model="liar", digest=digest, size=len(data))
        plan = olga.post("/v1/bundles", json=given).json()
        assert olga.put(f"/v1/bundles/{plan['id']}/files/{digest}", content=data).status_code == 200
        answer = olga.post(f"/v1/bundles/{plan['id']}/finish")
        assert answer.status_code in (400, 403, 500) and answer.json()["fault"]["field"], answer.text
    with door.daemon.client() as owner:
        assert "liar" not in {each.name for each in owner.ask(registry.ListModels())}


def test_beyond_this_machine_it_opens_with_a_certificate_only(absent: Daemon) -> None:
    absent.start("--remote", "0.0.0.0:0", wait=False)
    assert absent.process is not None and absent.process.wait(30) == 2
    assert "remote: got 0.0.0.0 without a certificate" in absent.log()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signed itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "deck")])
    now = datetime.datetime.now(datetime.UTC)
    made_ = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made_.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return cert, secret


def test_over_tls_to_a_team_whose_approver_has_to_agree(tmp_path: Path) -> None:
    """The certificate is trusted by --ca-file and by nothing else; what was sent waits for a person there."""
    cert, secret = certificate(tmp_path)
    pair = Pair("--profile", "team", "--remote-cert", str(cert), "--remote-key", str(secret))
    try:
        pair.meet(scheme="https", options=("--ca-file", str(cert)))
        token = pair.theirs.home.secret_key("sender").read_text()
        url = f"https://127.0.0.1:{pair.port}"
        assert pair.ours.qd("remote", "add", "blind", url, "--allow-private", stdin=token).returncode == 0
        blind = pair.ours.qd("remote", "status", "blind")
        assert blind.returncode == 3 and "ertificate" in blind.stderr
        with pair.ours.client() as ours, pair.theirs.client() as theirs:
            version = produced(ours, "one")
            waits = pair.ours.qd("deploy", version, "--to", "prod")
            assert waits.returncode == 6 and "waits for a person there" in waits.stderr, waits.stderr
            (asked,) = theirs.ask(governance.ListApprovals())
            assert asked.asked_by == "sender"
            theirs.ask(governance.Approve(approval=asked.id, evidence=asked.evidence))
            done = pair.ours.qd("deploy", version, "--to", "prod")
            assert done.returncode == 0, done.stderr
            assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@1"
        journals = [*pair.ours.home.journal.rglob("*"), *pair.theirs.home.journal.rglob("*")]
        logs = [pair.ours.folder / "log", pair.theirs.folder / "log", pair.ours.home.database]
        spoken = [path.read_bytes() for path in (*journals, *logs) if path.is_file()]
        assert spoken and not [each for each in spoken if token.strip().encode() in each], "a token is nowhere told"
    finally:
        pair.end()


def test_a_token_is_read_from_a_file_that_nobody_else_may_read(door: Open, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("x" * 40)
    file.chmod(0o644)
    add = ("remote", "add", "loose", "https://deck.example", "--token-file", str(file))
    loose = door.daemon.qd(*add)
    assert loose.returncode == 6 and "chmod 600" in loose.stderr
    file.chmod(0o600)
    assert door.daemon.qd(*add).returncode == 0
    assert [path.stat().st_mode & 0o777 for path in door.daemon.home.keys.glob("*.token")] == [0o600]
    assert "the token of loose is in a file that only you can read" in door.daemon.qd("doctor").stdout
    assert door.daemon.qd("remote", "rm", "loose").returncode == 0
    assert not list(door.daemon.home.keys.glob("*token*"))
    for words, stdin in (
        (("a", "https://deck.example"), "short"),
        (("b", "ftp://x"), "x" * 40),
        (("c", "https://deck.example"), "x" * 20 + " " + "y" * 20),
    ):
        assert door.daemon.qd("remote", "add", *words, stdin=stdin).returncode == 2
    without = door.daemon.qd("remote", "add", "k", "https://deck.example", "--keyring", stdin="x" * 40)
    assert without.returncode == 6 and "keyring" in without.stderr
    assert not list(door.daemon.home.keys.glob("*token*"))
