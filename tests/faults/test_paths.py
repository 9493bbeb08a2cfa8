"""V20, V21: no text of a message opens a file outside the store, and none becomes a program or an option; every field
that could name a place is known, and how it is checked."""

from __future__ import annotations

import ctypes
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterstore.records import governance, jobs, pipelines
from quarterstore.records.base import tag_of
from quarterstore.records.faults import Fault
from quarterstore.records.messages import ASKABLE
from tests.faults.test_hostile_names import LEFT_OUT, Slots, built, names_of, speak
from tests.faults.test_jobs import until

pytestmark = pytest.mark.fault
SEED = 20
MARKER = "what-is-outside-the-store-41c7"
PLACE = re.compile(
    r"(?:^|[._])(?:path|file|folder|dir|inside|beside|place|location|source|program|interpreter|command|script|code|python"
    r"|pandera|upload|output|destination|root|store|socket|input|url|uri|ca|bundle|archive|plugin|module|train\.run)s?\Z"
)
"""Names of fields that could be a place on this machine."""
WORDS = "kept and shown as words, never opened"
OF_THE_PERSON = "read by the person's own command; the daemon looks for a dataset by its hash"
RUN = "started in the job as the person's own code, whose right it is to run a pipeline"
SECRET = "secret_in: a file of this user that no other may read; what is in it is never answered"
CHECKED = {
    "beside{}": "a SHA-256",
    "code": "a SHA-256 of the code, or the name of a model's type",
    "definition.data.file": OF_THE_PERSON,
    "definition.train.code": OF_THE_PERSON,
    "definition.train.command": RUN,
    "definition.train.interpreter": RUN,
    "definition.steps.command": RUN,
    "definition.steps.interpreter": RUN,
    "sources{}": "a SHA-256; its path is checked by definitions.checked_sources and laid out inside the job's folder",
    "step.outputs{}": "a SHA-256",
    "definition.validate.pandera": "a file among the sources, inside the job's folder of the user's own files",
    "place": "the entry of the journal that a firing is owed to, by its number",
    "definition.train.python": "a function of the uploaded file: the name of the file is not used",
    "definition.train.run": "called(): a relative name inside the code",
    "secret_file": SECRET,
    "token_file": SECRET,
    "program": "checked_program: a regular file of this user that no other may write",
    "upload": "checked_word: a name inside the folder of uploads",
    "path": "checked_path: a name inside a run",
    "ca_file": "certificates_in: certificates, or nothing of it is kept",
    "ca": WORDS,
    "url": "an address, never a file",
    "bundle": WORDS,
    "source": WORDS,
    "source.command": WORDS,
    "source.folder": WORDS,
    "source.inside": WORDS,
    "source.interpreter": WORDS,
    "source.python": WORDS,
    "inputs.source": WORDS,
    "input": "an address of a stream, or the name of a tensor",
    "output": "an address of a stream, or what a job of ours answered",
}
"""Field, or the end of its path -> what holds of it. A new field of such a name fails the test until it stands here."""


def texts(kind: msgspec.inspect.Type, at: str = "", seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """The path of every text in a message's schema."""
    kinds = msgspec.inspect
    match kind:
        case kinds.StructType(cls=cls, fields=fields):
            if cls not in seen:
                for field in fields:
                    yield from texts(field.type, f"{at}.{field.encode_name}", seen | {cls})
        case kinds.ListType(item_type=item) | kinds.VarTupleType(item_type=item):
            yield from texts(item, at, seen)
        case kinds.TupleType(item_types=items):
            for item in items:
                yield from texts(item, at, seen)
        case kinds.DictType(value_type=value):
            yield from texts(value, at + "{}", seen)
        case kinds.UnionType(types=types):
            for each in types:
                yield from texts(each, at, seen)
        case kinds.StrType():
            yield at.removeprefix(".")


def test_every_field_that_could_name_a_place_is_known_with_how_it_is_checked() -> None:
    """From the schema that is published itself: whoever adds a message with a path meets this list."""
    found = {
        (tag_of(kind), path)
        for kind in ASKABLE
        for path in texts(msgspec.inspect.type_info(kind))
        if PLACE.search(path.replace("{}", ""))
    }
    known = {
        each: max((name for name in CHECKED if f".{each[1]}".endswith(f".{name}")), key=len, default=None)
        for each in found
    }
    assert sorted(f"{tag} {path}" for (tag, path), name in known.items() if name is None) == []
    assert sorted(set(CHECKED) - set(known.values()) - {None}) == [], "no field of this name is left"
    assert len(found) > 20


class Opened:
    """What is opened, made or moved in a folder, as inotify(7) tells."""

    OPEN, CREATE, MOVED, DELETE, MODIFY, ATTRIBUTES = 0x20, 0x100, 0xC0, 0x200, 0x2, 0x4

    def __init__(self, folder: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK)
        mask = self.OPEN | self.CREATE | self.MOVED | self.DELETE | self.MODIFY | self.ATTRIBUTES
        for path in (folder, *folder.iterdir()):
            assert library.inotify_add_watch(self._descriptor, os.fsencode(path), mask) >= 0, ctypes.get_errno()

    def events(self) -> int:
        """Bytes of events since the last look."""
        try:
            return len(os.read(self._descriptor, 65_536))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Look no more."""
        os.close(self._descriptor)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[tuple[list[str], Opened]]:
    """Ways to name a file outside the store, and who looks at it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    secret = folder / "secret"
    secret.write_text(MARKER)
    canary = folder / "canary"
    up = "../" * 12 + str(secret).lstrip("/")
    names = [str(secret), up, f"file://{secret}", f"a/../../{up}", f"{secret}\0.png", f"@{secret}", f"~{secret}"]
    names += [
        f"$(touch {canary})",
        f"`touch {canary}`",
        f"a\ntouch {canary}",
        f"--output={canary}",
        f"; touch {canary}",
    ]
    watched = Opened(folder)
    assert secret.read_text() == MARKER and watched.events(), "what is opened is not told here"
    yield names, watched
    watched.close()


@pytest.mark.parametrize("share", [0.03, pytest.param(1.0, marks=pytest.mark.slow)])
def test_no_text_of_any_message_reaches_a_file_outside_the_store(
    daemon: Any, outside: tuple[list[str], Opened], report: Any, share: float
) -> None:
    """Every text of every message with every name (in the suite a part of them), and the jobs that come of it."""
    names, watched = outside
    chance = random.Random(SEED)
    wrong: list[str] = []
    count = 0
    with daemon.client() as client:
        known = names_of(client)
        for kind in ASKABLE:
            probe = Slots(-1, "", known)
            built(kind, probe)
            if tag_of(kind) in LEFT_OUT:
                continue
            for slot in range(probe.taken):
                for name in (each for each in names if chance.random() < share):
                    answer = speak(client, kind, built(kind, Slots(slot, name, known)))
                    count += 1
                    said = answer.line() if isinstance(answer, Fault) else str(answer)
                    if MARKER in said:
                        wrong.append(f"{tag_of(kind)} text {slot} {name!r} answers what is in the file")
                    if watched.events():
                        wrong.append(f"{tag_of(kind)} text {slot} {name!r} opened it")
        until(lambda: not [job for job in client.ask(jobs.ListJobs(live=True)) if job.kind != "stream"], 60, "quiet")
        assert client.ask(governance.VerifyAudit()).ok
    wrong += ["a job opened it"] * bool(watched.events())
    report("V20", count, len(wrong), SEED)
    assert wrong == []


def definitions(names: list[str]) -> Iterator[pipelines.Definition]:
    """A definition with each name in one place of it, that is sound otherwise."""
    sound = pipelines.Definition(
        name="injected", model="injected", data=pipelines.DataSection(target="target", builtin="iris")
    )
    for name in names:
        for field in ("name", "model"):
            yield msgspec.structs.replace(sound, **{field: name})
        yield msgspec.structs.replace(sound, data=pipelines.DataSection(target=name, builtin="iris"))
        for train in (
            pipelines.TrainSection(python=f"{name}:train"),
            pipelines.TrainSection(run=f"{name}:train", interpreter="/usr/bin/python3"),
            pipelines.TrainSection(run=f"train.py:{name}", interpreter="/usr/bin/python3"),
            pipelines.TrainSection(interpreter=name, run="train.py:train"),
            pipelines.TrainSection(learner=name),
            pipelines.TrainSection(params={name: name}),
            pipelines.TrainSection(command=("true", name, name)),
        ):
            yield msgspec.structs.replace(sound, train=train)


@pytest.mark.parametrize("count", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_names_and_params_of_a_pipeline_are_no_command(
    absent: Any, outside: tuple[list[str], Opened], report: Any, count: int
) -> None:
    """V21: refused, or run to an end in which nothing was touched: words go to programs as words."""
    names, watched = outside
    harmful = [name for name in names if "canary" in name][:count]
    absent.start("--workers", "2")
    refused, asked = 0, []
    with absent.client(timeout=60) as client:
        code, _ = client.put(b"def train(*given):\n    raise ValueError('as far as it goes')\n")
        for definition in definitions(harmful):
            try:
                asked.append(client.ask(pipelines.RunPipeline(definition=definition, code=code)))
            except Fault as fault:
                assert "expected" in fault.line() and "\n" not in fault.line(), fault.line()
                refused += 1
        until(lambda: not client.ask(jobs.ListJobs(live=True)), 90, "end of the runs")
        for each in asked:
            over = client.ask(jobs.ShowJob(job=each.job))
            assert over.state in ("FAILED", "SUCCEEDED") and "\n" not in (over.error or ""), over
    report("V21", refused + len(asked), 0, None, refused=refused, ran=len(asked))
    assert not watched.events()
    assert refused >= 5 and asked
    assert not list(absent.folder.rglob("canary"))
