"""A definition as steps in order: the usual ones from its sections or those of one's own, checked before anything
runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from quarterstore.records.base import Record
from quarterstore.records.evaluations import check_limits
from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.misfits import misfit, refuse_unknown
from quarterstore.records.names import checked_word
from quarterstore.records.pipelines import Definition, Step, StepSection
from quarterstore.records.training import file_of

MOST_STEPS = 200
MOST_RETRIES = 20
LONGEST_ANSWER = 10 * 366 * 86_400.0
"""Seconds that a person may be given at most; a time of day beyond it may be one that no calendar has."""
FUNCTION = re.compile(r"(?P<file>[\w][\w./-]*\.py):(?P<name>[A-Za-z_]\w*)\Z")


class ApproveSection(Record, frozen=True):
    """The params of a step that `uses` approve: what the person is asked, and for how many seconds; then it is a no."""

    ask: str = ""
    """What the person is asked."""
    timeout: float = 7 * 86_400.0
    """Seconds until nobody's answer is a no."""


class Kind(NamedTuple):
    """What is known of a kind of step before it runs."""

    section: str
    """The section of the definition that its params are laid over; empty where it takes none."""
    depends: tuple[str, ...] = ()
    """Fields of the definition that its outputs depend on, beside its inputs."""
    asked: Callable[[Definition], bool] = lambda definition: True
    """Whether the short form has it."""
    daemon: bool = False
    """Whether it is an act of the daemon, after all that runs."""


KINDS: dict[str, Kind] = {
    "features": Kind("", ("data",), asked=lambda definition: bool(definition.data.features)),
    "validate": Kind("validate", ("data", "validate", "task")),
    "split": Kind("split", ("data", "split")),
    "tune": Kind(
        "",
        ("data", "split", "train", "task", "tune"),
        asked=lambda definition: definition.tune is not None,
    ),
    "train": Kind("train", ("data", "split", "train", "task")),
    "evaluate": Kind("evaluate", ("task", "evaluate")),
    "approve": Kind("", asked=lambda definition: False),
    "register": Kind("", daemon=True),
    "gate": Kind("gate", daemon=True),
    "deploy": Kind("deploy", asked=lambda definition: definition.deploy.then != "none", daemon=True),
}
"""Every kind, in the order of the short form; what each does is in `quarterdeckd.pipeline.kinds`."""


def flow(definition: Definition) -> tuple[StepSection, ...]:
    """The steps of a definition, each behind those it needs; the sections alone stand for the usual ones in a row.

    A fault names a step that is there twice, of no kind or several, after one that is not there, or in a cycle.
    """
    if not definition.steps:
        return _usual(definition)
    if len(definition.steps) > MOST_STEPS:
        raise got("steps", len(definition.steps), f"at most {MOST_STEPS}")
    names = [step.name for step in definition.steps]
    for place, step in enumerate(definition.steps):
        checked_word(f"steps[{place}].name", step.name)
        if step.name in names[:place]:
            raise got(f"steps[{place}].name", step.name, "a name that no other step has")
    for step in definition.steps:
        _check(step, names)
    ordered = _ordered(definition.steps)
    _check_daemon(ordered)
    for step in ordered:
        effective(definition, step)
    return ordered


def check_features(definition: Definition) -> None:
    """A fault where views are named and nothing joins them, or the other way round, or rows are validated before."""
    data, steps = definition.data, flow(definition)
    joins = [step.name for step in steps if step.uses == "features"]
    if not joins and data.features:
        raise got("data.features", ", ".join(data.features), "nothing, or a step that uses features")
    if not joins:
        return
    if len(joins) > 1:
        raise got("steps", f"{' and '.join(joins)} that use features", "one")
    if not data.features:
        raise got("data.features", "nothing", f"views, because {joins[0]} uses features")
    if data.builtin is not None:
        raise got("data.builtin", data.builtin, "nothing: data.features are joined to a file of entities")
    if data.dataset is None and data.file is None:
        raise got("data.file", "nothing", "the file of entities that data.features are joined to")
    for step in steps:
        if step.uses == "validate" and joins[0] not in above(steps, step.name):
            raise got(
                f"{step.name}.after", ", ".join(step.after) or "nothing", f"{joins[0]}, whose rows it is to check"
            )


def check_gate(definition: Definition, task: str | None = None) -> None:
    """A fault where a limit of the gate is of a metric that no run of this task (that of the definition unless said)
    can have. Whatever steps of one's own leave behind, or in the place of, `evaluate` may be named."""
    steps = flow(definition)
    gate = next((step for step in steps if step.uses == "gate"), None)
    if gate is None:
        return
    judging = [step for step in steps if step.uses == "evaluate"][-1:]
    ours = judging and all(step.uses or step.name in above(steps, judging[0].name) for step in steps)
    section = effective(definition, judging[0]).evaluate if ours else None
    check_limits(effective(definition, gate).gate.limits, section, task or definition.task)


def waiting(definition: Definition) -> tuple[Step, ...]:
    """The steps of a run that has not begun."""
    return tuple(Step(name=step.name, after=step.after, uses=kind_of(step)) for step in flow(definition))


def kind_of(step: StepSection) -> str:
    """The kind of ours, or whether it is a function or a program of the user's."""
    return step.uses or ("run" if step.run else "command")


def effective(definition: Definition, step: StepSection) -> Definition:
    """The definition with the params of a step of ours laid over its section; a fault where they do not fit."""
    if step.uses is None:
        return definition
    section = KINDS[step.uses].section
    if not section:
        if step.uses == "approve":
            approve_of(step)
        elif step.params:
            raise got(f"{step.name}.params", ", ".join(step.params), f"none: {step.uses} takes its sections alone")
        return definition
    return msgspec.structs.replace(definition, **{section: _laid(step, getattr(definition, section))})


def approve_of(step: StepSection) -> ApproveSection:
    """The params of a step that asks a person; a fault where the time to answer is over before anybody is asked."""
    found: ApproveSection = _laid(step, ApproveSection())
    if not 0 < found.timeout <= LONGEST_ANSWER:
        raise got(f"{step.name}.params.timeout", found.timeout, f"seconds above 0, at most {LONGEST_ANSWER:.0f}")
    return found


def above(steps: tuple[StepSection, ...], name: str) -> list[str]:
    """The steps that a step is behind, directly or not, in the order of `steps`."""
    after = {step.name: step.after for step in steps}
    found: set[str] = set()
    waiting = list(after[name])
    while waiting:
        found.add(each := waiting.pop())
        waiting.extend(set(after[each]) - found)
    return [step.name for step in steps if step.name in found]


def unchanged(before: Definition, after: Definition) -> set[str]:
    """The steps of `after` that say what they said in `before`, as do all they are behind; their code may differ."""
    known = {step.name: _said(before, step) for step in flow(before)}
    found: set[str] = set()
    for step in flow(after):
        if known.get(step.name) == _said(after, step) and found.issuperset(step.after):
            found.add(step.name)
    return found


def _said(definition: Definition, step: StepSection) -> Any:
    laid = effective(definition, step)
    fields = KINDS[step.uses].depends if step.uses else ()
    return step.uses, step.run, step.command, step.params, step.after, [getattr(laid, field) for field in fields]


def files_of(definition: Definition) -> Iterator[str]:
    """The user's own files that the steps name, as they are written."""
    for step in flow(definition):
        if step.run is not None:
            yield step.run.partition(":")[0]
        elif step.uses == "validate" and (schema := effective(definition, step).validate.pandera):
            yield schema.partition(":")[0]
        elif step.uses == "train" and (file := file_of(effective(definition, step).train)) is not None:
            yield file


def functions_of(definition: Definition) -> Iterator[tuple[str, str]]:
    """Each `FILE.py:NAME` that is loaded in our own worker, with the field that says it; what another interpreter runs
    may be of another Python."""
    for step in flow(definition):
        if step.run is not None and step.interpreter is None:
            yield f"{step.name}.run", step.run
        elif step.uses == "validate" and (schema := effective(definition, step).validate.pandera):
            yield "validate.pandera", schema
        elif step.uses == "train" and (named := effective(definition, step).train.python):
            yield "train.python", named


def _usual(definition: Definition) -> tuple[StepSection, ...]:
    found: list[StepSection] = []
    for name, kind in KINDS.items():
        if kind.asked(definition):
            found.append(StepSection(name=name, uses=name, after=(found[-1].name,) if found else ()))
    return tuple(found)


def _laid(step: StepSection, section: Any) -> Any:
    kind = type(section)
    refuse_unknown(kind, step.params, f"{step.name}.params")
    try:
        return msgspec.convert(msgspec.to_builtins(section) | step.params, kind)
    except msgspec.ValidationError as error:
        fault = misfit(kind, str(error))
        fault.field = f"{step.name}.params.{fault.field}"
        raise fault from error


def _check(step: StepSection, names: list[str]) -> None:
    said = [field for field in ("uses", "run", "command") if getattr(step, field)]
    if len(said) != 1:
        raise got(step.name, " and ".join(said) or "nothing", "one of uses, run or command")
    if step.uses is not None and step.uses not in KINDS:
        raise missing(f"{step.name}.uses", step.uses, KINDS)
    if step.run is not None and (not (found := FUNCTION.match(step.run)) or ".." in found["file"].split("/")):
        raise got(f"{step.name}.run", step.run, "FILE.py:FUNCTION beside the definition, as steps.py:clean")
    if step.interpreter is not None and (step.uses or not step.interpreter.startswith("/")):
        raise got(f"{step.name}.interpreter", step.interpreter, "an absolute path, beside run or command")
    for each in step.after:
        if each not in names:
            raise missing(f"{step.name}.after", each, names)
    for field, value, right, expected in (
        ("retries", step.retries, 0 <= step.retries <= MOST_RETRIES, f"0 to {MOST_RETRIES}"),
        ("backoff", step.backoff, 0 <= step.backoff <= 3600, "seconds from 0 to 3600"),
        ("limits.seconds", step.limits.seconds, 0 < step.limits.seconds <= 30 * 86_400, "seconds above 0"),
        ("limits.memory", step.limits.memory, step.limits.memory > 0, "bytes above 0"),
        ("limits.disk", step.limits.disk, step.limits.disk > 0, "bytes above 0"),
    ):
        if not right:
            raise got(f"{step.name}.{field}", value, expected)


def _ordered(steps: tuple[StepSection, ...]) -> tuple[StepSection, ...]:
    """Each step behind those it needs, else as they are written (Kahn 1962); a cycle is named."""
    left, found = list(steps), dict[str, StepSection]()
    while left:
        ready = next((step for step in left if all(each in found for each in step.after)), None)
        if ready is None:
            raise Invalid(f"got a cycle, {' -> '.join(_cycle(left))}, expected steps that end", field="steps")
        left.remove(ready)
        found[ready.name] = ready
    return tuple(found.values())


def _cycle(left: list[StepSection]) -> list[str]:
    """A way through steps that wait for each other, up to the one it comes back to, in the order they would run."""
    by_name = {step.name: step for step in left}
    way = [left[0].name]
    while True:
        following = next(each for each in by_name[way[-1]].after if each in by_name)
        if following in way:
            return [*way[way.index(following) :], following][::-1]
        way.append(following)


def _check_daemon(ordered: tuple[StepSection, ...]) -> None:
    """What the daemon does comes last, in its one order, and registers what a step before it made."""
    daemon = [step for step in ordered if step.uses and KINDS[step.uses].daemon]
    for step in ordered:
        for each in step.after:
            if step not in daemon and each in {one.name for one in daemon}:
                raise got(f"{step.name}.after", each, "a step that comes before register, gate and deploy")
    order = [name for name, kind in KINDS.items() if kind.daemon]
    if not daemon:
        return
    uses = [step.uses or "" for step in daemon]
    if len(set(uses)) != len(uses) or uses != sorted(uses, key=order.index) or uses[0] != order[0]:
        raise got("steps", ", ".join(uses), f"each of {', '.join(order)} at most once, in this order")
    if not any(kind_of(step) in ("train", "run", "command") for step in ordered):
        raise got(daemon[0].name, "no step that makes a model", "one that uses train, or one of your own")
