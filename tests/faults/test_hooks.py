"""F32: receivers and programs that hang, fail, flood and lie, a daemon that is killed between what happened and its
telling; acts are answered all the while, and what could not be told is there to be sent again."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import governance, hooks, monitoring, registry, runs
from quarterstore.records.faults import Fault, Forbidden, Refused
from tests.receiver import Receiver
from tests.small import onnx_file

pytestmark = pytest.mark.fault
SHAPE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that says 200."""
    made = Receiver()
    yield made
    made.close()


def script(folder: Path, text: str, name: str = "hook.sh") -> str:
    """A program of the shell."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def registered(client: Any, model: str, count: int = 1) -> list[str]:
    """Versions of a model."""
    digest, size = client.put(onnx_file())
    return [
        client.ask(registry.RegisterVersion(model=model, digest=digest, size=size, format="onnx", signature=SHAPE)).id
        for _ in range(count)
    ]


def moved(client: Any, version: str, stage: str) -> registry.Version:
    """A move, with a reason where one is needed."""
    found: registry.Version = client.ask(
        registry.MoveStage(version=version, stage=stage, skip_stage=True, reason="r")  # type: ignore[arg-type]
    )
    return found


def over(client: Any, delivery: str, seconds: float = 60.0) -> hooks.Delivery:
    """A delivery, once it is over."""
    return until(lambda: _over(client, delivery), seconds, "end of the delivery")  # type: ignore[no-any-return]


def _over(client: Any, delivery: str) -> hooks.Delivery | None:
    found: hooks.Delivery = client.ask(hooks.ShowDelivery(delivery=delivery))
    return found if found.state != "WAITING" else None


def until(found: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        threading.Event().wait(0.05)
    return answer


def deliveries(client: Any, hook: str) -> list[hooks.Delivery]:
    """Of one hook, oldest first."""
    return list(reversed(client.ask(hooks.ListDeliveries(hook=hook))))


def test_a_promotion_is_told_signed_and_the_secret_stays_in_its_file(absent: Any, receiver: Receiver) -> None:
    absent.start()
    secret = absent.folder / "secret"
    secret.write_text("a secret of its own swordfish-zzyzx\n")
    secret.chmod(0o600)
    done = absent.qd(
        "--json", "hook", "add", "promote", receiver.url, "--secret-file", str(secret), "--allow-private",
        "--stage", "Production",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    hook = json.loads(done.stdout)
    with absent.client() as client:
        [version] = registered(client, "m")
        moved(client, version, "Staging")
        moved(client, version, "Production")
        [request] = receiver.wait(1)
        [delivery] = deliveries(client, hook["id"])
        assert over(client, delivery.id).state == "MADE"
    event = request.event
    parts = dict(each.split("=", 1) for each in request.headers["quarterdeck-signature"].split(","))
    signed = hmac.new(b"a secret of its own swordfish-zzyzx", parts["t"].encode() + b"." + request.body, hashlib.sha256)
    assert parts["v1"] == signed.hexdigest()
    assert (event["specversion"], event["id"], event["type"], event["subject"]) == (
        "1.0",
        delivery.id,
        "quarterdeck.registry.stage_moved",
        "m@1",
    )
    assert (event["data"]["before"], event["data"]["after"]) == ("Staging", "Production")
    assert event["sequence"] == str(delivery.seq) and event["time"].endswith("Z")
    kept = absent.home.hook_secret(hook["secret"])
    assert kept.stat().st_mode & 0o777 == 0o600
    absent.stop()
    told = [path for path in absent.home.root.rglob("*") if path.is_file() and b"swordfish-zzyzx" in path.read_bytes()]
    assert told == [kept]
    assert "swordfish-zzyzx" not in absent.log() and "swordfish-zzyzx" not in done.stdout + done.stderr
    absent.start()
    assert absent.qd("hook", "rm", hook["id"]).returncode == 0
    until(lambda: not kept.exists(), 30, "end of the secret")


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A daemon that gives programs four seconds."""
    from tests.conftest import _made

    made = _made()
    made.start(QUARTERDECK_HOOK_WITHIN="4", DATABASE_PASSWORD="hunter2")
    yield made
    made.end()


BAD = ["500", "404", "redirect", "hang up", "no HTTP"]


@pytest.fixture(scope="module")
def badly(brief: Any) -> Iterator[dict[str, tuple[Receiver, str]]]:
    """A receiver of each manner and its hook, all told of the same run: their pauses pass together."""
    told = {}
    with brief.client() as client:
        for manner in BAD:
            receiver = Receiver(manner)
            hook = client.ask(hooks.AddHook(event="run-ended", target=receiver.url, allow_private=True)).id
            told[manner] = receiver, hook
        client.ask(runs.EndRun(run=client.ask(runs.StartRun(experiment="e")).id))
    yield told
    for receiver, _ in told.values():
        receiver.close()


@pytest.mark.parametrize("manner", BAD)
def test_a_bad_answer_is_tried_three_times_and_then_a_dead_letter(
    brief: Any, badly: dict[str, tuple[Receiver, str]], manner: str
) -> None:
    receiver, hook = badly[manner]
    with brief.client() as client:
        three_times(brief, client, receiver, hook)


def three_times(daemon: Any, client: Any, receiver: Receiver, hook: str) -> None:
    """What became of the only delivery of a hook whose receiver answers badly, until it answers well."""
    [delivery] = deliveries(client, hook)
    dead = over(client, delivery.id)
    assert (dead.state, len(dead.attempts), len(receiver.requests)) == ("FAILED", 3, 3)
    assert dead.error and {request.event["id"] for request in receiver.requests} == {dead.id}
    pauses = [
        after.at - (before.at + before.seconds) for before, after in zip(dead.attempts, dead.attempts[1:], strict=False)
    ]
    assert pauses[0] >= 0.9 and pauses[1] >= 3.9
    alerts = [alert for alert in client.ask(monitoring.ListAlerts()) if alert.subject == hook]
    assert [alert.kind for alert in alerts] == ["hook"]
    receiver.manner = "200"
    done = daemon.qd("hook", "redeliver", dead.id)
    assert done.returncode == 0, done.stderr
    assert receiver.requests[3].event["id"] == dead.id
    assert not [alert for alert in client.ask(monitoring.ListAlerts()) if alert.subject == hook]
    client.ask(hooks.RemoveHook(hook=hook))


def test_stuck_receivers_delay_no_act_and_no_alert(absent: Any, report: Any) -> None:
    """Ten hooks whose receivers accept and never answer: eight calls at a time, five seconds each."""
    absent.start()
    stuck, good = Receiver("stall"), Receiver()
    with absent.client() as client:
        for index in range(10):
            client.ask(hooks.AddHook(event="promote", target=f"{stuck.url}&n={index}", allow_private=True))
        [version] = registered(client, "m")
        moved(client, version, "Staging")
        until(lambda: stuck.most == 8, 20, "eight calls at a time")
        slowest = 0.0
        for stage in ("Production", "Archived") * 5:
            began = time.monotonic()
            moved(client, version, stage)
            slowest = max(slowest, time.monotonic() - began)
        began = time.monotonic()
        run = client.ask(runs.StartRun(experiment="e"))
        client.ask(runs.EndRun(run=run.id, state="FAILED", error="on purpose"))
        client.ask(hooks.ListHooks())
        slowest = max(slowest, time.monotonic() - began)
        report("F32", 11, int(slowest >= 1.0), slowest=f"{slowest:.3f}")
        assert slowest < 4.0, "who waits for a stuck receiver waits five seconds"
        first = deliveries(client, client.ask(hooks.ListHooks())[0].id)[0]
        dead = over(client, first.id, 90)
        assert dead.state == "FAILED" and "5 s" in str(dead.error)
        assert all(attempt.seconds < 20 for attempt in dead.attempts), "it is stuck for ever"
        assert stuck.most == 8
    absent.stop()  # calls in flight are let go
    stuck.close()
    good.close()


def test_a_killed_daemon_tells_afterwards_what_it_owed_under_the_same_ids(
    absent: Any, receiver: Receiver, report: Any
) -> None:
    """One delivery was on its way, the others were not begun: the restart makes all of them."""
    absent.start()
    receiver.manner = "stall"
    with absent.client() as client:
        hook = client.ask(hooks.AddHook(event="promote", target=receiver.url, allow_private=True)).id
        versions = registered(client, "m", 3)
        for version in versions:
            moved(client, version, "Staging")
        receiver.wait(1)
        owed = [each.id for each in deliveries(client, hook)]
    absent.stop(signal.SIGKILL)
    receiver.manner = "200"
    absent.start()
    with absent.client() as client:
        assert [over(client, each).state for each in owed] == ["MADE"] * 3
        told = [request.event["id"] for request in receiver.requests]
        assert told[0] == owed[0] and told[1:] == owed
        absent.stop(signal.SIGKILL)
        absent.start()
    with absent.client() as client:
        assert client.ask(hooks.ListHooks())[0].made == 3
        client.ask(hooks.TestHook(hook=hook))
        receiver.wait(5)
    assert [request.event["id"] for request in receiver.requests][1:4] == owed  # none a third time
    report("F32 kill", 3, 0)


def test_a_kill_right_after_the_sync_loses_no_delivery(absent: Any, receiver: Receiver) -> None:
    """The entry is certain and nobody has heard of it: not the asker, not the hooks."""
    absent.start()
    with absent.client() as client:
        hook = client.ask(hooks.AddHook(event="promote", target=receiver.url, allow_private=True)).id
        [version] = registered(client, "m")
    absent.stop()
    absent.start(QD_CRASH_AT="journal.synced:1")
    with absent.client(timeout=2) as client, pytest.raises(Fault):
        moved(client, version, "Staging")
    assert absent.process.wait(30) == 137 and receiver.requests == []
    absent.start()
    with absent.client() as client:
        [delivery] = deliveries(client, hook)
        assert over(client, delivery.id).state == "MADE"
    assert {request.event["id"] for request in receiver.wait(1)} == {delivery.id}


PROGRAMS: dict[str, tuple[str, str, str]] = {
    "exits with an error": ("echo no; exit 7", "FAILED", "exit 7"),
    "hangs": ("sleep 300 & wait", "FAILED", "ended after 4 s"),
    "forks and leaves": ("sleep 300 & exit 0", "MADE", "exit 0"),
    "is killed": ("kill -9 $$", "FAILED", "SIGKILL"),
    "prints sequences": ("printf 'a\\033]0;t\\007\\033[31mred'", "MADE", "exit 0"),
    "takes itself away": ('rm "$0"; exit 1', "FAILED", "a program that is there"),
    "opens itself to all": ('chmod 777 "$0"; exit 1', "FAILED", "others may write"),
}


@pytest.fixture(scope="module")
def behaving(brief: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, str]]:
    """The folder, the hook and a delivery of each program, all begun: their pauses pass together."""
    begun = {}
    with brief.client() as client:
        for how, (text, _, _) in PROGRAMS.items():
            folder = tmp_path_factory.mktemp("program")
            program = script(folder, f"echo $$ >> {folder}/pids; {text}")
            hook = client.ask(hooks.AddHook(event="promote", target=f"exec:{program}")).id
            begun[how] = folder, hook, client.ask(hooks.TestHook(hook=hook)).id
    return begun


@pytest.mark.parametrize("how", PROGRAMS)
def test_a_program_however_it_behaves_is_over_and_noted(
    brief: Any, behaving: dict[str, tuple[Path, str, str]], how: str
) -> None:
    _, state, words = PROGRAMS[how]
    folder, hook, delivery = behaving[how]
    with brief.client() as client:
        found = over(client, delivery)
        assert found.state == state and words in found.attempts[-1].words
        assert len(found.attempts) == (1 if state == "MADE" else 3)
        for attempt in found.attempts:
            assert not set("\x1b\x07") & set(attempt.output)
        assert "\x1b" not in brief.qd("hook", "deliveries", hook).stdout + brief.qd("--json", "hook", "ls").stdout
        client.ask(hooks.RemoveHook(hook=hook))
    for pid in (folder / "pids").read_text().split():
        until(lambda pid=pid: _group_gone(int(pid)), 10, "end of what it started")


def _group_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return all(_state(pid) in "ZX" for pid in _members(group))


def _members(group: int) -> list[int]:
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _field(int(path.name), 2) == str(group)
    ]


def _state(pid: int) -> str:
    return _field(pid, 0) or "X"


def _field(pid: int, index: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[index]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_a_program_gets_the_event_and_names_are_never_a_shells(brief: Any, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    model = f"$(touch {canary.name})`touch {canary.name}`;touch {canary.name}|&"
    program = script(tmp_path, f'cat > "{tmp_path}/event"; env > "{tmp_path}/env"; echo "$1" > "{tmp_path}/arg"')
    argument = f"$(touch {canary})"
    with brief.client() as client:
        hook = client.ask(hooks.AddHook(event="register", target=f"exec:{program}", args=(argument,))).id
        registered(client, model)
        [delivery] = deliveries(client, hook)
        assert over(client, delivery.id).state == "MADE"
        client.ask(hooks.RemoveHook(hook=hook))
    event = json.loads((tmp_path / "event").read_text())
    assert event["data"]["version"]["model"] == model and event["id"] == delivery.id
    assert (tmp_path / "arg").read_text() == argument + "\n"
    environ = (tmp_path / "env").read_text()
    assert f"QUARTERDECK_DELIVERY={delivery.id}\n" in environ and "hunter2" not in environ
    assert not canary.exists() and not list(Path("/").glob("canary*"))


def test_a_program_replaced_by_a_link_is_not_run(brief: Any, tmp_path: Path) -> None:
    program = Path(script(tmp_path, "exit 1"))
    with brief.client() as client:
        hook = client.ask(hooks.AddHook(event="run-ended", target=f"exec:{program}")).id
        other = script(tmp_path, f"touch {tmp_path}/ran", "other.sh")
        program.unlink()
        program.symlink_to(other)
        found = over(client, client.ask(hooks.TestHook(hook=hook)).id)
        assert found.state == "FAILED" and "leads to" in str(found.error)
        client.ask(hooks.RemoveHook(hook=hook))
    assert not (tmp_path / "ran").exists()


def test_a_running_program_ends_with_a_daemon_that_stops_and_is_told_again(absent: Any, tmp_path: Path) -> None:
    program = script(tmp_path, f"echo $$ >> {tmp_path}/pids; test -e {tmp_path}/go || sleep 300")
    absent.start()
    with absent.client() as client:
        hook = client.ask(hooks.AddHook(event="run-ended", target=f"exec:{program}")).id
        delivery = client.ask(hooks.TestHook(hook=hook)).id
    until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), 20, "start of the program")
    absent.stop()  # within twenty seconds; the program takes three hundred
    assert _group_gone(int((tmp_path / "pids").read_text().split()[0]))
    (tmp_path / "go").touch()
    absent.start()
    with absent.client() as client:
        assert over(client, delivery).state == "MADE"
    assert len((tmp_path / "pids").read_text().split()) == 2


def test_only_an_admin_says_what_is_called(team: Any, receiver: Receiver) -> None:
    with team.client() as owner, team.client("ana") as ana:
        hook = owner.ask(hooks.AddHook(event="promote", target="exec:/bin/true")).id
        for act in (
            hooks.AddHook(event="promote", target="exec:/bin/true"),
            hooks.AddHook(event="promote", target=receiver.url, allow_private=True),
            hooks.RemoveHook(hook=hook),
            hooks.PauseHook(hook=hook),
        ):
            with pytest.raises(Forbidden):
                ana.ask(act)


HOSTILE = [
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]:8080/",
    "http://127.0.0.1:22/",
    "http://10.0.0.1/",
    "http://2852039166/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fd00:ec2::254]/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/",
    "https://owner:secret@example.org/",
    "exec:x.sh",
    "exec:/etc/passwd",
    "exec:/bin/sh -c id",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_hostile_target_is_refused_and_leaves_nothing(daemon: Any, client: Any, target: str) -> None:
    before = {path.name for path in daemon.home.keys.iterdir()}, client.ask(hooks.ListHooks())
    with pytest.raises(Fault) as refused:
        client.ask(hooks.AddHook(event="promote", target=target, program="/bin/sh", secret="owner"))
    assert refused.value.field == "target"
    assert client.ask(hooks.ListHooks()) == before[1]


SECRETS: dict[str, tuple[bytes, int, str]] = {
    "too short": (b"short", 0o600, "16 to 4096"),
    "too long": (b"x" * 5000, 0o600, "16 to 4096"),
    "open to others": (b"long enough to be one", 0o644, "others may read"),
}


@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_that_is_none_is_refused(daemon: Any, client: Any, tmp_path: Path, what: str) -> None:
    content, mode, words = SECRETS[what]
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    for given in (path, tmp_path / "link", tmp_path / "none", tmp_path):
        if given.name == "link":
            given.symlink_to(path)
        with pytest.raises(Fault) as refused:
            client.ask(hooks.AddHook(event="promote", target="https://example.org/", secret_file=str(given)))
        assert refused.value.field == "secret_file"
        if given == path:
            assert words in refused.value.message


# gates

GATE = 'cat > "$0.event"; test -e "$0.yes" && {{ echo "fine by me"; exit 0; }}; echo "not on a Friday"; exit 1'


def test_a_program_that_is_a_gate_decides_and_the_journal_says_who(daemon: Any, client: Any, tmp_path: Path) -> None:
    program = script(tmp_path, GATE.replace("{{", "{").replace("}}", "}"))
    [version] = registered(client, "gated")
    done = daemon.qd("hook", "add", "promote", f"exec:{program}", "--gate", "--stage", "Production", "--model", "gated")
    assert done.returncode == 0, done.stderr
    assert daemon.qd("promote", version, "Staging").returncode == 0  # not its stage
    refused = daemon.qd("promote", version, "Production")
    assert refused.returncode == 6 and "not on a Friday" in refused.stderr
    asked = json.loads(Path(f"{program}.event").read_text())
    assert asked["type"] == "quarterdeck.hooks.asked" and asked["subject"] == version
    assert (asked["data"]["from"], asked["data"]["to"]) == ("Staging", "Production")
    Path(f"{program}.yes").touch()
    assert daemon.qd("promote", version, "Production").returncode == 0
    words = [entry.words for entry in client.ask(governance.ListAudit(text="says"))]
    assert "says yes" in words[0] and version in words[0] and "says no" in words[1]
    for hook in client.ask(hooks.ListHooks(model="gated")):
        if hook.gate:
            client.ask(hooks.RemoveHook(hook=hook.id))


@pytest.mark.parametrize(
    ("manner", "yes"),
    [
        ('{"allow": true}', True),
        ('{"allow": false, "reason": "not today"}', False),
        ("200", False),
        ("500", False),
        ("stall", False),
        ("hang up", False),
        ("redirect", False),
        ("flood", False),
    ],
)
def test_only_a_plain_yes_of_a_receiver_opens_a_gate(
    daemon: Any, client: Any, receiver: Receiver, manner: str, yes: bool
) -> None:
    receiver.manner = manner
    model = f"m-{abs(hash(manner))}"
    [version] = registered(client, model)
    gate = hooks.AddHook(
        event="promote", target=receiver.url, allow_private=True, gate=True, stage="Production", model=model
    )
    hook = client.ask(gate).id
    moved(client, version, "Staging")
    if yes:
        assert moved(client, version, "Production").stage == "Production"
    else:
        with pytest.raises(Refused) as refused:
            moved(client, version, "Production")
        assert refused.value.field == "hook"
    assert client.ask(registry.ShowVersion(version=version)).stage == ("Production" if yes else "Staging")
    assert len(receiver.requests) == 1  # asked once, although a console sends again after two seconds
    client.ask(hooks.RemoveHook(hook=hook))


def test_a_gate_that_hangs_holds_its_own_move_alone(daemon: Any, client: Any, receiver: Receiver) -> None:
    receiver.manner = "stall"
    held, free = registered(client, "held")[0], registered(client, "free")[0]
    hook = client.ask(
        hooks.AddHook(
            event="promote", target=receiver.url, allow_private=True, gate=True, stage="Production", model="held"
        )
    ).id
    said: list[Any] = []

    def promote() -> None:
        with daemon.client() as other:
            try:
                said.append(moved(other, held, "Production"))
            except Fault as fault:
                said.append(fault)

    movers = [threading.Thread(target=promote) for _ in range(6)]
    for mover in movers:
        mover.start()
    receiver.wait(1)
    began = time.monotonic()
    moved(client, free, "Production")
    client.ask(governance.ListAudit(limit=5))  # what is read in a thread
    assert time.monotonic() - began < 15.0  # those that are held wait for twenty
    for mover in movers:
        mover.join(40)
    assert len(said) == 6 and all(isinstance(each, Refused) for each in said), said
    client.ask(hooks.RemoveHook(hook=hook))


def test_a_move_that_is_refused_anyway_asks_no_gate(team: Any, receiver: Receiver) -> None:
    """An approval is needed first; the receiver hears of it when somebody approves."""
    receiver.manner = '{"allow": true}'
    with team.client() as owner, team.client("ana") as ana:
        [version] = registered(owner, "m")
        owner.ask(
            hooks.AddHook(event="promote", target=receiver.url, allow_private=True, gate=True, stage="Production")
        )
        owner.ask(registry.MoveStage(version=version, stage="Staging"))
        with pytest.raises(Refused):
            owner.ask(registry.MoveStage(version=version, stage="Production"))
        assert receiver.requests == []
        act = {"type": "registry.move_stage", "version": version, "stage": "Production"}
        asked = owner.ask(governance.Propose(act=act))
        assert receiver.requests == []
        ana.ask(governance.Approve(approval=asked.id, evidence=asked.evidence))
        assert owner.ask(registry.ShowVersion(version=version)).stage == "Production"
    [request] = receiver.requests
    assert request.event["data"]["asked_by"] != "ana"
