"""What went wrong in a job, in one line for a person."""

from __future__ import annotations

import sys
import traceback

from quarterstore.records.faults import Fault
from quarterstore.records.names import drawn


def explain(error: BaseException) -> str:
    """One line for a person; the traceback stays in the log."""
    if isinstance(error, Fault):
        text = error.line()
    elif isinstance(error, SystemExit):
        text = f"the training code called sys.exit({error.code!r}) instead of returning a model"
    elif isinstance(error, KeyboardInterrupt):
        text = "cancelled"
    elif isinstance(error, MemoryError):
        text = "memory: the job asked for more than its limit"
    else:
        text = f"{type(error).__name__}: {error}"
    return drawn(" ".join(text.split()), longest=500)


def logged(error: BaseException) -> str:
    """The line, after the log on stderr was given what it is to be given."""
    if isinstance(error, Fault):
        print(f"error: {explain(error)}", file=sys.stderr)  # a sentence for whoever gave the rows, not our calls
    else:
        traceback.print_exception(error)
    return explain(error)
