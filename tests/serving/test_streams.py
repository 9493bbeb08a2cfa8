"""What a stream holds and remembers: nothing is lost from its queue, keys outlive the process, addresses are safe."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.serving.addresses import parsed, refuse_public, resolved
from quarterdeckd.serving.answering import live_only
from quarterdeckd.serving.pending import AGAIN, ON_THE_WAY, Answer, Pending
from quarterdeckd.serving.seen import SIZE, Seen, digest_of
from quarterdeckd.serving.stream_counts import ANSWERED, DUPLICATES, NOBODY, TAKEN, WAITING, Counts, read
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.faults import Fault, Refused
from quarterstore.records.registry import Signature


def answer(key: bytes, size: int = 10, sender: bytes = b"s") -> Answer:
    """An answer that waits."""
    return Answer(key, digest_of(key), sender, [key, b"ok", b"x" * size], 1.0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30)),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("hear"), st.integers(0, 30)),
        st.tuples(st.just("lost"), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([1, int(AGAIN) + 1])),
    ),
    max_size=80,
)


@given(steps)
def test_whatever_happens_every_answer_is_sent_until_it_is_acknowledged(life: list[tuple[str, int]]) -> None:
    pending, now, waiting, on_the_way = Pending(20), 0.0, {}, set()
    for what, number in life:
        key = b"%d" % number
        if what == "add" and pending.room() and not pending.again(key, b"other"):
            pending.add(answer(key))
            waiting[key] = True
        elif what == "send":
            for _ in range(number):
                if (found := pending.next()) is not None:
                    assert found.key in waiting, "an acknowledged answer is sent"
                    pending.sent(now)
                    on_the_way.add(found.key)
        elif what == "hear":
            assert (pending.acknowledged(key) is not None) == (waiting.pop(key, None) is not None)
            on_the_way.discard(key)
        elif what == "lost":
            pending.lost()
            on_the_way.clear()
        elif what == "wait":
            now += number
            pending.late(now)
        assert len(pending) == len(waiting) <= 20
        assert bool(pending.oldest()) == bool(waiting)
    pending.lost()
    order = []
    while (found := pending.next()) is not None:
        order.append(found.key)
        pending.sent(now)
        pending.acknowledged(found.key)
    assert sorted(order) == sorted(waiting) and not len(pending)


def test_what_was_lost_with_a_consumer_goes_first_and_in_its_order() -> None:
    pending = Pending(10)
    for number in range(6):
        pending.add(answer(b"%d" % number))
    assert not any(pending.next() and pending.sent(0.0) for _ in range(4))
    pending.acknowledged(b"1")
    pending.lost()
    found = []
    while (following := pending.next()) is not None:
        found.append((following.key, pending.sent(1.0)))
    assert found == [(b"0", True), (b"2", True), (b"3", True), (b"4", False), (b"5", False)]


def test_the_queue_is_bounded_by_number_by_bytes_and_on_the_way() -> None:
    heavy = Pending(10, most_bytes=1000)
    heavy.add(answer(b"a", 2000))
    assert not heavy.room() and heavy.acknowledged(b"a") and heavy.room()
    many = Pending(1000)
    for number in range(1000):
        many.add(answer(b"%d" % number))
    assert not many.room()
    sent = 0
    while many.next() is not None:
        many.sent(0.0)
        sent += 1
    assert sent == ON_THE_WAY
    many.late(AGAIN - 1)
    assert many.next() is None
    many.late(AGAIN)
    again = many.next()
    assert again is not None and again.sent == 0.0


def test_a_message_that_comes_again_is_owed_to_whoever_sent_it_last() -> None:
    pending = Pending(10)
    pending.add(answer(b"k", sender=b"before"))
    assert pending.again(b"k", b"after") and not pending.again(b"other", b"after")
    found = pending.acknowledged(b"k")
    assert found is not None and found.sender == b"after"


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 90))
def test_the_newest_keys_are_remembered_over_a_restart_and_no_more_than_twice_as_many(window: int, many: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen = Seen(Path(folder), window)
        for number in range(many):
            seen.add(digest_of(b"%d" % number))
        for again in (seen, Seen(Path(folder), window)):
            assert all(digest_of(b"%d" % number) in again for number in range(max(0, many - window), many))
            assert len(again) <= 2 * window
        assert sum(path.stat().st_size for path in Path(folder).iterdir()) <= 2 * window * SIZE


def test_where_no_other_file_can_be_opened_keys_go_into_the_one_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed first, its number would be that of the next file of the process: keys among recorded predictions."""
    seen = Seen(tmp_path, 2)
    keys = [digest_of(str(number).encode()) for number in range(3)]
    seen.add(keys[0])

    def full() -> int:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(seen, "_open", full)
        with pytest.raises(OSError, match="no room"):
            seen.add(keys[1])
    with (tmp_path / "a segment").open("wb", buffering=0) as other:
        seen.add(keys[2])
        assert not os.fstat(other.fileno()).st_size
    assert all(key in Seen(tmp_path, 2) for key in keys)


def test_half_a_key_at_the_end_of_the_file_is_cut_off(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 100)
    seen.add(digest_of(b"a"))
    with (tmp_path / "keys").open("ab") as file:
        file.write(b"half")
    again = Seen(tmp_path, 100)
    again.add(digest_of(b"b"))
    third = Seen(tmp_path, 100)
    assert digest_of(b"a") in third and digest_of(b"b") in third and len(third) == 2


def test_counts_outlive_the_process_and_what_waited_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    assert read(path).taken == 0
    counts = Counts(path)
    assert counts.begin() == NOBODY
    for name, number in ((TAKEN, 10), (ANSWERED, 6), (DUPLICATES, 1), (WAITING, 3)):
        counts.numbers[name] = number
    counts.oldest(time.time() - 5)
    counts.note("full \x1b[31m é" * 40)
    found = read(path)
    assert (found.taken, found.answered, found.waiting, found.duplicates) == (10, 6, 3, 1)
    assert 4.9 < found.lag < 60 and "\x1b" not in found.note and found.note.startswith("full")
    Counts(path).begin()
    assert (read(path).taken, read(path).waiting, read(path).lag) == (7, 0, 0.0)
    path.write_bytes(b"short")
    assert read(path).taken == 0


def test_only_a_message_in_which_the_process_ended_twice_in_a_row_is_blamed(tmp_path: Path) -> None:
    path, first, second = tmp_path / "counts", digest_of(b"1"), digest_of(b"2")

    def dies_in(digest: bytes) -> bytes:
        counts = Counts(path)
        blamed = counts.begin()
        counts.running(digest)
        return blamed

    assert dies_in(first) == NOBODY
    assert dies_in(second) == NOBODY, "once only"
    assert dies_in(first) == NOBODY, "not in a row"
    assert dies_in(first) == NOBODY
    assert dies_in(NOBODY) == first
    assert dies_in(NOBODY) == NOBODY


GOOD = {
    "tcp://127.0.0.1:5601": "bind:tcp://127.0.0.1:5601",
    "bind:tcp://localhost:1": "bind:tcp://127.0.0.1:1",
    "tcp://[::1]:65535": "bind:tcp://[::1]:65535",
    "connect:tcp://queue-1.example.org:7000": "connect:tcp://queue-1.example.org:7000",
    "ipc://orders.in": "bind:ipc://orders.in",
    "connect:ipc://orders": "connect:ipc://orders",
}
BAD = (
    "", "tcp://", "tcp://:5", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:x",
    "tcp://127.0.0.1:-1", "tcp://127.0.0.1:*", "tcp://*:5", "tcp://eth0:5", "connect:tcp://a;b:5", "udp://1.2.3.4:5",
    "connect:tcp://a b:5", "inproc://x", "ipc://", "ipc://../x", "ipc:///tmp/x", "ipc://a/b", "ipc://@x", "pgm://a",
    "ipc://..", "connect:", "connect:connect:tcp://a:1", "tcp://127.0.0.1:٣", "tcp://\x1b[31m:5", "tcp://1.2.3.4:000005",
    "tcp://fe80::1%eth0:5", "http://127.0.0.1:5",
)  # fmt: skip


@pytest.mark.parametrize(("text", "kept"), GOOD.items())
def test_an_address_is_kept_as_it_will_be_used(text: str, kept: str) -> None:
    assert parsed("input", text).text() == kept == parsed("input", kept).text()


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(Fault) as refused:
        parsed("input", text)
    assert refused.value.line().startswith("input: got ") and refused.value.line().isprintable()


def test_an_address_for_everybody_is_bound_only_where_that_is_said() -> None:
    for text in ("tcp://0.0.0.0:5", "tcp://192.168.1.4:5", "tcp://[::]:5"):
        with pytest.raises(Refused, match="other machines"):
            refuse_public("input", parsed("input", text), public=False)
        refuse_public("input", parsed("input", text), public=True)
    for text in ("tcp://127.0.0.9:5", "tcp://[::1]:5", "ipc://x", "connect:tcp://192.168.1.4:5"):
        refuse_public("input", parsed("input", text), public=False)


def test_a_socket_in_the_home_has_a_path_that_can_be_bound(tmp_path: Path) -> None:
    found = resolved("input", "connect:ipc://orders", Path("/home/ana/deck/streams"))
    assert found == (False, "ipc:///home/ana/deck/streams/orders.sock")
    with pytest.raises(Fault, match="at most 107"):
        resolved("input", "ipc://" + "x" * 120, tmp_path)


def test_a_stream_has_the_live_version_alone_and_its_endpoint_alone() -> None:
    def slot(version: str, role: str, share: int) -> Slot:
        return Slot(version, "/p", version, Signature((), ()), share, role)  # type: ignore[arg-type]

    slots = (slot("m@2", "candidate", 40), slot("m@1", "live", 60), slot("m@3", "shadow", 50))
    other = Route(endpoint="n", epoch=2, slots=(slot("n@1", "live", 100),), salt="s")
    table = RoutingTable(
        epoch=7, routes=(Route(endpoint="m", epoch=5, slots=slots, salt="s", weights=(0.4, 0.6)), other)
    )
    [route] = live_only(table, "m").routes
    assert [(each.version, each.share) for each in route.slots] == [("m@1", 100)] and route.weights == ()
    assert live_only(table, "m").epoch == 7 and not live_only(table, "none").routes
