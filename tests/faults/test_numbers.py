"""F41, F42: numbers at the edges of what 64 bits hold, as metrics, steps, times and in every field of every message:
kept exactly or refused in words, never best, and never an error of the daemon's own."""

from __future__ import annotations

import json
import math
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterstore.records import governance, registry, runs, search
from quarterstore.records.base import tag_of
from quarterstore.records.faults import Fault, Invalid
from quarterstore.records.ids import new_id
from quarterstore.records.messages import ASKABLE
from quarterstore.records.transfer import Export
from tests.small import onnx_file

pytestmark = pytest.mark.fault
NAN, INF = math.nan, math.inf
VALUES = (NAN, INF, -INF, -0.0, 0.0, 1e308, -1e308, 5e-324, 2.2e-308, 1.0)
"""Among them the smallest number there is, one below the normal ones, and both zeros."""
STEPS = (-(2**63), -(2**53) - 1, -1, 0, 2**53 + 1, 2**63 - 1)


def bits(values: Any) -> list[bytes]:
    """Numbers as the machine holds them: NaN equals NaN, and -0.0 is not 0.0."""
    return [struct.pack("<d", value) for value in values]


def strictly(text: str) -> Any:
    """JSON without the words that Python would let pass."""

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def points(run: str, steps: Any, values: Any, times: Any = None) -> runs.LogMetrics:
    """A batch of one metric, made by hand."""
    count = len(values)
    return runs.LogMetrics(
        run=run,
        batch=new_id("batch"),
        keys=("acc",),
        key=array("H", [0] * count).tobytes(),
        step=array("q", steps).tobytes(),
        time=array("d", times or [float(each) for each in range(count)]).tobytes(),
        value=array("d", values).tobytes(),
    )


def test_every_number_is_kept_to_the_bit_in_memory_and_in_parquet(absent: Any, report: Any) -> None:
    absent.start()
    with absent.client() as client:
        run = client.ask(runs.StartRun(experiment="numbers")).id
        client.ask(points(run, range(len(VALUES)), VALUES))
        other = client.ask(runs.StartRun(experiment="numbers")).id
        client.ask(points(other, STEPS, [1.0] * len(STEPS)))
        wrong = 0
        for stage in ("taken", "restarted", "folded"):
            if stage == "restarted":
                client.close()
                absent.stop()
                absent.start()
            if stage == "folded":
                client.ask(Export())
                assert list((absent.home.samples / "metrics").glob("day=*/*.parquet"))
            (curve,) = client.ask(runs.MetricHistory(run=run, points=0))
            wrong += bits(curve.values) != bits(VALUES)
            (curve,) = client.ask(runs.MetricHistory(run=other, points=0))
            wrong += tuple(curve.steps) != STEPS
            assert client.ask(runs.ShowRun(run=other)).metrics == {"acc": 1.0}
    shown = absent.qd("--json", "runs", "history", "--run", other, "--points", "0")
    assert strictly(shown.stdout)["steps"] == list(STEPS)
    report("F42", 3 * (len(VALUES) + len(STEPS)), wrong)
    assert wrong == 0


def test_the_last_values_of_an_open_run_outlive_folding_and_a_restart(absent: Any) -> None:
    """They once were forgotten with the log: a run that ended after it was said to have no metrics."""
    absent.start()
    with absent.client() as client:
        run = client.ask(runs.StartRun(experiment="open")).id
        over = client.ask(runs.StartRun(experiment="open")).id
        for each in (run, over):
            client.ask(points(each, [1, 2**63 - 1, 5], [1.0, 0.25, 3.0]))
        client.ask(runs.EndRun(run=over))
        client.ask(Export())
        assert not [path for path in (absent.home.samples / "metrics").glob("*.log") if path.stat().st_size]
    absent.stop(9)
    absent.start()
    with absent.client() as client:
        assert client.ask(runs.ShowRun(run=run)).metrics == {"acc": 0.25}
        client.ask(points(run, [7], [9.0]))  # an earlier step than the last one
        client.ask(Export())
    absent.stop(9)
    kept = absent.home.samples / "metrics" / "open.newest"
    assert over.encode() not in kept.read_bytes() and run.encode() in kept.read_bytes()
    absent.start()
    with absent.client() as client:
        assert client.ask(runs.EndRun(run=run)).metrics == {"acc": 0.25}
        assert client.ask(runs.ShowRun(run=over)).metrics == {"acc": 0.25}
    absent.stop()
    kept.write_bytes(b"x" + kept.read_bytes()[1:])
    absent.start()
    assert "open.newest" in absent.log()


def test_nan_is_never_best_and_sorted_last_either_way_and_json_is_strict(daemon: Any, report: Any) -> None:
    with daemon.client() as client:
        names = {}
        for number, value in enumerate(VALUES):
            run = client.ask(runs.StartRun(experiment="best", name=f"v{number}")).id
            client.ask(points(run, [1], [value]))
            names[run] = value
        client.ask(runs.StartRun(experiment="best", name="none"))

        def found(sort: str, where: str = "") -> list[float | None]:
            query = search.SearchRuns(experiments=("best",), where=where, order=(sort,))
            return [names.get(each.id) for each in client.ask(query).runs]

        numbers = sorted(value for value in VALUES if value == value)
        for sort, expected in (("acc", numbers), ("-acc", numbers[::-1])):
            got = found(sort)
            assert got[: len(numbers)] == expected
            assert math.isnan(got[-2] or 0.0) and got[-1] is None
            listed = client.ask(runs.ListRuns(experiment="best", sort=sort.replace("acc", "metrics.acc"))).runs
            assert [names.get(each.id) for each in listed][: len(numbers)] == expected
        for where in ("acc > -inf", "acc <= inf", "acc != 1"):
            assert not any(value is None or math.isnan(value) for value in found("acc", where)), where
        assert len(found("acc", "acc = nan")) == 1
    for words in (("runs", "--experiment", "best"), ("runs", "list", "--experiment", "best")):
        done = daemon.qd("--json", *words)
        assert done.returncode == 0 and '"NaN"' in done.stdout.replace('"nan"', '"NaN"')
        for line in done.stdout.splitlines():
            strictly(line)
    asked = daemon.qd("ask", "-", stdin='{"type":"runs.list","experiment":"best"}\n')
    strictly(asked.stdout)
    report("F41", len(VALUES), 0)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_version_with_a_metric_that_is_no_number_is_refused_so_no_gate_can_pass_it(daemon: Any, value: float) -> None:
    with daemon.client() as client:
        digest, size = client.put(onnx_file())
        shape = registry.Signature(
            inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
            outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
        )
        metrics = (registry.Metric(name="acc", value=value),)
        asked = registry.RegisterVersion(
            model="gated", digest=digest, size=size, format="onnx", signature=shape, metrics=metrics
        )
        with pytest.raises(Invalid, match=r"metrics\.acc: got .*, expected a finite number"):
            client.ask(asked)


def test_a_step_or_a_parameter_beyond_64_bits_is_refused_and_says_the_range(daemon: Any) -> None:
    with daemon.client() as client:
        for value in (2**63, 2**64 - 1, -(2**63) - 1):
            if value < -(2**63):
                continue  # msgpack has no such number: it cannot be sent
            with pytest.raises(Invalid, match="64-bit"):
                client.ask(runs.StartRun(experiment="beyond", params={"n": value}))
        for value in (2**63 - 1, -(2**63), 2**53 + 1):
            run = client.ask(runs.StartRun(experiment="edge", params={"n": value}))
            assert client.ask(runs.ShowRun(run=run.id)).params == {"n": value}
    done = daemon.qd("--json", "runs", "--experiment", "edge", "--where", f"n = {2**53 + 1}", "--sort", "n")
    assert any(strictly(line)["params"]["n"] == 2**53 + 1 for line in done.stdout.splitlines())


@pytest.mark.parametrize("at", [NAN, INF, -INF, 1e308, -1e308, 2.0**63])
def test_a_time_that_no_calendar_has_is_refused(daemon: Any, at: float) -> None:
    with daemon.client() as client:
        with pytest.raises(Invalid, match="started: got"):
            client.ask(runs.StartRun(experiment="times", started=at))
        run = client.ask(runs.StartRun(experiment="times")).id
        with pytest.raises(Invalid, match="ended: got"):
            client.ask(runs.EndRun(run=run, ended=at))
        with pytest.raises(Invalid, match="time: got"):
            client.ask(points(run, [1], [1.0], [at]))
    assert daemon.qd("runs", "--experiment", "times").returncode == 0


INTEGERS = (0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
FLOATS = (0.0, -0.0, -1.0, NAN, INF, -INF, 1e308, 5e-324, 2.0**63)
LEFT_OUT = ("store.backup", "store.put_blob", "transfer.export", "deployments.stop_serving")


def filled(kind: msgspec.inspect.Type, number: Any) -> Any:
    """The plainest value of a type, with `number` wherever one of its kind may stand; `None` where nothing fits."""
    kinds = msgspec.inspect
    match kind:
        case kinds.StrType():
            return "x"
        case kinds.BoolType():
            return False
        case kinds.IntType():
            return number if isinstance(number, int) else 1
        case kinds.FloatType():
            return number if isinstance(number, float) else 0.5
        case kinds.BytesType():
            return b""
        case kinds.LiteralType(values=values):
            return values[0]
        case kinds.StructType(cls=cls):
            return message(cls, number)
        case kinds.DictType(value_type=value):
            return {"x": filled(value, number)}
        case kinds.ListType(item_type=item) | kinds.VarTupleType(item_type=item):
            return [filled(item, number)]
        case kinds.TupleType(item_types=items):
            return [filled(item, number) for item in items]
        case kinds.UnionType(types=types):
            wanted = kinds.IntType if isinstance(number, int) else kinds.FloatType
            return filled(sorted(types, key=lambda each: not isinstance(each, wanted))[0], number)
    return {}


def message(cls: type, number: Any) -> dict[str, Any]:
    """The fields of a message: those it needs, and those that a number is in."""
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    fields: dict[str, Any] = {str(info.tag_field): info.tag} if info.tag_field else {}
    for field in info.fields:
        value = filled(field.type, number)
        if field.required or holds(value, number):
            fields[field.encode_name] = value
    return fields


def holds(value: Any, number: Any) -> bool:
    """Whether a number is anywhere in a value."""
    if isinstance(value, dict | list):
        return any(holds(each, number) for each in (value.values() if isinstance(value, dict) else value))
    return type(value) is type(number) and (value == number or (value != value and number != number))


def messages() -> Iterator[tuple[type, Any, Any]]:
    """Every message that holds a number, with each of the numbers."""
    for kind in ASKABLE:
        if tag_of(kind) in LEFT_OUT or kind.role == "daemon":
            continue
        for number in (*INTEGERS, *FLOATS):
            fields = message(kind, number)
            if holds({name: value for name, value in fields.items() if name != "type"}, number):
                yield kind, number, fields


def test_no_number_in_any_field_of_any_message_is_an_error_of_the_daemons_own(daemon: Any, report: Any) -> None:
    """The messages are those of the table itself. What needs a name that is there gets it refused for that: the
    numbers beside it are read all the same by what decodes, and by the rules that look at them first."""
    wrong: list[str] = []
    count = refused = 0
    with daemon.client(timeout=20) as client:
        run = client.ask(runs.StartRun(experiment="x", run="x"))
        for kind, number, fields in messages():
            count += 1
            try:
                asked = msgspec.convert(fields, kind)
            except msgspec.ValidationError:
                continue
            try:
                client.ask(asked)
            except Fault as fault:
                refused += 1
                if "own" in fault.line() and "daemon" in fault.line():
                    wrong.append(f"{tag_of(kind)} with {number!r}: {fault.line()[:200]}")
        assert client.ask(runs.ShowRun(run=run.id)).id == run.id
        assert client.ask(governance.VerifyAudit()).ok
    listed = [
        ("runs",),
        ("jobs", "list"),
        ("schedules", "list"),
        ("audit", "list"),
        ("--json", "runs"),
        ("search", "list"),
    ]
    for words in listed:
        done = daemon.qd(*words)
        if done.returncode not in (0, 2) or "Traceback" in done.stderr:
            wrong.append(f"qd {' '.join(words)}: {done.stderr[-300:]}")
    report("F42-fields", count, len(wrong), refused=refused)
    assert wrong == [], "\n".join(wrong[:40])
    assert daemon.process.poll() is None


def test_a_store_with_such_numbers_starts_again_with_the_same_runs(absent: Any, tmp_path: Path) -> None:
    absent.start()
    with absent.client() as client:
        run = client.ask(runs.StartRun(experiment="again", params={"n": 2**63 - 1, "f": NAN, "g": -0.0})).id
        client.ask(points(run, STEPS, [NAN, INF, -INF, -0.0, 5e-324, NAN]))
        client.ask(runs.EndRun(run=run))
        before = client.ask(runs.ShowRun(run=run))
    absent.stop(9)
    absent.start()
    with absent.client() as client:
        assert repr(client.ask(runs.ShowRun(run=run))) == repr(before)
