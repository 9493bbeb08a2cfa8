"""One model's whole life on real data: trained on schedule, tuned, fed by features, judged, approved, rolled out,
drifting, retrained, rolled back.

A throw-away daemon in a temporary home, real jobs, real HTTP traffic, no network. `--keep` leaves it up for the
console, `--json` prints {"steps": [...]} as the last line. Exit 0 only when every step did what it says.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from life import featuring, learning, rolling, watching
from life.play import BIN, Play, start

LIFE = (
    ("a daemon starts in a fresh home", start),
    ("a scheduled training fires", learning.schedule_fires),
    ("two candidates train with live curves and are registered", learning.train),
    ("a study searches parameters, scored again on rows no trial saw", learning.study),
    ("features of a view become a training set", featuring.offline),
    ("a pipeline as a graph learns from them; a second run is cached", featuring.graph),
    ("predictions by key, from features online", featuring.by_key),
    ("the gate judges both candidates", rolling.gate),
    ("promotion: you ask, another person approves", rolling.promote),
    ("deployed, under real HTTP traffic", rolling.deploy),
    ("canary of the second candidate, on evidence", rolling.canary),
    ("a bad version is caught by the canary", rolling.bad_version),
    ("int8 child measured against its parent", watching.int8),
    ("drift found, retraining started by its policy", watching.drift),
    ("one-command rollback under traffic", rolling.rollback),
    ("the audit trail verifies", watching.audit),
)
"""What is played, in this order; the first that fails ends the play."""


def main() -> int:
    """Play, say what happened, clean up."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keep", action="store_true", help="leave the daemon up and say how to open the console")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="quarterdeck-demo-"))
    play = Play(folder / "home")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ok = all(play.step(name, do) for name, do in LIFE)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # once is enough, the rest is cleaning up
        play.stop(False)
        shutil.rmtree(folder)
        print("interrupted; the daemon was stopped and its home removed", file=sys.stderr)
        return 130
    play.stop(given.keep)
    print(f"{'everything' if ok else 'NOT everything'} did what it says, in {time.monotonic() - began:.0f} s")
    if not ok:
        print(f"the daemon's log is {folder / 'daemon.log'}")
    if given.keep:
        print(f"open the console:  {BIN / 'qd'} --home {play.home}")
        print(f"stop it:           {BIN / 'qd'} --home {play.home} serving stop; kill {play.daemon.pid}")
    elif ok:
        shutil.rmtree(folder)
    if given.json:
        print(msgspec.json.encode({"steps": play.steps}).decode())
    return 0 if ok else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
