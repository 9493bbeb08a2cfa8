"""A pipeline job: the steps of its run, each in a process forked from this one."""

from __future__ import annotations

from pathlib import Path

from quarterdeckd.pipeline.engine import Engine
from quarterdeckd.pipeline.progress import Report
from quarterstore.records.pipeline_results import PipelineOutcome
from quarterstore.records.pipelines import PipelineSpec


def run(spec: PipelineSpec, report: Report) -> PipelineOutcome:
    """Do what is left of a run in the working folder; the same definition, rows, code and seeds give the same figures
    (one thread; on CUDA up to the order of its sums)."""
    return Engine(spec, report, Path.cwd()).run()
