"""Limits and holds: what goes first, what never goes, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.services.retention import Lot, choose, unmet
from quarterdeckd.services.store import purgeable
from quarterdeckd.work.retaining import runs_as_lots
from quarterstore.records import retention, runs
from quarterstore.records.faults import Conflict, Invalid, NotFound
from quarterstore.records.retention import DEFAULTS, WAITING_ROWS, Retention, marks
from tests.ruling import Ruling

LIMIT = Retention(kind="predictions", size=1_000_000_000, rows=1000)


@pytest.fixture
def deck() -> Ruling:
    return Ruling()


def run_with_points(deck: Ruling, ended: bool = True) -> str:
    """A run that has ended unless said otherwise."""
    run: str = deck.act(runs.StartRun(experiment="e")).id
    if ended:
        deck.act(runs.EndRun(run=run, metrics={"loss": 0.5}))
    return run


def test_limits_that_are_not_given_stay_as_they_are(deck: Ruling) -> None:
    deck.act(retention.SetRetention(kind="points", rows=5000, days=7))
    found = deck.act(retention.SetRetention(kind="points", size=50_000_000, registered=True))
    assert (found.size, found.rows, found.days, found.registered, found.set_by) == (50_000_000, 5000, 7, True, "ana")
    assert deck.act(retention.SetRetention(kind="points", days=0)).days is None


@pytest.mark.parametrize(
    "bad",
    [
        retention.SetRetention(kind="points"),
        retention.SetRetention(kind="points", size=0),
        retention.SetRetention(kind="points", size=2**63 - 1),
        retention.SetRetention(kind="points", rows=-5),
        retention.SetRetention(kind="points", days=-1),
        retention.SetRetention(kind="points", days=36_501),
        retention.SetRetention(kind="predictions", registered=True),
    ],
)
def test_a_limit_that_makes_no_sense_changes_nothing(deck: Ruling, bad: retention.SetRetention) -> None:
    with pytest.raises(Invalid):
        deck.act(bad)
    assert not len(deck.state.retentions)


def test_a_hold_is_on_what_is_there_once_and_has_a_reason(deck: Ruling) -> None:
    run = run_with_points(deck)
    hold = deck.act(retention.HoldSamples(on="run", name=run[:20], reason="case 7"), actor="bob")
    assert (hold.name, hold.by, deck.ask(retention.ListHolds())) == (run, "bob", [hold])
    with pytest.raises(Conflict, match="case 7"):
        deck.act(retention.HoldSamples(on="run", name=run, reason="again"))
    for on, name, reason in (("run", "nobody", "x"), ("model", "none", "x"), ("endpoint", "../x", "x")):
        with pytest.raises(NotFound):
            deck.act(retention.HoldSamples(on=on, name=name, reason=reason))  # type: ignore[arg-type]
    for reason in ("", "\x1b[31m", "x" * 1001):
        with pytest.raises(Invalid):
            deck.act(retention.HoldSamples(on="run", name=run_with_points(deck), reason=reason))
    assert deck.act(retention.ReleaseHold(hold=hold.id)) == hold and not len(deck.state.holds)
    with pytest.raises(NotFound):
        deck.act(retention.ReleaseHold(hold=hold.id))


def test_a_held_run_that_was_removed_is_not_forgotten_by_gc(deck: Ruling) -> None:
    held, other = run_with_points(deck), run_with_points(deck)
    deck.act(retention.HoldSamples(on="run", name=held, reason="a dispute"))
    for run in (held, other):
        deck.act(runs.RemoveRun(run=run))
    assert purgeable(deck.state, deck.now + 1).runs == (other,)


def test_a_purged_run_says_when_and_keeps_its_last_values(deck: Ruling) -> None:
    run = run_with_points(deck)
    act = retention.NotePurge(
        kind="points", rows=10, size=99, oldest="2023-11-14", newest="2023-11-14", rules=("rows",), runs=(run, "gone")
    )
    deck.act(act)
    found = deck.state.runs[run]
    assert found.points_purged_at == deck.now and found.metrics == {"loss": 0.5}
    assert deck.entries[-1].words == "purged 10 points of 2 runs (99 bytes, 2023-11-14 to 2023-11-14) by rows"


def test_points_of_open_held_and_registered_runs_stay_and_the_others_go_by_their_end(deck: Ruling) -> None:
    from quarterstore.records.models import CreateModel
    from quarterstore.records.registry import RegisterSource

    first, still, held, registered, last = (run_with_points(deck, ended=number != 1) for number in range(5))
    deck.act(CreateModel(model="m"))
    deck.act(RegisterSource(model="m", source="runs:/r/model", run=registered))
    deck.act(retention.HoldSamples(on="run", name=held, reason="a dispute"))
    folded = dict.fromkeys((last, registered, held, still, first, "not known"), (10, 100.0))
    lots = runs_as_lots(deck.state, folded, DEFAULTS["points"], deck.now)
    assert [lot.name for lot in lots if not lot.kept] == [first, last]
    assert {lot.name for lot in lots if lot.kept} == {still, held, registered}
    freely = Retention(kind="points", size=10**9, rows=10**6, registered=True)
    assert [lot.name for lot in runs_as_lots(deck.state, folded, freely, deck.now) if not lot.kept] == [
        first,
        registered,
        last,
    ]
    deck.act(retention.HoldSamples(on="model", name="m", reason="a dispute"))
    assert registered in {lot.name for lot in runs_as_lots(deck.state, folded, freely, deck.now) if lot.kept}


def lot(number: int, rows: int, *, kept: bool = False, expired: bool = False) -> Lot:
    """The `number`th file."""
    return Lot(f"{number:06d}", rows * 100, rows, "2023-11-14", "2023-11-14", expired, "are held" if kept else "")


def test_what_is_expired_goes_whatever_room_there_is() -> None:
    choice = choose([lot(0, 10, expired=True), lot(1, 10, expired=True, kept=True), lot(2, 10)], 3000, 30, LIMIT)
    assert [each.name for each in choice.lots] == ["000000"] and choice.rules == ("days",)


def test_a_limit_that_held_rows_exceed_is_said_with_them() -> None:
    lots = [lot(0, 900, kept=True), lot(1, 300)]
    choice = choose(lots, 120_000, 1200, LIMIT)
    assert [each.name for each in choice.lots] == ["000001"]
    assert unmet(lots[:1], choice.size, choice.rows, LIMIT) == ""
    words = unmet([lot(0, 1100, kept=True)], 110_000, 1100, LIMIT)
    assert words == "predictions: 1,100 rows, the limit is 1,000; 110,000 bytes (1,100 rows) are held"


WRITES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.booleans()), max_size=60)


@given(WRITES)
def test_any_sequence_of_writes_and_purges_stays_within_the_limit_and_drops_the_oldest_first(
    writes: list[tuple[int, int, bool]],
) -> None:
    """Hosts keep at most `waiting` rows beside the files; each fold makes at most so large a file, one of four held."""
    allowed = marks(LIMIT.rows, WAITING_ROWS)
    files: list[Lot] = []
    dropped: list[Lot] = []
    waiting = 0
    for number, (rows, hold, fold) in enumerate(writes):
        waiting = min(allowed.waiting, waiting + rows)
        total = waiting + sum(each.rows for each in files)
        free = total - sum(each.rows for each in files if each.kept)
        assert free <= 1.1 * LIMIT.rows
        if fold and waiting:
            files.append(lot(number, waiting, kept=hold == 0))
            waiting = 0
        total = waiting + sum(each.rows for each in files)
        choice = choose(files, total * 100, total, LIMIT)
        dropped += choice.lots
        files = [each for each in files if each not in choice.lots]
        if total > allowed.high:
            assert choice.rows <= allowed.low or all(each.kept for each in files) or waiting > allowed.low
    assert not any(each.kept for each in dropped)
    assert [each.name for each in dropped] == sorted(each.name for each in dropped)
    left = [each.name for each in files if not each.kept]
    assert not dropped or not left or dropped[-1].name < left[0]


@given(st.integers(1000, 2**62), st.sampled_from([WAITING_ROWS, 512 * 1024**2]))
def test_what_waits_beside_files_at_their_mark_never_exceeds_a_limit_by_a_tenth(limit: int, most: int) -> None:
    found = marks(limit, most)
    assert 0 < found.low < found.high <= limit and found.waiting > 0
    assert found.high + found.waiting <= 1.06 * limit
