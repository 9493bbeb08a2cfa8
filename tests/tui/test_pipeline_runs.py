"""Pipeline runs as a person sees them: the graph of the steps, a step's log, a question answered by keys."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from quarterdeck.tui.screens.pipeline_cards import brief, job_card, named, run_card, step_card
from quarterdeck.tui.screens.pipelines import of_no_run
from quarterdeck.tui.widgets.graph import MOST, gutters
from quarterdeck.wording import command_text
from quarterstore.records import pipelines
from quarterstore.records.jobs import Job, Progress
from quarterstore.records.names import drawn
from quarterstore.records.pipelines import Step
from tests.decks import until
from tests.tui.hostile import ODD

NOW = 1_700_000_000.0
CODE = b"""
def load(step):
    print("four words came")
    return {"words": 4}

def broken(step):
    raise ValueError("no price")
"""


def graph(**after: list[str]) -> list[str]:
    """The graph as lines, with the names behind the nodes."""
    return [f"{before}o{behind} {name}" for name, (before, behind) in gutters(after).items()]


def test_lanes_run_from_a_step_to_those_behind_it() -> None:
    assert graph(a=[], b=["a"], c=["b"]) == ["o a", "o b", "o c"]
    assert graph(load=[], count=["load"], list=["load"], look=["count", "list"], end=["look"]) == [
        "o   load",
        "├─o count",
        "o │ list",
        "o─┘ look",
        "o   end",
    ]
    assert graph(a=[], b=[], c=["a"], d=["b", "a"], e=[], f=["c", "d", "e"], g=["a"]) == [
        "o       a",
        "│ o     b",
        "├─┼─o   c",
        "├─o │   d",
        "│ │ │ o e",
        "│ o─┴─┘ f",
        "o       g",
    ]
    assert graph(a=[], b=[]) == ["o   a", "  o b"], "one that follows nothing stands below nothing"


def test_a_graph_of_many_is_no_wider_than_it_may_be() -> None:
    wide: dict[str, list[str]] = {"s": [], **{f"p{n}": ["s"] for n in range(40)}}
    wide["end"] = [f"p{n}" for n in range(40)]
    assert max(len(line) for line in graph(**wide)) <= 2 * MOST + 4
    assert list(gutters(wide)) == list(wide)


def run_of(*steps: Step, **more: Any) -> pipelines.PipelineRun:
    found = pipelines.PipelineRun("pipe-1", "words", "0" * 64, "WAITING", steps, "job-1", "run-1", NOW - 500, "ana")
    return msgspec.structs.replace(found, **more)


def lively() -> pipelines.PipelineRun:
    """Cached, reused, tried twice, asking."""
    figures = {
        "evidence": {"count": {"words": 4, "share": {"long": 0.25}}},
        "until": NOW + 60,
        "files": {"a": "0" * 64},
    }
    return run_of(
        Step("load", "DONE", NOW - 400, NOW - 390, how="cached", words="cached (inputs unchanged)", key="1" * 64),
        Step("count", "DONE", NOW - 90, NOW - 78, "words 4", {"words": 4}, ("load",), "run", attempts=2),
        Step("list", "DONE", NOW - 90, NOW - 80, how="reused", after=("load",)),
        Step("look", "ASKING", NOW - 60, None, "enough?", figures, ("count", "list"), "approve"),
        Step("publish", "WAITING", after=("look",)),
    )


def test_the_job_of_a_run_before_it_was_gone_on_with_is_not_shown_beside_it() -> None:
    run = msgspec.structs.replace(lively(), job="job-2")

    def job(id_: str, kind: Any, subject: str) -> Job:
        return Job(id_, kind, subject, "FAILED", NOW, "ana")

    jobs = [job("job-2", "pipeline", run.id), job("job-1", "pipeline", run.id)]
    others = [job("job-3", "pipeline", "pipe-of-long-ago"), job("job-4", "drift", run.id)]
    assert of_no_run([*jobs, *others], [run]) == others


@pytest.mark.parametrize("width", [60, 78, 150])
def test_a_run_says_what_was_cached_what_was_tried_again_and_what_it_asks(width: int) -> None:
    run = lively()
    assert brief(run, NOW) == "3 of 5 done, 1 cached, 1 reused, 1 tried again, 12 s", (
        "a person's time is none of a step"
    )
    text = run_card(run, None, ["said"], NOW, width).plain
    for words in ("look asks", "enough?", "a yes · R no", "├─✓ count", "2 tries", "12 s", "reused", "cached", "said"):
        assert words in text, words
    asks = step_card(run, run.steps[3], None, [], NOW, width, 20).plain
    assert "count.share.long" in asks and "0.25" in asks and "it said nothing" in asks
    wrong = msgspec.structs.replace(run.steps[1], state="FAILED")
    card = step_card(run, wrong, None, [f"line {n}" for n in range(99)], NOW, width, 60).plain
    assert "line 98" in card and "line 70" in card and "line 20" not in card, "as much as there is room for"
    for found in (text, asks, card):
        assert max(map(cell_len, found.splitlines())) <= width


@pytest.mark.fault
def test_no_hostile_name_gets_out_of_a_run_or_a_step() -> None:
    for odd in ODD:
        step = Step(odd, "FAILED", 1.0, 2.0, odd, {odd: {odd: odd}}, (odd,), odd, odd, attempts=3, outputs={odd: odd})
        asking = Step(
            "b", "ASKING", 1.0, None, odd, {"evidence": {odd: odd}, "until": odd, "files": {odd: odd}}, (odd,)
        )
        run = run_of(step, asking, pipeline=odd, error=odd, cause=odd, version=odd, actor=odd)
        progress = Progress("job-1", odd, 0.5, odd)
        job = Job(odd, "batch", odd, "FAILED", 1.0, odd, result={odd: odd}, error=odd, cause=odd)
        for width in (60, 120):
            cards = [run_card(run, progress, [odd], NOW, width), job_card(job, progress, [odd], NOW, width)]
            cards += [step_card(run, each, progress, [odd], NOW, width, 30) for each in run.steps]
            for text in [*cards, *named(run).values()]:
                assert all(drawn(line) == line for line in text.plain.split("\n")), odd


def test_the_commands_of_runs_are_the_short_ones() -> None:
    for message, words in (
        (pipelines.PipelineLog(pipeline_run="pipe-1", step="a b"), "qd pipeline logs pipe-1 'a b'"),
        (pipelines.ResumePipeline(pipeline_run="pipe-1"), "qd pipeline resume pipe-1 --as-it-was"),
        (pipelines.ApproveStep(pipeline_run="pipe-1", note="so so"), "qd pipeline approve pipe-1 --note 'so so'"),
        (pipelines.CancelPipeline(pipeline_run="pipe-1"), "qd pipeline cancel pipe-1"),
    ):
        assert command_text(message) == words


async def test_a_run_is_looked_at_step_by_step_and_its_question_answered_by_keys(
    daemon: Any, made: Any, console: Any
) -> None:
    def step(name: str, *after: str, **more: Any) -> pipelines.StepSection:
        return pipelines.StepSection(name=name, after=after, **more)

    with daemon.client() as owner:
        digest, _ = owner.put(CODE)
        definition = pipelines.Definition(
            name="words",
            steps=(
                step("load", run="s.py:load"),
                step("look", "load", uses="approve", params={"ask": "are four enough?"}),
                step("publish", "look", run="s.py:broken"),
            ),
        )
        asked = owner.ask(pipelines.RunPipeline(definition=definition, sources={"s.py": digest}))
        shown = pipelines.ShowPipelineRun(pipeline_run=asked.id)
        until(lambda: owner.ask(shown).state == "WAITING")
        async with console(daemon.home).run_test(size=(120, 40)) as pilot:
            await made.shown(pilot, "words asks at look: are four enough?")
            await made.shown(pilot, "5 pipe▲1")
            await made.gone_to(pilot, "5", "pipelines")
            await made.shown(pilot, "look asks")
            await pilot.press("enter")
            await made.shown(pilot, "a yes · R no")
            await made.shown(pilot, f"qd pipeline logs {asked.id} look")
            await pilot.press("k")
            await made.shown(pilot, "four words came")
            await pilot.press("R")
            await made.shown(pilot, "qd pipeline reject")
            await pilot.press("escape", "a")
            await made.shown(pilot, "qd pipeline approve")
            await pilot.press(*"well", "enter")
            await made.shown(pilot, "✗ FAILED")
            await pilot.press("j", "j")
            await made.shown(pilot, "ValueError: no price")
            await pilot.press("c")
            await made.shown(pilot, f"qd pipeline resume {asked.id} --as-it-was")
            await pilot.press("escape", "enter", "x")
            await made.shown(pilot, "no run that goes on is under the cursor")
        found = owner.ask(shown)
        assert found.state == "FAILED" and "well" in found.steps[1].words
