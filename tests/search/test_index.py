"""The index says what the test of one run says, whatever changes meanwhile, and never reads a name as SQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeckd.api import searching
from quarterdeckd.api.searching import Searching
from quarterstore.ledger.experiments import new_experiment
from quarterstore.ledger.state import State
from quarterstore.records.faults import Invalid
from quarterstore.records.runs import DatasetInput, Run
from quarterstore.records.search import ListColumns, RunColumns, SearchRuns
from quarterstore.search.index import RunIndex, Wanted
from quarterstore.search.matching import Row, test_of
from quarterstore.search.paging import key_of, page
from quarterstore.search.parsing import ordered, parsed

NAN = math.nan
HOSTILE = ["'; DROP TABLE runs; --", '"', "a b", "$1", "%", "_", "é", "\\", "''"]
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e300, math.inf, -math.inf, NAN])
TEXTS = st.sampled_from(["a", "b", "ab", "A", "", "1", "0.5", "nan", "-inf", *HOSTILE])
NAMES = st.sampled_from(["m", "n", "x", *HOSTILE[:4]])
DATASETS = st.lists(
    st.builds(
        lambda name, digest, context: DatasetInput(
            name=name, digest=digest, tags={"mlflow.data.context": context} if context else {}
        ),
        st.sampled_from("ab"),
        st.sampled_from("12"),
        st.sampled_from(["", "train"]),
    ),
    max_size=2,
)


def run(number: int, **fields: Any) -> Run:
    return Run(
        **{
            "id": f"r{number}",
            "experiment": "e",
            "name": f"r{number}",
            "state": "FINISHED",
            "started": 1.0,
            "actor": "a",
            **fields,
        }
    )


ROWS = st.lists(
    st.builds(
        lambda params, tags, metrics, inputs, state, ended, notes, started: (
            {
                "params": params,
                "tags": tags,
                "inputs": tuple(inputs),
                "state": state,
                "ended": ended,
                "notes": notes,
                "started": started,
            },
            metrics,
        ),
        st.dictionaries(NAMES, st.one_of(TEXTS, NUMBERS, st.booleans(), st.integers(-2, 2), st.none()), max_size=3),
        st.dictionaries(NAMES, TEXTS, max_size=3),
        st.dictionaries(NAMES, NUMBERS, max_size=3),
        DATASETS,
        st.sampled_from(["FINISHED", "RUNNING"]),
        st.sampled_from([None, 2.0, 3.0]),
        st.sampled_from(["", "a"]),
        st.sampled_from([1.0, 2.0]),
    ),
    max_size=8,
).map(lambda found: [Row(run(n, **fields), metrics) for n, (fields, metrics) in enumerate(found)])


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def spelled_name(name: str) -> str:
    return f"`{name}`"


COLUMNS = st.one_of(
    st.builds(
        lambda kind, name: f"{kind}{spelled_name(name)}", st.sampled_from(["", "metrics.", "params.", "tags."]), NAMES
    ),
    st.sampled_from(["params.missing", "name", "state", "notes", "parent", "started", "ended", "duration"]),
)
VALUES = st.one_of(
    NUMBERS.map(lambda value: "nan" if math.isnan(value) else repr(value)).filter(lambda text: "-inf" not in text),
    TEXTS.map(quoted),
)
LEAVES = st.one_of(
    st.builds("{} {} {}".format, COLUMNS, st.sampled_from(["<", "<=", ">", ">=", "=", "!="]), VALUES),
    st.builds("{} {} {}".format, COLUMNS, st.sampled_from(["like", "ilike", "not like"]), TEXTS.map(quoted)),
    st.builds(
        lambda column, word, values: f"{column} {word} ({', '.join(values)})",
        COLUMNS,
        st.sampled_from(["in", "not in"]),
        st.lists(VALUES, min_size=1, max_size=3),
    ),
    st.builds("{} {}".format, COLUMNS, st.sampled_from(["is null", "is not null"])),
    st.builds(
        "datasets.{} {}".format,
        st.sampled_from(["name", "digest", "context"]),
        st.sampled_from(["= 'a'", "!= 'a'", "in ('a', '1', 'train')", "is null", "is not null", "like 't%'", "> 'a'"]),
    ),
)
TEXTS_OF_TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
    ),
    max_leaves=5,
)
ORDERS = st.lists(st.builds("{}{}".format, st.sampled_from(["", "-"]), COLUMNS), max_size=2)


@pytest.fixture(scope="module")
def index() -> Iterator[RunIndex]:
    found = RunIndex()
    yield found
    found.close()


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, where=TEXTS_OF_TREES, orders=ORDERS, texts=st.booleans(), size=st.integers(1, 4))
def test_the_index_says_what_the_test_of_each_run_says(
    index: RunIndex, rows: list[Row], where: str, orders: list[str], texts: bool, size: int
) -> None:
    try:
        tree = parsed(where, "deck")
    except Invalid:
        return  # a date or a number was due: the language's own tests say which
    assert tree is not None
    sorting = [ordered(text, "deck") for text in orders]
    sorting = [each._replace(texts=texts and each.column.kind in ("param", "tag")) for each in sorting]
    index.forget([f"r{number}" for number in range(8)])
    index.add(index.prepare(rows), set())
    test = test_of(tree)
    expected = [row for row in rows if test(row)]
    every = Wanted(tree, sorting, (), False, 100, None)
    assert index.count(every) == len(expected)
    whole = page(expected, sorting, 100, None).rows
    assert index.page(every) == [row.run.id for row in whole]
    key = key_of(sorting)
    for place in range(0, len(whole), size):
        found = index.page(every._replace(limit=size, after=key(whole[place])))
        assert found == [row.run.id for row in whole[place + 1 : place + 2 + size]]
        found = index.page(every._replace(limit=size, after=key(whole[place]), backward=True))
        assert found == [row.run.id for row in reversed(whole[max(0, place - size - 1) : place])]


def deck_of(count: int) -> tuple[State, dict[str, dict[str, float]]]:
    state, latest = State(), {}
    for number in range(count):
        made = run(number, started=float(number), params={"depth": number % 7}, experiment=f"e{number % 2}")
        state.runs.rows[made.id] = made
        latest[made.id] = {"loss": float(number % 100)}
    return state, latest


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index from twenty runs on, of all that do not change this instant."""
    monkeypatch.setattr(searching, "SMALL", 20)
    monkeypatch.setattr(searching, "RESTS_AFTER", 0.0)


def ids(found: Any) -> list[str]:
    return [each.id for each in found.runs]


@pytest.mark.usefixtures("small")
def test_what_changes_after_the_index_is_made_is_found_as_it_is() -> None:
    state, latest = deck_of(300)
    deck = Searching(state, lambda id_: latest.get(id_, {}))
    where = SearchRuns(where="loss < 1 and depth is not null", order=("-loss", "-started"))
    before = deck.search(where)
    assert deck.made(30)
    assert len(deck._index or ()) == 300
    assert ids(deck.search(where)) == ids(before) == ["r200", "r100", "r0"]
    latest["r5"]["loss"] = 0.5  # a point came
    deck.touch("r5")
    state.apply({("runs", "r100"): replace(state.runs["r100"], removed=9.0), ("runs", "r0"): None})
    deck.follow({("runs", "r100"): None, ("runs", "r0"): None})
    new = run(999, started=999.0, params={"depth": 1})
    state.apply({("runs", new.id): new})
    latest[new.id] = {"loss": 0.25}
    deck.follow({("runs", new.id): new})
    for _ in range(2):  # beside the index, then in it
        assert ids(deck.search(where)) == ["r5", "r999", "r200"]
        assert deck.search(where).total == 3
        assert deck.search(SearchRuns(view="removed")).total == 1
        deck.made(30)
    deck.close()


@pytest.mark.usefixtures("small")
def test_pages_stay_whole_while_runs_are_added_and_the_index_is_made() -> None:
    state, latest = deck_of(150)
    deck = Searching(state, lambda id_: latest.get(id_, {}))
    found: list[str] = []
    after = None
    for number in range(1000):
        answer = deck.search(SearchRuns(where="loss >= 0", order=("loss",), limit=7, after=after))
        found += ids(answer)
        after = answer.next
        if after is None:
            break
        new = run(1000 + number, started=5000.0 + number)  # earlier in the order than what was read
        latest[new.id] = {"loss": -0.0}
        state.apply({("runs", new.id): new})
        deck.follow({("runs", new.id): new})
        if number % 5 == 0:
            deck.made(30)
    old = [id_ for id_ in found if int(id_[1:]) < 1000]
    assert len(old) == len(set(old)) == 150
    assert len(found) == len(set(found))
    deck.close()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("where", ["", "loss < 50"])
def test_pages_from_the_end_are_the_same_before_and_after_the_index_is_made(where: str) -> None:
    state, latest = deck_of(150)
    deck = Searching(state, lambda id_: latest.get(id_, {}), pause=0.5)
    whole = ids(deck.search(SearchRuns(where=where, limit=150)))
    for made in (False, True):
        if made:
            assert deck.made(30)
        found: list[str] = []
        after = None
        while True:
            answer = deck.search(SearchRuns(where=where, limit=40, after=after, backward=True))
            found = [*ids(answer), *found]
            assert answer.total == len(whole)
            after = answer.previous
            if after is None:
                break
        assert found == whole
    deck.close()


@pytest.mark.usefixtures("small")
def test_what_was_left_behind_is_swept() -> None:
    """A run that changes again and again leaves a row behind each time it rested: memory must not grow by it."""
    state, latest = deck_of(60)
    deck = Searching(state, lambda id_: latest.get(id_, {}))
    for _ in range(6):
        for id_ in state.runs.rows:
            deck.touch(id_)
        assert deck.search(SearchRuns(where="depth = 1")).total == 9
        deck.made(30)
    assert deck._index is not None
    assert deck._index.dead <= len(deck._index) + 2 * 20 + 60
    deck.close()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_name_is_a_name(hostile: str) -> None:
    state, latest = deck_of(40)
    state.runs.rows["r3"] = replace(state.runs["r3"], params={hostile: hostile}, tags={hostile: hostile})
    deck = Searching(state, lambda id_: latest.get(id_, {}))
    name = f"params.{quoted(hostile)}"
    for _ in range(2):
        assert ids(deck.search(SearchRuns(where=f"{name} = {quoted(hostile)}", order=(name,)))) == ["r3"]
        assert deck.search(SearchRuns(where=f"name = {quoted(hostile)}")).total == 0
        deck.made(30)
    assert deck.search(SearchRuns()).total == 40
    deck.close()


@pytest.mark.usefixtures("small")
def test_an_unknown_column_names_the_nearest_with_and_without_an_index() -> None:
    state, latest = deck_of(40)
    deck = Searching(state, lambda id_: latest.get(id_, {}))
    for _ in range(2):
        with pytest.raises(Invalid) as raised:
            deck.search(SearchRuns(where="depth > 1 and dept > 3"))
        assert raised.value.nearest[0] == "depth"
        assert raised.value.pointed()[1] == " " * 14 + "^"
        deck.search(SearchRuns())
        deck.made(30)
    deck.close()


def test_before_the_first_run_any_column_may_be_sorted_by_and_after_it_one_that_a_run_has() -> None:
    state = State()
    deck = Searching(state, lambda id_: {})
    asked = SearchRuns(order=("-acc",), where="acc > 0.9")
    assert deck.search(asked).total == 0
    state.runs.rows["r1"] = run(1, params={"accuracy": 0.5})
    state.experiments.rows["empty"] = new_experiment(state, "empty", 1.0, {})
    with pytest.raises(Invalid, match="order: got acc") as raised:
        deck.search(SearchRuns(order=("-acc",)))
    assert raised.value.nearest[0] == "accuracy"
    with pytest.raises(Invalid, match="order: got acc"):
        deck.search(SearchRuns(order=("-acc",), experiments=("empty",)))
    assert deck.search(SearchRuns(order=("-accuracy",), experiments=("empty",))).total == 0
    deck.close()


@pytest.mark.usefixtures("small")
def test_more_columns_than_one_statement_joins_are_tested_run_by_run() -> None:
    state, latest = deck_of(40)
    state.runs.rows["r3"] = replace(state.runs["r3"], params={f"p{n}": n for n in range(60)})
    deck = Searching(state, lambda id_: latest.get(id_, {}))
    where = " and ".join(f"p{n} = {n}" for n in range(60))
    for _ in range(2):
        assert ids(deck.search(SearchRuns(where=where))) == ["r3"]
        deck.made(30)
    deck.close()


def test_the_newest_of_many_are_the_same_before_and_after_the_index_is_made() -> None:
    """A screen opens with them, so they are picked before rows are made of all; pages and totals must not differ."""
    state = State()
    for number in range(1500):
        found = run(number, started=float(number * 7 % 1500 // 3), removed=1.0 if number % 50 == 0 else None)
        state.runs.rows[found.id] = found
    asked = Searching(state, lambda id_: {})
    expected = sorted((each for each in state.runs if each.removed is None), key=lambda each: (-each.started, each.id))
    for _ in range(2):
        got, after = [], None
        while True:
            answer = asked.search(SearchRuns(limit=400, after=after))
            assert answer.total == len(expected) == 1470
            got += [each.id for each in answer.runs]
            if (after := answer.next) is None:
                break
        assert got == [each.id for each in expected]
        assert asked.made(30)
    asked.close()


def test_the_columns_are_those_that_runs_in_sight_have_the_most_common_first_kept() -> None:
    """What only a removed run has is no column; of too many those stay that most runs have."""
    state = State()
    for number, fields in enumerate(
        (
            {"params": {"lr": 1, "rare": 2}, "tags": {"team": "a"}},
            {"params": {"lr": 1}},
            {"params": {"gone": 1}, "removed": 2.0},
        )
    ):
        state.runs.rows[f"r{number}"] = run(number, **fields)
    asked = Searching(state, lambda id_: {"loss": 1.0} if id_ == "r1" else {})
    assert asked.columns(ListColumns()) == RunColumns(("loss",), ("lr", "rare"), ("team",))
    assert asked.columns(ListColumns(limit=1)).params == ("lr",)
    with pytest.raises(Invalid, match="limit"):
        asked.columns(ListColumns(limit=0))
    asked.close()


@settings(max_examples=200)
@given(
    started=st.lists(st.integers(0, 6), max_size=30),
    limit=st.integers(1, 6),
    place=st.integers(-1, 29),
    backward=st.booleans(),
)
def test_the_newest_of_a_page_are_those_of_a_whole_sort_however_many_are_of_one_instant(
    started: list[int], limit: int, place: int, backward: bool
) -> None:
    runs = [run(number, started=float(at)) for number, at in enumerate(started)]
    whole = sorted((-each.started, each.id) for each in runs)
    after = whole[place] if 0 <= place < len(whole) else None
    beyond = [key for key in whole if after is None or (key < after if backward else after < key)]
    wanted = Wanted(None, (), (), None, limit, after, backward)
    found = sorted((-each.started, each.id) for each in searching.nearest(runs, wanted))
    assert found == (beyond[-limit - 1 :] if backward else beyond[: limit + 1])
