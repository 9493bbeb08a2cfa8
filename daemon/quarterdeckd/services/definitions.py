"""What a pipeline's definition may say, before anything of it is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from quarterdeckd.services.spaces import check_search
from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records import flows, pipelines, studies
from quarterstore.records.checks import checked_section
from quarterstore.records.evaluations import checked_evaluation
from quarterstore.records.faults import got, missing
from quarterstore.records.names import checked_text, checked_word, drawn
from quarterstore.records.training import check_train, file_of, named_code

LEARNERS = ("mlp", "logistic", "forest", "boosting", "ridge")
BUILTINS = ("breast_cancer", "digits", "wine", "iris", "diabetes")
MOST_PARALLEL = 16
MOST_SOURCES = 1000
_path = re.compile(r"[A-Za-z0-9_][\w./+-]{0,199}\Z", re.ASCII)
_digest = re.compile(r"[0-9a-f]{64}\Z")


def checked(state: State, definition: pipelines.Definition) -> pipelines.Definition:
    """A definition whose parts exist and fit together; raises a fault naming the field otherwise."""
    checked_word("name", definition.name)
    steps = flows.flow(definition)
    flows.check_features(definition)
    flows.check_gate(definition)
    if not 1 <= definition.parallel <= MOST_PARALLEL:
        raise got("parallel", definition.parallel, f"1 to {MOST_PARALLEL}")
    if definition.model:
        checked_word("model", definition.model)
    elif any(step.uses == "register" for step in steps):
        raise got("model", "nothing", "the name under which a step registers what was trained")
    for step in steps:
        _check_words(f"{step.name}.command", step.command)
        if step.uses is not None:
            _check_sections(flows.effective(definition, step), step.uses)
    data = definition.data
    if data.features:
        checked_text("data.entity_time", data.entity_time)
    if data.dataset is not None:
        data = replace(data, dataset=one_of(state.datasets, "data.dataset", data.dataset).id)
    validate, split = definition.validate, definition.split
    if validate.reference is not None:
        validate = replace(validate, reference=one_of(state.datasets, "validate.reference", validate.reference).id)
    if split.allow_leak:
        split = replace(split, allow_leak=checked_text("split.allow_leak", split.allow_leak, longest=1000))
    return replace(definition, data=data, validate=validate, split=split)


def _check_words(field: str, words: Sequence[str]) -> None:
    """The words of a command are shown wherever its run is: lines and tabs are no harm there, what steers a terminal or
    hides is."""
    for word in words:
        lines = word.replace("\n", " ").replace("\t", " ")
        if drawn(lines, longest=len(lines) + 1) != lines:
            raise got(field, drawn(lines, longest=60), "no control, direction or zero-width characters")


def _check_sections(definition: pipelines.Definition, kind: str) -> None:
    """The sections that a kind of step goes by."""
    if kind == "validate":
        _check_data(definition.data)
        checked_section(definition.validate)
    elif kind == "evaluate":
        checked_evaluation(definition.evaluate)
    elif kind == "split":
        _check_split(definition)
    elif kind == "tune":
        if definition.tune is None:
            raise got("tune", "nothing", "[tune] with objectives and a space, because a step uses tune")
        check_search(studies.study_of(definition))
    elif kind == "train":
        check_train(definition.train)
        _check_words("train.command", definition.train.command)
        if named_code(definition.train) is None and definition.train.learner not in LEARNERS:
            raise missing("train.learner", definition.train.learner, LEARNERS)
    elif kind == "deploy" and definition.deploy.then == "canary" and definition.deploy.endpoint is None:
        raise got("deploy.endpoint", "nothing", "an endpoint, because deploy.then is canary")


def _check_data(data: pipelines.DataSection) -> None:
    if not data.target:
        raise got("data.target", "nothing", "the column that is predicted")
    checked_text("data.target", data.target)
    if (data.dataset is None) == (data.builtin is None):
        raise got("data", "both or neither", "a dataset (upload the file) or builtin = NAME")
    if data.builtin is not None and data.builtin not in BUILTINS:
        raise missing("data.builtin", data.builtin, BUILTINS)


def _check_split(definition: pipelines.Definition) -> None:
    data = definition.data
    if not 0 < definition.split.test < 1:
        raise got("split.test", definition.split.test, "a share between 0 and 1")
    if definition.split.key and definition.split.by != "hash":
        by = definition.split.by
        raise got("split.key", ", ".join(definition.split.key), f"nothing, a split by {by} has none")
    for field, column in (("time", data.time), ("group", data.group)):
        if definition.split.by == field and column is None:
            raise got(f"data.{field}", "nothing", f"a column, because split.by is {field}")


def checked_sources(definition: pipelines.Definition, sources: dict[str, str], code: str | None) -> dict[str, str]:
    """The user's own files by their path beside the definition; a fault where one that a step names is not there."""
    if code is not None and (file := file_of(definition.train)) is not None:
        sources = {file: code, **sources}
    if len(sources) > MOST_SOURCES:
        raise got("sources", len(sources), f"at most {MOST_SOURCES} files")
    for name, digest in sources.items():
        if not _path.match(name) or ".." in name.split("/"):
            raise got("sources", name, "a path beside the definition")
        if not _digest.match(digest):
            raise got(f"sources.{name}", digest, "a SHA-256 in hex")
    for name in flows.files_of(definition):
        if name not in sources:
            raise got("code", "nothing", f"the uploaded file of {name}")
    return dict(sorted(sources.items()))
