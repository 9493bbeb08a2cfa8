"""Hooks: what is owed to them, from the journal alone; which addresses a webhook may go to; what a gate decides."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given, strategies
from msgspec.structs import replace

from quarterdeckd.services.targets import check_address, checked_url
from quarterstore.ledger.folding import fold_entry
from quarterstore.ledger.hooks import KEPT, MOST_WAITING
from quarterstore.ledger.state import State
from quarterstore.records import deployments, governance, hooks, monitoring, registry, runs
from quarterstore.records.faults import Conflict, Fault, Invalid, NotFound, Refused
from tests.ruling import Ruling

SHAPE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)
OK = hooks.Attempt(at=1.0, seconds=0.1, ok=True, words="exit 0", status=0)
BAD = hooks.Attempt(at=1.0, seconds=0.1, ok=False, words="exit 1", status=1)


def registered(ruling: Ruling, model: str = "m", count: int = 1) -> None:
    """Versions of a model, which no file is looked at for."""
    for _ in range(count):
        ruling.act(registry.RegisterVersion(model=model, digest="a" * 64, size=1, format="onnx", signature=SHAPE))


def added(ruling: Ruling, event: str = "promote", **about: Any) -> hooks.Hook:
    """A hook that runs a program, as the daemon has looked at it."""
    made: hooks.Hook = ruling.act(
        hooks.AddHook(**{"event": event, "target": "exec:/bin/true", "program": "/bin/true", **about})
    )
    return made


def waiting(ruling: Ruling) -> list[hooks.Delivery]:
    """What is owed, in order."""
    found = [each for each in ruling.ask(hooks.ListDeliveries(limit=10_000)) if each.state == "WAITING"]
    return sorted(found, key=lambda each: (each.seq, each.nth))


def noted(ruling: Ruling, delivery: hooks.Delivery, *attempts: hooks.Attempt) -> hooks.Delivery:
    """A delivery that is over."""
    act = hooks.NoteDelivery(delivery=delivery.id, rounds=delivery.rounds, attempts=attempts)
    over: hooks.Delivery = ruling.act(act)
    return over


def move(version: str, stage: str, **about: Any) -> registry.MoveStage:
    """A move that skips what may be skipped."""
    return registry.MoveStage(version=version, stage=stage, skip_stage=True, reason="r", **about)  # type: ignore[arg-type]


def again(ruling: Ruling) -> dict[str, dict[str, Any]]:
    """What a rebuild from the journal makes of the same entries."""
    state = State()
    for entry in ruling.entries:
        fold_entry(state, entry)
    return {name: dict(book.rows) for name, book in state.books().items()}


def test_a_move_owes_a_delivery_to_each_hook_that_wants_it() -> None:
    ruling = Ruling()
    registered(ruling)
    registered(ruling, "other")
    every, into, elsewhere = added(ruling), added(ruling, stage="Production"), added(ruling, model="other")
    ruling.act(move("m@1", "Staging"))
    assert [each.hook for each in waiting(ruling)] == [every.id]
    ruling.act(move("m@1", "Production"))
    assert {each.hook for each in waiting(ruling)[1:]} == {every.id, into.id}
    ruling.act(move("other@1", "Staging"))
    assert {each.hook for each in waiting(ruling)[3:]} == {every.id, elsewhere.id}
    assert [each.subject for each in waiting(ruling)][3:] == ["other@1", "other@1"]


def test_a_rebuild_owes_the_same_under_the_same_ids() -> None:
    """Two moves in one entry are folded in one go by a rebuild and act by act by the writer."""
    ruling = Ruling()
    registered(ruling, count=2)
    added(ruling)
    added(ruling, "register")
    ruling.act(move("m@1", "Production"))
    ruling.act(move("m@2", "Production"))
    assert [(each.nth, each.subject) for each in waiting(ruling)][1:] == [(0, "m@1"), (1, "m@2")]
    noted(ruling, waiting(ruling)[0], OK)
    noted(ruling, waiting(ruling)[0], BAD, BAD, BAD)
    assert again(ruling) == ruling.kept()


def test_a_refused_act_owes_nothing() -> None:
    ruling = Ruling()
    registered(ruling)
    added(ruling)
    before = ruling.kept()
    with pytest.raises(Fault):
        ruling.act(registry.MoveStage(version="m@1", stage="Production"))
    assert ruling.kept() == before


def test_what_happens_while_a_hook_is_paused_is_counted_and_not_told() -> None:
    ruling = Ruling()
    registered(ruling)
    hook = added(ruling)
    ruling.act(hooks.PauseHook(hook=hook.id))
    ruling.act(move("m@1", "Staging"))
    assert waiting(ruling) == []
    assert ruling.act(hooks.ResumeHook(hook=hook.id)).skipped == 1
    with pytest.raises(Conflict):
        ruling.act(hooks.ResumeHook(hook=hook.id))


def test_a_dead_letter_stays_raises_an_alert_and_can_be_sent_again() -> None:
    ruling = Ruling()
    registered(ruling)
    hook = added(ruling)
    ruling.act(move("m@1", "Staging"))
    [delivery] = waiting(ruling)
    dead = noted(ruling, delivery, BAD, BAD, BAD)
    assert (dead.state, dead.error, len(dead.attempts)) == ("FAILED", "exit 1", 3)
    [alert] = ruling.ask(monitoring.ListAlerts())
    assert (alert.kind, alert.subject) == (hooks.ALERT, hook.id)
    again_ = ruling.act(hooks.Redeliver(delivery=delivery.id))
    assert (again_.id, again_.state, again_.rounds) == (delivery.id, "WAITING", 1)
    with pytest.raises(Conflict):
        noted(ruling, delivery, OK)  # the outcome of the first round, late
    assert noted(ruling, again_, OK).state == "MADE"
    assert ruling.ask(monitoring.ListAlerts()) == []
    [shown] = ruling.ask(hooks.ListHooks())
    assert (shown.waiting, shown.made, shown.failed, shown.last_error) == (0, 1, 1, None)


def test_hooks_on_alerts_never_hear_of_hooks() -> None:
    """Two broken ones would call each other for ever."""
    ruling = Ruling()
    added(ruling, "alert")
    alert = monitoring.RaiseAlert(kind="x", subject="s", severity="warning", words="w")
    ruling.act(alert)
    ruling.act(alert)  # the standing one again: told once
    [delivery] = waiting(ruling)
    noted(ruling, delivery, BAD)
    assert len(ruling.ask(monitoring.ListAlerts())) == 2
    assert waiting(ruling) == []


def test_the_deliveries_of_a_hook_are_bounded_and_dead_letters_stay_longest() -> None:
    ruling = Ruling()
    hook = added(ruling, "run-ended")
    for index in range(MOST_WAITING + 2):
        run = ruling.act(runs.StartRun(experiment="e")).id
        ruling.act(runs.EndRun(run=run))
        if index < 2:
            noted(ruling, waiting(ruling)[0], BAD)
    assert len(waiting(ruling)) == MOST_WAITING
    run = ruling.act(runs.StartRun(experiment="e")).id
    ruling.act(runs.EndRun(run=run))
    assert len(waiting(ruling)) == MOST_WAITING
    newest = ruling.ask(hooks.ListDeliveries(hook=hook.id, limit=1))[0]
    assert newest.state == "FAILED" and "waited already" in newest.error
    for delivery in waiting(ruling)[: KEPT + 20]:
        noted(ruling, delivery, OK)
    over = [each for each in ruling.state.deliveries if each.state != "WAITING"]
    assert len(over) == KEPT
    assert sum(each.state == "FAILED" for each in over) == 3
    assert again(ruling) == ruling.kept()


def test_a_removed_hook_takes_its_deliveries_and_its_alert_along() -> None:
    ruling = Ruling()
    hook = added(ruling, "run-ended")
    ruling.act(hooks.TestHook(hook=hook.id))
    noted(ruling, waiting(ruling)[0], BAD)
    ruling.act(hooks.TestHook(hook=hook.id))
    ruling.act(hooks.RemoveHook(hook=hook.id))
    assert ruling.ask(hooks.ListDeliveries()) == []
    assert ruling.ask(monitoring.ListAlerts()) == []
    with pytest.raises(NotFound):
        ruling.act(hooks.RemoveHook(hook=hook.id))


SIGNED = {"target": "https://example.org/x", "program": None, "secret": "hooksecret-0123456789abcdef"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown event", {"event": "promot"}, "event"),
    ("a model of an event that has none", {"event": "alert", "model": "m"}, "model"),
    ("an unknown model", {"model": "n"}, "model"),
    ("a stage of an event that has none", {"event": "register", "stage": "Staging"}, "stage"),
    ("an unknown stage", {"stage": "Productoin"}, "stage"),
    ("a gate to nowhere", {"gate": True}, "gate"),
    ("a gate to the archive", {"gate": True, "stage": "Archived"}, "gate"),
    ("a program nobody looked at", {"program": None}, "target"),
    ("a relative program", {"program": "bin/true"}, "target"),
    ("a program with a control in its name", {"program": "/bin/\x1b[31m"}, "target"),
    ("an argument with a newline", {"args": ("a\nb",)}, "args"),
    ("too many arguments", {"args": ("a",) * 33}, "args"),
    ("a program on a private address", {"allow_private": True}, "target"),
    ("a receiver with arguments", {**SIGNED, "args": ("a",)}, "args"),
    ("a receiver without a secret", {**SIGNED, "secret": None}, "secret"),
    ("the secret of something else", {**SIGNED, "secret": "../owner"}, "secret"),
    ("a receiver at loopback", {**SIGNED, "target": "http://127.0.0.1/"}, "target"),
]


@pytest.mark.parametrize(("about", "field"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_hook_that_makes_no_sense_is_refused(about: dict[str, Any], field: str) -> None:
    ruling = Ruling()
    registered(ruling)
    before = ruling.kept()
    with pytest.raises(Fault) as refused:
        added(ruling, **about)
    assert refused.value.field == field
    assert ruling.kept() == before


def test_the_same_hook_twice_is_a_conflict() -> None:
    ruling = Ruling()
    added(ruling)
    with pytest.raises(Conflict):
        added(ruling)
    added(ruling, args=("other",))


URLS = [
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://example.org/",
    "javascript:alert(1)",
    "//example.org/",
    "example.org/x",
    "https:/example.org",
    "https:example.org",
    "https://",
    "https:///x",
    "https://user@example.org/",
    "https://user:pass@example.org/",
    "https://example.org@127.0.0.1/",
    "https://127.0.0.1#@example.org/",
    "https://example.org/#x",
    "https://example.org\\@127.0.0.1/",
    "https://exa mple.org/",
    "https://example.org/\r\nHost: x",
    "https://example.org/\x00",
    "https://example.org\t/",
    "https://exämple.org/",
    "https://ⓔxample.org/",
    "https://127。0。0。1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.0.1./",
    "http://0/",
    "http://017700000001",
    "http://example.0x7f/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1/",
    "http://[127.0.0.1]/",
    "http://[vF.x]/",
    "https://example.org:0/",
    "https://example.org:/",
    "https://example.org:99999/",
    "https://example.org:8o/",
    "https://-example.org/",
    "https://exa_mple.org/",
    "https://example..org/",
    "https://" + "a" * 64 + ".org/",
    "https://example.org/" + "a" * 2000,
    "https://%31%32%37.0.0.1/",
]


@pytest.mark.parametrize("url", URLS, ids=lambda url: ascii(url)[:40])
def test_a_hostile_url_is_refused(url: str) -> None:
    """Each is a way in which one parser reads another host than the next."""
    with pytest.raises(Invalid) as refused:
        checked_url(url)
    assert refused.value.field == "target"


def test_a_url_is_taken_apart_once() -> None:
    place = checked_url("https://Example.org:8443/a/b?c=d%20e")
    assert (place.scheme, place.host, place.port, place.path) == ("https", "example.org", 8443, "/a/b?c=d%20e")
    assert place.authority == "example.org:8443"
    assert checked_url("https://example.org").authority == "example.org"
    assert checked_url("http://[::1]:81/").authority == "[::1]:81"


NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "224.0.1.1",
    "239.255.255.255",
    "ff02::1",
    "ff0e::1",
    "255.255.255.255",
    "240.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:224.0.0.1",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fec0::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "::1",
    "::ffff:127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::ffff:192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "fd00::1",
    "fc00::1",
    "2001:db8::1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("text", NEVER)
def test_no_hook_goes_there_whatever_it_was_allowed(text: str) -> None:
    with pytest.raises(Refused):
        check_address(ipaddress.ip_address(text), "https", allow_private=True, allow_http=True)


@pytest.mark.parametrize("text", PRIVATE)
def test_a_private_address_needs_a_word(text: str) -> None:
    with pytest.raises(Refused):
        check_address(ipaddress.ip_address(text), "https", allow_private=False, allow_http=True)
    check_address(ipaddress.ip_address(text), "https", allow_private=True, allow_http=False)


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_let_through_over_tls(text: str) -> None:
    check_address(ipaddress.ip_address(text), "https", allow_private=False, allow_http=False)
    with pytest.raises(Refused):
        check_address(ipaddress.ip_address(text), "http", allow_private=True, allow_http=False)
    check_address(ipaddress.ip_address(text), "http", allow_private=False, allow_http=True)


@given(strategies.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_in_its_ipv6_form(address: ipaddress.IPv4Address) -> None:
    def judged(found: Any) -> bool:
        try:
            check_address(found, "https", allow_private=False, allow_http=False)
        except Refused:
            return False
        return True

    mapped = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    assert judged(mapped) == judged(address)
    assert not judged(ipaddress.IPv6Address(b"\0\x64\xff\x9b" + b"\0" * 8 + address.packed))


@given(strategies.text())
def test_whatever_is_taken_for_a_url_names_one_host_plainly(text: str) -> None:
    try:
        place = checked_url(f"https://{text}")
    except Invalid:
        return
    assert re.fullmatch(r"[A-Za-z0-9.:-]+", place.host) and 0 < place.port < 65536 and place.path.startswith(("/", "?"))


def gated(profile: str = "solo") -> tuple[Ruling, hooks.Hook]:
    """Two versions in Staging, and a gate to Production."""
    ruling = Ruling(profile)
    registered(ruling, count=2)
    for number in (1, 2):
        ruling.act(move(f"m@{number}", "Staging"))
    return ruling, added(ruling, stage="Production", gate=True)


def answer(
    ruling: Ruling, hook: hooks.Hook, version: str, ok: bool, stage: str = "Production", environment: str = "default"
) -> None:
    """What the gate says."""
    said = hooks.NoteAnswer(hook=hook.id, version=version, stage=stage, ok=ok, words="because", asked_by="ana")
    ruling.act(replace(said, environment=environment))


def test_a_move_past_a_gate_needs_its_yes() -> None:
    ruling, hook = gated()
    with pytest.raises(Refused) as unasked:
        ruling.act(move("m@1", "Production"))
    assert unasked.value.field == "hook" and "was not asked" in unasked.value.message
    answer(ruling, hook, "m@1", ok=False)
    with pytest.raises(Refused, match="says no: because"):
        ruling.act(move("m@1", "Production"))
    answer(ruling, hook, "m@2", ok=True)  # of another version
    with pytest.raises(Refused, match="says no: because"):
        ruling.act(move("m@1", "Production"))
    answer(ruling, hook, "m@1", ok=True)
    assert ruling.act(move("m@1", "Production")).stage == "Production"
    assert waiting(ruling) == []  # it was asked before, and is not told after


def test_a_yes_for_one_environment_is_none_for_another() -> None:
    ruling, hook = gated()
    answer(ruling, hook, "m@1", ok=True, environment="eu")
    with pytest.raises(Refused, match="was not asked"):
        ruling.act(move("m@1", "Production"))
    assert ruling.act(replace(move("m@1", "Production"), environment="eu")).environment == "eu"


def test_a_yes_is_good_for_one_move_and_not_for_long() -> None:
    ruling, hook = gated()
    answer(ruling, hook, "m@1", ok=True)
    ruling.now += 61
    with pytest.raises(Refused, match="was not asked"):
        ruling.act(move("m@1", "Production"))
    answer(ruling, hook, "m@1", ok=True)
    ruling.act(move("m@1", "Production"))
    ruling.act(move("m@1", "Archived"))
    with pytest.raises(Refused, match="was not asked"):
        ruling.act(move("m@1", "Production"))


def test_an_approval_does_not_go_round_a_gate() -> None:
    ruling, hook = gated("team")
    act = {"type": "registry.move_stage", "version": "m@1", "stage": "Production"}
    asked = ruling.act(governance.Propose(act=act), actor="ana")
    approve = governance.Approve(approval=asked.id, evidence=asked.evidence)
    with pytest.raises(Refused) as refused:
        ruling.act(approve, actor="bob")
    assert refused.value.field == "hook"
    assert ruling.ask(governance.ShowApproval(approval=asked.id)).state == "WAITING"
    answer(ruling, hook, "m@1", ok=True)
    ruling.act(approve, actor="bob")
    assert ruling.state.versions["m@1"].stage == "Production"
    assert again(ruling) == ruling.kept()


def test_a_canary_is_asked_about_before_its_first_request() -> None:
    ruling, hook = gated()
    answer(ruling, hook, "m@1", ok=True)
    ruling.act(move("m@1", "Production"))
    ruling.act(deployments.Deploy(version="m@1"))
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@1", ok=True))
    with pytest.raises(Refused) as refused:
        ruling.act(deployments.StartCanary(version="m@2"))
    assert refused.value.field == "hook"
    answer(ruling, hook, "m@2", ok=True)
    assert ruling.act(deployments.StartCanary(version="m@2")).pending == "m@2"


def test_nothing_is_sent_to_a_paused_hook_by_hand() -> None:
    ruling = Ruling()
    hook = added(ruling)
    delivery = ruling.act(hooks.TestHook(hook=hook.id))
    noted(ruling, delivery, OK)
    ruling.act(hooks.PauseHook(hook=hook.id))
    for act in (hooks.TestHook(hook=hook.id), hooks.Redeliver(delivery=delivery.id)):
        with pytest.raises(Conflict):
            ruling.act(act)


def test_a_paused_gate_is_not_asked_and_other_ways_stay_open() -> None:
    ruling, hook = gated()
    ruling.act(hooks.PauseHook(hook=hook.id))
    ruling.act(move("m@1", "Production"))
    ruling.act(hooks.ResumeHook(hook=hook.id))
    ruling.act(move("m@1", "Archived"))  # a way back is never held up
