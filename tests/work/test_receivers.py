"""Webhooks on a real socket: the address that was checked is the address that is connected to, and nothing is waited
for, followed or read beyond its limit."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeckd.services.targets import Address
from quarterdeckd.work import receivers
from quarterdeckd.work.receivers import MOST_READ, SIGNATURE, Told, post, verdict_of, words_of
from quarterstore.records.faults import Failed, Refused
from quarterstore.records.hooks import Hook
from tests.receiver import Receiver

SECRET = b"a secret that is long enough"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that says 200."""
    made = Receiver()
    yield made
    made.close()


def hook(target: str, **about: Any) -> Hook:
    """A hook that may go to loopback unless told otherwise."""
    fields = {"allow_private": True, **about}
    return Hook(id="hook-1", event="promote", kind="webhook", target=target, created=0.0, created_by="a", **fields)


class Names:
    """A resolver that answers what it is told, another answer each time, and counts."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        return [ipaddress.ip_address(each) for each in self.answers.pop(0)]


async def test_a_request_is_signed_over_its_time_and_its_body(receiver: Receiver) -> None:
    assert (await post(hook(receiver.url), b'{"a":1}', SECRET)).status == 200
    [request] = receiver.wait(1)
    assert request.line == "POST /hook?a=b HTTP/1.1"
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    parts = dict(each.split("=", 1) for each in request.headers[SIGNATURE.lower()].split(","))
    signed = hmac.new(SECRET, parts["t"].encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], signed)
    assert abs(time.time() - int(parts["t"])) < 10


async def test_a_name_is_looked_up_once_and_the_checked_address_is_used(receiver: Receiver) -> None:
    """DNS rebinding: the second answer would be another host. There is no second question."""
    names = Names(("127.0.0.1",), ("169.254.169.254",))
    found = await post(hook(f"http://receiver.test:{receiver.port}/x"), b"{}", SECRET, names)
    assert found.status == 200 and names.asked == ["receiver.test"]
    assert receiver.requests[0].headers["host"] == f"receiver.test:{receiver.port}"


@pytest.mark.parametrize(
    ("answers", "allowed"),
    [
        (("127.0.0.1",), False),
        (("10.0.0.7",), False),
        (("169.254.169.254",), True),
        (("::ffff:169.254.169.254",), True),
        (("fe80::1",), True),
        (("1.1.1.1", "169.254.169.254"), True),
        (("1.1.1.1", "127.0.0.1"), False),
        (("0.0.0.0",), True),
    ],
    ids=str,
)
async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(
    receiver: Receiver, answers: tuple[str, ...], allowed: bool
) -> None:
    target = f"http://innocent.test:{receiver.port}/"
    with pytest.raises(Refused):
        await post(hook(target, allow_private=allowed, allow_http=True), b"{}", SECRET, Names(answers))
    assert receiver.requests == []


async def test_a_real_name_of_loopback_is_refused_without_a_word(receiver: Receiver) -> None:
    with pytest.raises(Refused):
        await post(hook(f"http://localhost:{receiver.port}/", allow_private=False), b"{}", SECRET)
    assert receiver.requests == []


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    target = Receiver()
    receiver.manner, receiver.elsewhere = "redirect", target.url
    assert (await post(hook(receiver.url), b"{}", SECRET)).status == 307
    assert target.requests == []
    target.close()


async def test_no_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would look the name up again."""
    proxy = Receiver()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    await post(hook(receiver.url), b"{}", SECRET)
    assert proxy.requests == [] and len(receiver.requests) == 1
    proxy.close()


@pytest.mark.parametrize("manner", ["stall", "drip", "drip body"])
async def test_an_answer_that_does_not_end_is_given_up_after_five_seconds(receiver: Receiver, manner: str) -> None:
    """A drop every half second would keep a time-out that counts the silence waiting for ever."""
    receiver.manner = manner
    began = time.monotonic()
    with pytest.raises(Failed, match="no answer within 5 s"):
        await post(hook(receiver.url), b"{}", SECRET)
    assert 4.5 < time.monotonic() - began < 30, "it never ends"


async def test_of_a_gigabyte_only_the_start_is_read(receiver: Receiver) -> None:
    receiver.manner = "flood"
    found = await post(hook(receiver.url), b"{}", SECRET)
    assert found.status == 200 and len(found.body) == MOST_READ
    assert receiver.sent < 64 * 1024 * 1024  # what the buffers of two sockets hold


@pytest.mark.parametrize("manner", ["hang up", "no HTTP", "flood of headers"])
async def test_what_is_no_answer_is_a_fault_with_words(receiver: Receiver, manner: str) -> None:
    receiver.manner = manner
    with pytest.raises(Failed) as failed:
        await post(hook(receiver.url), b"{}", SECRET)
    assert failed.value.message
    assert receiver.sent < 64 * 1024 * 1024


async def test_nobody_there_and_no_such_name_are_faults() -> None:
    with pytest.raises(Failed):
        await post(hook("http://127.0.0.1:9/"), b"{}", SECRET)
    with pytest.raises(Failed, match="has no address"):
        await post(hook("http://nowhere.invalid/"), b"{}", SECRET)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl: no certificate can be made")
    key, made = folder / "key.pem", folder / "cert.pem"
    words = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(made)]
    words += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(words, check=True, capture_output=True)
    return made, key


@pytest.mark.parametrize(("name", "good"), [("receiver.test", True), ("other.test", False)])
async def test_over_tls_the_name_is_asked_for_and_checked_at_the_checked_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, good: bool
) -> None:
    made, key = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    receivers._tls.cache_clear()
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    context.set_servername_callback(lambda connection, found, _: asked.append(found))
    receiver = Receiver(tls=context)
    target = hook(f"https://receiver.test:{receiver.port}/x")
    try:
        if good:
            assert (await post(target, b"{}", SECRET, Names(("127.0.0.1",)))).status == 200
            assert receiver.requests[0].headers["host"] == f"receiver.test:{receiver.port}"
        else:
            with pytest.raises(Failed, match=r"(?i)certificate"):
                await post(target, b"{}", SECRET, Names(("127.0.0.1",)))
            assert receiver.requests == []
        assert asked == ["receiver.test"]
    finally:
        receiver.close()
        receivers._tls.cache_clear()


async def test_a_stuck_receiver_leaves_the_loop_to_others(receiver: Receiver) -> None:
    """What an alert waits for is the loop: it may not be held as long as one call."""
    receiver.manner = "stall"
    await post(hook((other := Receiver()).url), b"{}", SECRET)  # what is loaded once is loaded
    calls = [asyncio.create_task(post(hook(receiver.url), b"{}", SECRET)) for _ in range(8)]
    worst, before = 0.0, time.monotonic()
    while not all(call.done() for call in calls):
        await asyncio.sleep(0.01)
        now = time.monotonic()
        worst, before = max(worst, now - before), now
    assert {type(call.exception()) for call in calls} == {Failed}
    assert worst < receivers.WITHIN - 1.0
    other.close()


SAID: list[tuple[int, bytes, tuple[bool, str]]] = [
    (200, b'{"allow": true}', (True, "yes")),
    (200, b'{"allow": true, "reason": "looks\\ngood"}', (True, "looks good")),
    (200, b'{"allow": false, "reason": "not on a Friday"}', (False, "not on a Friday")),
    (403, b'{"allow": true}', (False, "it answered 403 without allow: true")),
    (302, b'{"allow": true}', (False, "it answered 302 without allow: true")),
    (200, b"", (False, "it answered 200 without allow: true")),
    (200, b"OK", (False, "it answered 200 without allow: true")),
    (200, b'{"allow": "true"}', (False, "it answered 200 without allow: true")),
    (200, b'{"allow": 1}', (False, "it answered 200 without allow: true")),
    (200, b"[true]", (False, "it answered 200 without allow: true")),
    (200, b'{"allow": true', (False, "it answered 200 without allow: true")),
    (200, b'{"reason": "' + b"x" * 70000, (False, "it answered 200 without allow: true")),
    (200, b'{"allow": false, "reason": "\\u001b[31mred"}', (False, "\ufffd[31mred")),
]


@pytest.mark.parametrize(("status", "body", "verdict"), SAID, ids=lambda value: ascii(value)[:40])
def test_only_a_plain_yes_is_a_yes(status: int, body: bytes, verdict: tuple[bool, str]) -> None:
    assert verdict_of(Told(status, body)) == verdict


def test_what_a_receiver_says_is_no_terminal_sequence() -> None:
    words = words_of(Told(500, b"\x1b]0;owned\x07 \x9b31m \xff broken"))
    assert "\x1b" not in words and "\x07" not in words and "\x9b" not in words and "broken" in words


@pytest.mark.parametrize("body", [b'{"reason": "\xe9"}', b"[" * 50_000, b"\xff\xfe", b"", b"null"])
def test_an_answer_that_is_no_json_is_no_verdict_and_no_error(body: bytes) -> None:
    """A receiver that took the event is not told again because of what it says."""
    assert receivers.verdict_of(receivers.Told(200, body))[0] is False
