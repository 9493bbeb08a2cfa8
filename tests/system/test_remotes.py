"""Two real decks on one machine: a version is sent, deployed and rolled back; both are killed on the way."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from quarterstore.records import deployments, registry, remotes
from tests.decks import Pair, answered, produced, until


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = Pair()
    found.meet()
    yield found
    found.end()


def test_a_version_is_sent_deployed_and_rolled_back_and_both_journals_say_so(pair: Pair) -> None:
    with pair.ours.client() as ours, pair.theirs.client() as theirs:
        first, second = produced(ours, "one"), ""
        sent = pair.ours.qd("--json", "deploy", "m", "--to", "prod")
        assert sent.returncode == 0, sent.stderr + pair.theirs.log()
        change = json.loads(sent.stdout)
        assert (change["state"], change["version"], change["there"]) == ("DONE", first, "m@1")
        assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@1"
        until(lambda: theirs.ask(deployments.ShowServing()).hosts)
        assert answered(pair.theirs) == [1.0]
        second = produced(ours, "two")
        assert pair.ours.qd("deploy", second, "--to", "prod").returncode == 0
        assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@2"
        back = pair.ours.qd("remote", "rollback", "prod", "m", "--reason", "worse")
        assert back.returncode == 0, back.stderr
        found = theirs.ask(deployments.ShowDeployment(endpoint="m"))
        assert found.live == "m@1"
        again = pair.ours.qd("deploy", second, "--to", "prod")
        assert again.returncode == 0, again.stderr
        assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@2", "the file is there: no third version"
        bundles = theirs.ask(remotes.ListBundles())
        changes = ours.ask(remotes.ListChanges())
        assert [each.bundle for each in changes if each.kind == "deploy"] == [each.id for each in bundles]
        assert [(each.sender, each.by, each.theirs) for each in bundles][-1] == ("laptop", "sender", "m@1")
        status = pair.ours.qd("remote", "status", "prod")
        assert status.returncode == 0 and "REACHABLE" in status.stdout and "m@2" in status.stdout


def test_an_upload_that_is_killed_in_the_middle_goes_on_where_it_was(pair: Pair) -> None:
    """Both ends are killed while the file is on its way; each time what is there stays there."""
    with pair.ours.client() as ours:
        produced(ours, "large", size=96 * 1024 * 1024)
        digest = ours.ask(registry.ShowVersion(version="m@1")).digest
        asked = ours.ask(remotes.SendVersion(version="m@1", remote="prod"), timeout=30)

    def half() -> int:
        return max((path.stat().st_size for path in pair.theirs.home.incoming.glob("bundle-*")), default=0)

    until(lambda: half() > 2 * 1024 * 1024)
    pair.ours.stop(signal.SIGKILL)
    before = half()
    assert 0 < before < 96 * 1024 * 1024
    pair.theirs.stop(signal.SIGKILL)
    pair.open()
    pair.ours.start()
    with pair.ours.client() as ours, pair.theirs.client() as theirs:
        done = until(lambda: (found := ours.ask(remotes.ShowChange(change=asked.id))).state != "WAITING" and found, 60)
        assert (done.state, done.why) == ("DONE", "")
        assert theirs.ask(remotes.ListBundles())[0].digest == digest
        assert not list(pair.theirs.home.incoming.glob("bundle-*"))
