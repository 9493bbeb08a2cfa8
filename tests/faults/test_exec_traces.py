"""V21: what the daemon and all that it starts really execute, as an audit hook in each of their processes tells it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import hooks, jobs, pipelines, schedules
from quarterstore.records.faults import Fault
from tests.decks import until
from tests.faults.test_paths import definitions
from tests.faults.test_schedules import HOSTILE, START

pytestmark = pytest.mark.fault
TRACING = """
import json, os, sys

def told(event, args):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        words = [args[0]] if event == "os.system" else args[1]
        said = {"event": event, "list": isinstance(words, (list, tuple)), "words": list(map(os.fsdecode, words))}
        line = json.dumps(said)
        descriptor = os.open(os.environ["QD_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode() + b"\\n")
        os.close(descriptor)

sys.addaudithook(told)
"""
SHELLS = {"sh", "bash", "dash", "zsh", "env", "xargs"}


def test_every_program_is_started_by_a_list_of_words_in_which_no_text_of_a_message_is_an_option(
    absent: Any, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TRACING)
    trace = tmp_path / "trace"
    program = tmp_path / "told"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o700)
    absent.environ |= {"PYTHONPATH": str(tmp_path), "QD_TRACE": str(trace)}
    absent.start("--workers", "2")
    with absent.client(timeout=60) as client:
        hook = client.ask(hooks.AddHook(event="promote", target=f"exec:{program}", args=HOSTILE[:2] + HOSTILE[3:]))
        client.ask(hooks.TestHook(hook=hook.id))
        asked: list[Any] = [
            schedules.AddSchedule(name=f"s{place}", act={**START, "experiment": word, "name": word}, every=1.0)
            for place, word in enumerate(HOSTILE)
        ]
        code, _ = client.put(b"def train(*given):\n    raise ValueError('as far as it goes')\n")
        asked += [pipelines.RunPipeline(definition=each, code=code) for each in definitions(list(HOSTILE[:1]))]
        refused = 0
        for each in asked:
            try:
                client.ask(each)
            except Fault:
                refused += 1
        until(lambda: not client.ask(jobs.ListJobs(live=True)), seconds=120)
    for place, word in enumerate(HOSTILE):
        absent.qd("remote", "add", word, f"http://127.0.0.1/{word}")
        absent.qd("backup", str(tmp_path / f"b{place}{word.replace('/', '')}"))
    absent.stop()
    seen = [json.loads(line) for line in trace.read_text().splitlines()]
    programs = {Path(each["words"][0]).name for each in seen}
    assert refused < len(asked) and any("quarterdeckd.pipeline.worker" in each["words"] for each in seen), programs
    for each in seen:
        assert each["event"] != "os.system" and each["list"], each
        first, *words = each["words"]
        assert Path(first).name not in SHELLS and first not in HOSTILE, each
        whole = [word for word in words if any(hostile in word for hostile in HOSTILE)]
        assert not whole or first in (str(program), "true"), each  # as a word of what a person named, for their program
    assert not list(tmp_path.rglob("canary")) and not list(absent.folder.rglob("canary"))
