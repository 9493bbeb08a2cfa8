"""`--wait`: nothing that happens between its questions and its feed is missed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from quarterdeck.cli.context import Context
from quarterdeck.cli.waiting import to_the_end
from quarterdeck.client import Client
from quarterstore.records.faults import Failed, Fault
from quarterstore.records.jobs import CancelJob, ShowJob
from quarterstore.records.pipelines import DataSection, Definition, RunPipeline

if TYPE_CHECKING:
    from conftest import Daemon


class Slow(Client):
    """A client that is held up just after the answer to its first question about a job: the job ends meanwhile."""

    held = False

    def ask(self, message: Any, **about: Any) -> Any:
        """The answer, as it was before the job was cancelled."""
        answer = super().ask(message, **about)
        if isinstance(message, ShowJob) and not self.held:
            self.held = True
            super().ask(CancelJob(job=answer.id))
        return answer


def test_a_job_that_ends_right_after_the_first_question_is_not_waited_for_longer(
    daemon: Daemon, client: Client
) -> None:
    data = DataSection(target="target", builtin="breast_cancer")
    run = client.ask(RunPipeline(definition=Definition(name="waited", model="waited", data=data)))
    job = client.ask(ShowJob(job=run.job))
    context = Context()
    context._client = Slow(daemon.home)
    raised: list[Fault] = []

    def wait() -> None:
        try:
            to_the_end(context, job)
        except Fault as fault:
            raised.append(fault)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(60)
    assert not waiting.is_alive()
    assert isinstance(raised[0], Failed) and "cancelled" in str(raised[0])
    context._client.close()
