"""F40, V18: names made to harm a terminal, a log or a lookup go into every text of every message; each is refused by
rule or comes back as it was, and nothing that is printed can steer a terminal."""

from __future__ import annotations

import random
import unicodedata
from array import array
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from quarterstore.records import experiments, governance, models, registry, runs, store
from quarterstore.records.base import tag_of
from quarterstore.records.faults import Conflict, Fault, Invalid
from quarterstore.records.messages import ASKABLE
from quarterstore.records.names import drawn
from tests.small import onnx_file

pytestmark = pytest.mark.fault
SEED = 40
HOSTILE = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]52;c;aGk=\x07",
    "\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31mc1",
    "\x9d0;title\x9c",
    "\x90q\x9c",
    "bell\x07",
    "carriage\rreturn",
    "line\nbreak",
    "a\x00b",
    "back\x08\x08space",
    "delete\x7f",
    "\u202eright to left",
    "\u2066isolate\u2069",
    "zero\u200bwidth",
    "joiner\u200d",
    "\ufeffmark",
    "next\x85line",
    "line\u2028separator",
    "[/b] plan",
    "[IMPORTANT]",
    "model[/",
    "[link=http://x]c",
    "[@click=app.quit]x[/]",
    "$(touch canary)",
    "`touch canary`",
    "'; DROP TABLE runs; --",
    "read_csv('/etc/passwd')",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "%s%n",
    "../../etc/passwd",
    "-rf",
    "--help",
    "CON",
    ".",
    "",
    " ",
    "\u00e9clair",
    "e\u0301clair",
    "\u212b",
    "\ud83d\ude80".encode("utf-16", "surrogatepass").decode("utf-16") + " rocket",
    "\u0645\u0631\u062d\u0628\u0627",
    "\u6f22\u5b57",
    "a" + "\u0301" * 50,
    "x" * 10_240,
)


def safe(text: str) -> bool:
    """Whether a text can be drawn as it is; a line break is no danger where it is data."""
    return drawn(text.replace("\n", " ")) == text.replace("\n", " ")


DATA = ("params", "tags", "source")
"""Fields whose values are a person's data: kept byte for byte, cleaned where they are drawn. Their keys are names."""


def strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text in an answer that is no data, with the path of its field."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield f"{where} key", str(key)
            if key in DATA and isinstance(inner, dict):
                yield from ((f"{where}.{key} key", str(name)) for name in inner)
            else:
                yield from strings(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from strings(inner, where)


class Slots:
    """Texts for the places of a message, in order: known names where the field is called so, the nth one hostile."""

    def __init__(self, nth: int, hostile: str, known: dict[str, str]) -> None:
        self.nth, self.hostile, self.known = nth, hostile, known
        self.taken = 0

    def text(self, field: str) -> str:
        """The next text."""
        self.taken += 1
        return self.hostile if self.taken - 1 == self.nth else self.known.get(field, "x")


def dummy(kind: msgspec.inspect.Type, slots: Slots, field: str = "") -> Any:
    """The plainest value of a type."""
    kinds = msgspec.inspect
    match kind:
        case kinds.StrType():
            return slots.text(field)
        case kinds.BoolType():
            return False
        case kinds.IntType():
            return 1
        case kinds.FloatType():
            return 0.5
        case kinds.BytesType():
            return b""
        case kinds.LiteralType(values=values):
            return values[0]
        case kinds.StructType(cls=cls) | kinds.DataclassType(cls=cls):
            return built(cls, slots)
        case kinds.DictType(key_type=key, value_type=value):
            return {dummy(key, slots): dummy(value, slots)}
        case kinds.ListType(item_type=item) | kinds.VarTupleType(item_type=item):
            return [dummy(item, slots, field)]
        case kinds.TupleType(item_types=items):
            return [dummy(item, slots) for item in items]
        case kinds.UnionType(types=types):
            return dummy(sorted(types, key=lambda each: not isinstance(each, kinds.StrType))[0], slots, field)
    return {}


def built(cls: type, slots: Slots) -> dict[str, Any]:
    """The fields of a message: those it needs, and the one that the hostile text is in."""
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    fields: dict[str, Any] = {str(info.tag_field): info.tag} if info.tag_field else {}
    for field in info.fields:
        first = slots.taken
        value = dummy(field.type, slots, field.name)
        if field.required or first <= slots.nth < slots.taken:
            fields[field.encode_name] = value
    return fields


def speak(client: Any, kind: type, fields: dict[str, Any]) -> Any:
    """The answer to a message made of plain fields, as plain data, or its fault."""
    try:
        message = msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        return None
    try:
        return msgspec.to_builtins(client.ask(message))
    except Fault as fault:
        return fault


# what asks for a person's patience or ends what the others need
LEFT_OUT = ("store.backup", "store.put_blob")


@pytest.mark.parametrize("each", [1, pytest.param(len(HOSTILE), marks=pytest.mark.slow)])
def test_every_text_of_every_message_is_refused_or_harmless(daemon: Any, report: Any, each: int) -> None:
    """The messages are those of the table itself: a new one is tried without anybody thinking of it."""
    chance = random.Random(SEED)
    wrong: list[str] = []
    count = refused = 0
    with daemon.client() as client:
        known = names_of(client)
        for kind in ASKABLE:
            tag = tag_of(kind)
            probe = Slots(-1, "", known)
            built(kind, probe)
            if tag in LEFT_OUT:
                continue
            for slot in range(probe.taken):
                for name in chance.sample(HOSTILE, each):
                    answer = speak(client, kind, built(kind, Slots(slot, name, known)))
                    count += 1
                    where = f"{tag} text {slot} {name[:40]!r}"
                    if isinstance(answer, Fault):
                        refused += 1
                        if not safe(answer.line()) or "\n" in answer.line() or len(answer.line()) > 2000:
                            wrong.append(f"{where}: the fault says {answer.line()[:200]!r}")
                        if "error of" in answer.line():
                            wrong.append(f"{where}: {answer.line()[:300]}")
                    else:
                        bad = [found for found in strings(answer) if not safe(found[1])]
                        wrong += [f"{where}: the answer holds {text[:100]!r} in {path}" for path, text in bad]
        wrong += kept_unsafe(client)
        assert client.ask(governance.VerifyAudit()).ok
    report("F40", count, len(wrong), SEED, refused=refused)
    assert wrong == [], "\n".join(wrong[:40])
    assert daemon.process.poll() is None


def names_of(client: Any) -> dict[str, str]:
    """Names that are there, by the field that asks for one."""
    digest, size = client.put(onnx_file())
    run = client.ask(runs.StartRun(experiment="known"))
    version = client.ask(version_of("known", digest, size))
    return {"run": run.id, "digest": digest, "version": version.id, "model": "known", "experiment": "known"}


def kept_unsafe(client: Any) -> list[str]:
    """Texts in any list of the store that could steer a terminal."""
    found: list[str] = []
    for kind in ASKABLE:
        fields = msgspec.inspect.type_info(kind).fields  # type: ignore[union-attr]
        if ".list" in tag_of(kind) and not any(field.required for field in fields):
            answer = speak(client, kind, {"type": tag_of(kind)})
            bad = [each for each in strings(answer) if not safe(each[1])]
            found += [f"{tag_of(kind)} lists {text[:100]!r} in {path}" for path, text in bad]
    return found


def test_a_free_name_comes_back_as_it_was_or_is_refused_by_rule(daemon: Any, report: Any) -> None:
    """Byte for byte, in the composed form (NFC): what cannot be drawn is refused, all else is kept, long ones too."""
    kept = refused = 0
    wrong: list[str] = []
    with daemon.client() as client:
        for name in HOSTILE:
            try:
                run = client.ask(runs.StartRun(experiment="names", name=name or "blank", tags={"note": "x"}))
            except Invalid as fault:
                refused += 1
                if safe(name) and len(name) <= 200 and name.strip() and "\n" not in name:
                    wrong.append(f"{name[:40]!r} was refused: {fault.line()}")
                continue
            kept += 1
            found = client.ask(runs.ShowRun(run=run.id)).name
            if found != unicodedata.normalize("NFC", name or "blank") or not safe(found):
                wrong.append(f"{name[:40]!r} came back as {found[:40]!r}")
    report("F40-names", len(HOSTILE), len(wrong), None, kept=kept, refused=refused)
    assert wrong == []
    assert kept > 10 and refused > 10


def test_two_spellings_of_one_name_are_one_name(daemon: Any, report: Any) -> None:
    """Composed and decomposed letters look the same, so they are the same: no twin can stand beside a name."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert composed != decomposed
    with daemon.client() as client:
        for name in (composed, decomposed):
            client.ask(runs.StartRun(experiment=name))
        assert client.ask(runs.ListRuns(experiment=composed)).total == 2
        assert client.ask(runs.ListRuns(experiment=decomposed)).total == 2
        names = [each.name for each in client.ask(experiments.ListExperiments())]
        assert names.count(composed) == 1 and decomposed not in names
        for twin in (decomposed, "model\u200b", "mod\u0435l"):
            with pytest.raises(Fault):
                client.ask(registry.ListVersions(model=twin))
        for twin in ("model\u200b", "mod\u0435l", "\u03bfption"):
            with pytest.raises(Invalid):
                client.ask(models.CreateModel(model=twin))
        assert client.ask(models.CreateModel(model=decomposed)).name == composed
        with pytest.raises(Conflict):
            client.ask(models.CreateModel(model=composed))
        assert client.ask(models.ShowModel(model=decomposed)).name == composed
        assert client.ask(models.CreateModel(model="lasso-\u03b1")).name == "lasso-\u03b1"
        run = client.ask(runs.StartRun(experiment="twins", params={decomposed: 1}, tags={decomposed: "1"})).id
        client.ask(runs.SetTags(run=run, tags={composed: "2"}))
        for batch, key in enumerate((composed, decomposed)):
            client.ask(point(run, f"b{batch}", (key,)))
        found = client.ask(runs.ShowRun(run=run))
        assert (found.params, found.tags) == ({composed: 1}, {composed: "2"})
        assert [curve.key for curve in client.ask(runs.MetricHistory(run=run))] == [composed]
        both = (composed, decomposed)
        for act in (
            runs.SetTags(run=run, tags=dict.fromkeys(both, "3")),
            runs.LogParams(run=run, params=dict.fromkeys(both, 3)),
            point(run, "b9", both),
        ):
            with pytest.raises(Invalid, match="two spellings"):
                client.ask(act)
        with client.run("twins", tags={decomposed: "1"}) as live:
            live.log(composed, 1.0)
            live.log(decomposed, 2.0)
        (curve,) = client.ask(runs.MetricHistory(run=live.id))
        assert (curve.key, curve.steps, curve.values) == (composed, [0, 1], [1.0, 2.0])
    report("F40-twins", 14, 0)


def point(run: str, batch: str, keys: tuple[str, ...]) -> runs.LogMetrics:
    """A value for each of some names."""
    indices = array("H", range(len(keys))).tobytes()
    steps, values = array("q", [0] * len(keys)).tobytes(), array("d", [1.0] * len(keys)).tobytes()
    return runs.LogMetrics(run=run, batch=batch, keys=keys, key=indices, step=steps, time=values, value=values)


def version_of(model: str, digest: str, size: int) -> registry.RegisterVersion:
    """A version under some name."""
    x = registry.Tensor(name="x", datatype="FP32", shape=(-1, 2))
    shape = registry.Signature(inputs=(x,), outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),))
    return registry.RegisterVersion(model=model, digest=digest, size=size, format="onnx", signature=shape)


def steers(text: str) -> list[str]:
    """Characters in printed text that could steer a terminal; a line break is how lines are printed."""
    return sorted({repr(char) for char in text if char != "\n" and not safe(char)})


COMMANDS = (
    ("runs",),
    ("--json", "runs"),
    ("audit", "list"),
    ("--json", "governance", "list-audit"),
    ("jobs", "list"),
    ("status",),
    ("doctor",),
)


def test_the_command_line_prints_nothing_that_steers_a_terminal(daemon: Any, report: Any) -> None:
    """What was let in is printed by every list; what is refused is named in the fault, harmlessly."""
    wrong: list[str] = []
    with daemon.client() as client:
        for name in HOSTILE:
            try:
                client.ask(runs.StartRun(experiment="cli", name=name, params={"note": name}, tags={"t": name}))
            except Fault:
                continue
    asked = [*COMMANDS]
    asked += [("run", "show", name) for name in HOSTILE[2:5]]
    asked += [("registry", "list-versions", "--model", name) for name in (HOSTILE[0], HOSTILE[4], HOSTILE[13])]
    lines = [msgspec.json.encode({"type": "runs.show", "run": name}).decode() for name in HOSTILE]
    outputs = [(words, daemon.qd(*words)) for words in asked]
    outputs.append((("ask", "-"), daemon.qd("ask", "-", stdin="\n".join(lines) + "\n")))
    for words, done in outputs:
        wrong += [f"{words}: stdout holds {char}" for char in steers(done.stdout)]
        wrong += [f"{words}: stderr holds {char}" for char in steers(done.stderr)]
        wrong += [f"{words}: {done.stderr[-200:]}"] * ("Traceback" in done.stderr)
    report("V18", len(outputs), len(wrong))
    assert wrong == [], "\n".join(wrong[:30])
    assert any(done.returncode == 0 and done.stdout for _, done in outputs)


def test_one_record_of_the_log_is_one_line(daemon: Any, report: Any) -> None:
    """A name cannot forge a line of the daemon's log, nor steer the terminal that shows it."""
    with daemon.client() as client:
        for name in HOSTILE:
            for message in (runs.ShowRun(run=name), runs.StartRun(experiment=name), store.GetBlob(digest=name)):
                try:
                    client.ask(message)
                except Fault:
                    continue
    text = (daemon.folder / "log").read_text()
    bad = steers(text)
    forged = [line for line in text.splitlines() if line and not line[:4].isdigit()]
    report("V18-log", len(HOSTILE) * 3, len(bad) + len(forged))
    assert bad == []
    assert forged == []
