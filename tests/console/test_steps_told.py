"""In which order the steps of a run are said."""

import pytest

from quarterdeck.cli.steps import Told
from quarterstore.records.pipelines import PipelineRun, Step


def run_of(*steps: Step) -> PipelineRun:
    return PipelineRun(
        id="pipe-1", pipeline="p", digest="d", state="RUNNING", steps=steps, job="j", run="r", created=1.0, actor="a"
    )


def test_no_step_is_said_before_those_it_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """A short step may be noted before the long one that it is behind, whose files are still being kept."""
    told = Told()
    last = Step(name="count", after=("load",), state="FAILED", words="no words")
    told.tell(run_of(Step(name="load", state="RUNNING"), last))
    assert capsys.readouterr().err == ""
    told.tell(run_of(Step(name="load", state="DONE"), last))
    assert capsys.readouterr().err.splitlines() == ["load: done", "count: failed  no words"]
