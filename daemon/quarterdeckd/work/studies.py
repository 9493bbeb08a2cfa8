"""Trials of studies as they ended, read from the files of their jobs: a reader never holds a study up."""

from __future__ import annotations

from typing import Any

import msgspec

from quarterstore.ledger.finding import study_of
from quarterstore.ledger.state import State
from quarterstore.records import studies
from quarterstore.records.faults import got
from quarterstore.records.places import Home

MOST = 100_000


class Studies:
    """Answers `studies.trials`, `studies.best` and `studies.pareto`; runs in readers' threads."""

    def __init__(self, home: Home, view: State) -> None:
        self._home, self._view = home, view

    def readers(self) -> dict[type, Any]:
        """What is asked -> what answers it, in threads."""
        return {studies.ListTrials: self.trials, studies.BestTrials: self.best, studies.ParetoTrials: self.pareto}

    def trials(self, query: studies.ListTrials, speaker: Any, seen: int) -> list[studies.StudyTrial]:
        """In their order; the newest `limit`."""
        _, found = self._of(query.study)
        return [each for each in found if query.state in (None, each.state)][-_asked("limit", query.limit) :]

    def best(self, query: studies.BestTrials, speaker: Any, seen: int) -> list[studies.StudyTrial]:
        """By the first objective."""
        study, found = self._of(query.study)
        return studies.best(study.definition, found, _asked("top", query.top))

    def pareto(self, query: studies.ParetoTrials, speaker: Any, seen: int) -> list[studies.StudyTrial]:
        """Those that none beats; raises `Invalid` where there is one objective only."""
        study, found = self._of(query.study)
        if len(study.definition.objectives) < 2:
            raise got("study", "one objective", "a study with at least two; see qd tune best")
        return studies.pareto(study.definition, found)

    def _of(self, name: str) -> tuple[studies.Study, list[studies.StudyTrial]]:
        study = study_of(self._view, name)
        path = self._home.studies / study.id / "trials.jsonl"
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be on its way
        found = [msgspec.json.decode(line, type=studies.StudyTrial) for line in whole.splitlines()]
        return study, sorted(found, key=lambda trial: trial.number)


def _asked(field: str, count: int) -> int:
    if not 1 <= count <= MOST:
        raise got(field, count, f"1 to {MOST}")
    return count
