"""Tuning studies: a space searched by trials, what each gave, and the winner scored again on rows that none saw."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.pipelines import DataSection, Definition, PipelineRun, SplitSection, TrainSection
from quarterstore.records.spaces import TuneSection

StudyState = Literal["RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "LOST"]
TrialState = Literal["COMPLETE", "PRUNED", "FAILED"]


class StudyDefinition(TuneSection, frozen=True, kw_only=True):
    """A study as it is written in TOML. What a trial does is a learner or training function on rows (`[data]`,
    `[split]`, `[train]`), or the objective of one's own, `FILE.py:FUNCTION`, that is given a trial and answers one
    value an objective."""

    name: str
    """What it is called; `qd tune show NAME` is the newest of it."""
    data: DataSection | None = None
    """The rows, as in a pipeline, of a file or built in."""
    split: SplitSection = SplitSection()
    """What stays untouched."""
    train: TrainSection = TrainSection()
    """The learner, or your own function, with the parameters that are not searched."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """What the target is; auto looks at its values."""
    objective: str | None = None
    """`FILE.py:FUNCTION` of your own, instead of rows."""
    model: str | None = None
    """The model that the winner becomes a version of; the study's name unless given."""


class StudyTrial(Record, frozen=True):
    """One trial that ended: its parameters, a value an objective (none unless COMPLETE), its curve (step, value)."""

    number: int
    state: TrialState
    params: dict[str, Any] = {}
    values: tuple[float, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    error: str | None = None


class Rescored(Record, frozen=True):
    """A trial beside itself: the values it was chosen by, and their mean over `seeds` fresh seeds with the lowest and
    the highest; `untouched` rows were judged that no trial saw (0: an objective of its own has no rows of ours)."""

    trial: int
    params: dict[str, Any]
    tuned: tuple[float, ...]
    honest: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int
    untouched: int
    error: str | None = None


class StudyResult(Record, frozen=True):
    """What a study found: trials by state, the best (of several objectives the Pareto front) scored again, the share
    of each parameter in reaching the best values, and whether the order in which trials ended had a part in it."""

    complete: int
    pruned: int
    failed: int
    best: tuple[Rescored, ...]
    importance: dict[str, float]
    order_dependent: bool
    seconds: float
    words: str


class Study(Record, frozen=True):
    """A study: its definition, its newest job, and what it found once it ended well."""

    id: str
    name: str
    definition: StudyDefinition
    state: StudyState
    created: float
    actor: str
    job: str
    sources: dict[str, str] = {}
    """The user's own files, path beside the study -> artefact, exactly as they were when it was asked for."""
    ended: float | None = None
    error: str | None = None
    result: StudyResult | None = None
    pipeline_run: str | None = None
    """The run that made a version of the winner."""


class StartStudy(Act[Study], tag="studies.start", frozen=True):
    """Search a space: a job asks, tells and prunes, its workers run the trials."""

    definition: StudyDefinition
    sources: dict[str, str] = {}


class ResumeStudy(Act[Study], tag="studies.resume", frozen=True):
    """Go on with a study (its id, or its name: the newest) that ended in any way: trials that ended are kept, those
    that were lost run again; `trials` is the new number in all, `within` and `workers` hold from here on."""

    study: str
    trials: int | None = None
    within: float | None = None
    workers: int | None = None


class StopStudy(Act[Study], tag="studies.stop", frozen=True):
    """End the job of a study (its id, or its name: the newest) now; `studies.resume` goes on with it."""

    study: str
    reason: str = ""


class RemoveStudy(Act[Study], tag="studies.remove", frozen=True):
    """Forget a study that is over: its definition, what it found, its files. What was registered of it stays."""

    study: str


class EndStudy(Act[Study], tag="studies.end", frozen=True):
    """Say how a study's job ended."""

    role: ClassVar[Role] = "daemon"
    study: str
    state: StudyState
    result: StudyResult | None = None
    error: str | None = None


class RegisterBest(Act[PipelineRun], tag="studies.register", frozen=True):
    """Run a pipeline with the parameters of a trial that was scored again (the best unless named): its version is
    registered as of any pipeline. The study is its id, or its name: the newest."""

    study: str
    trial: int | None = None


class NoteRegistered(Act[Study], tag="studies.note_registered", frozen=True):
    """Say which pipeline run a study's winner went into."""

    role: ClassVar[Role] = "daemon"
    study: str
    pipeline_run: str


class CheckStudy(Query[StudyDefinition], tag="studies.check", frozen=True):
    """A definition as it would be kept, or the fault that `studies.start` would end with, before any file is sent."""

    definition: StudyDefinition


class ListStudies(Query[list[Study]], tag="studies.list", frozen=True):
    """Studies, newest first; of one name when given."""

    name: str | None = None
    limit: int = 100


class ShowStudy(Query[Study], tag="studies.show", frozen=True):
    """One study, by its id or its name: the newest."""

    study: str


class ListTrials(Query[list[StudyTrial]], tag="studies.trials", frozen=True):
    """Trials of a study that ended, in their order, also while it runs; of one state when given."""

    study: str
    state: TrialState | None = None
    limit: int = 1000


class BestTrials(Query[list[StudyTrial]], tag="studies.best", frozen=True):
    """The best `top` trials by the first objective, the best first, also while the study runs."""

    study: str
    top: int = 1


class ParetoTrials(Query[list[StudyTrial]], tag="studies.pareto", frozen=True):
    """The trials that no other beats in every objective, by the first one; also while the study runs."""

    study: str


class StudyStarted(Event, tag="studies.started", frozen=True):
    """A study was asked for, or is gone on with."""

    study: Study


class StudyEnded(Event, tag="studies.ended", frozen=True):
    """A study's job is over."""

    study: str
    state: StudyState
    at: float
    result: StudyResult | None = None
    error: str | None = None


class StudyRemoved(Event, tag="studies.removed", frozen=True):
    """A study is forgotten; its files are to go."""

    study: str


class StudyRegistered(Event, tag="studies.registered", frozen=True):
    """A pipeline runs with the parameters of a study's trial."""

    study: str
    pipeline_run: str


class StudySpec(Record, frozen=True):
    """What a study's job is given; `folder` keeps Optuna's journal and the trials over kills and resumes, `store` has
    the user's own files by their hash, `data` is the path of the rows."""

    study: str
    definition: StudyDefinition
    folder: str = ""
    data: str | None = None
    sources: dict[str, str] = {}
    store: str = ""


def study_of(definition: Definition) -> StudyDefinition:
    """The study that the step `tune` of a pipeline is, with metrics by their own names (`roc_auc` is `roc auc`)."""
    assert definition.tune is not None
    objectives = {name.replace("_", " "): goal for name, goal in definition.tune.objectives.items()}
    return StudyDefinition(
        name=definition.name,
        data=definition.data,
        split=definition.split,
        train=definition.train,
        task=definition.task,
        **(msgspec.structs.asdict(definition.tune) | {"objectives": objectives}),
    )


def file_of(definition: StudyDefinition) -> str | None:
    """The user's own file that a study names."""
    named = definition.objective or definition.train.python
    return named.partition(":")[0] if named else None


def pipeline_of(definition: StudyDefinition, params: dict[str, Any], seed: int | None = None) -> Definition:
    """The pipeline that a trial with these parameters is: `learner` names one, the others are the learner's own."""
    assert definition.data is not None
    own = {name: value for name, value in params.items() if name != "learner"}
    train = replace(
        definition.train,
        learner=params.get("learner", definition.train.learner),
        params={**definition.train.params, **own},
        seed=definition.train.seed if seed is None else seed,
    )
    return Definition(
        name=definition.name,
        model=definition.model or definition.name,
        data=definition.data,
        split=definition.split,
        train=train,
        task=definition.task,
    )


def searched(definition: StudyDefinition) -> Definition:
    """The pipeline of a study with its search in it, as its rows are looked at before the first trial."""
    section = TuneSection(definition.objectives, definition.space)
    return replace(pipeline_of(definition, {}), tune=section)


def sampler_of(definition: StudyDefinition) -> str:
    """How trials are drawn: as said, else by the number of objectives."""
    return definition.sampler or ("tpe" if len(definition.objectives) == 1 else "nsga2")


def best(definition: StudyDefinition, trials: list[StudyTrial], top: int) -> list[StudyTrial]:
    """Complete trials by the first objective, the best first; of equal ones the earlier."""
    sign = _signs(definition)[0]
    found = [trial for trial in trials if trial.state == "COMPLETE"]
    return sorted(found, key=lambda trial: (sign * trial.values[0], trial.number))[: max(0, top)]


def pareto(definition: StudyDefinition, trials: list[StudyTrial]) -> list[StudyTrial]:
    """Complete trials that no other is at least as good as in every objective and better in one, by the first."""
    signs = _signs(definition)
    costs = [
        (tuple(sign * value for sign, value in zip(signs, trial.values, strict=True)), trial)
        for trial in best(definition, trials, len(trials))
    ]
    front = _front({each for each, _ in costs})
    return [trial for each, trial in costs if each in front]


def _front(costs: set[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Those that no other beats: in order none is beaten by a later one, and of two objectives the last that was kept
    is the lowest in the second, so that thousands of trials are drawn in time."""
    found: list[tuple[float, ...]] = []
    for each in sorted(costs):
        rivals = found[-1:] if len(each) == 2 else found
        if not any(_beats(rival, each) for rival in rivals):
            found.append(each)
    return set(found)


def _beats(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(mine <= other for mine, other in zip(first, second, strict=True))


def _signs(definition: StudyDefinition) -> list[int]:
    return [-1 if goal == "maximise" else 1 for goal in definition.objectives.values()]
