"""What `[train]` may say of a person's own code: who runs it, what is called, and what a command may be given."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from quarterstore.records.faults import got
from quarterstore.records.names import checked_path, checked_text
from quarterstore.records.pipelines import TrainSection

PLACES: Final = (
    *("rows", "rows_csv", "held_out", "held_out_csv"),
    *("params", "checkpoint", "output", "metrics", "interpreter"),
)
"""What `{…}` in a word of a command may name: places that we made, so that no value of a person's becomes an option."""
MOST_WORDS: Final = 200
LONGEST_WORD: Final = 4096
_place = re.compile(r"\{([A-Za-z_]+)\}")


def outside(train: TrainSection) -> bool:
    """Whether the code runs in an environment of its own, that has none of our packages."""
    return train.run is not None or bool(train.command)


def named_code(train: TrainSection) -> str | None:
    """What is run of a person's own, in words; None for a learner of ours."""
    return train.python or train.run or (" ".join(train.command)[:200] if train.command else None)


def file_of(train: TrainSection) -> str | None:
    """The one file that has to be taken along, by its path beside the definition; None where there is none."""
    if train.python is not None:
        return train.python.partition(":")[0]
    if train.run is None:
        return None
    file, _ = called("train.run", train.run)
    return file if train.code in (None, ".") else f"{train.code}/{file}"


def called(field: str, text: str) -> tuple[str, str]:
    """File and function of `FILE.py:FUNCTION`; the file is relative, without `..`."""
    file, _, name = text.partition(":")
    if not name.isidentifier() or not file.endswith(".py"):
        raise got(field, text, "FILE.py:FUNCTION, as train.py:train")
    return checked_path(file), name


def check_train(train: TrainSection) -> None:
    """Raise for a section that says two things at once, or what cannot be started; nothing is looked for on the
    disk."""
    asked = [name for name in ("python", "run", "command") if getattr(train, name)]
    if len(asked) > 1:
        raise got("train", " and ".join(asked), "one of python, run and command")
    if train.run is not None:
        called("train.run", train.run)
        if train.interpreter is None:
            raise got(
                "train.interpreter", "nothing", "the Python of its environment; python = … takes the daemon's own"
            )
    if train.code is not None:
        if not outside(train):
            raise got("train.code", train.code, "none without run or command")
        if train.code != ".":
            checked_path(train.code)
    if train.interpreter is not None:
        if not outside(train):
            raise got("train.interpreter", train.interpreter, "none without run or command")
        checked_text("train.interpreter", train.interpreter, longest=LONGEST_WORD)
        if not PurePosixPath(train.interpreter).is_absolute():
            raise got("train.interpreter", train.interpreter, "an absolute path")
    if train.command:
        _check_command(train)


def _check_command(train: TrainSection) -> None:
    if len(train.command) > MOST_WORDS:
        raise got("train.command", f"{len(train.command)} words", f"at most {MOST_WORDS}")
    for word in train.command:
        if len(word) > LONGEST_WORD or "\0" in word:
            raise got("train.command", word[:60], f"words of at most {LONGEST_WORD:,} characters")
        for name in _place.findall(word):
            if name not in PLACES or (name == "interpreter" and train.interpreter is None):
                known = [each for each in PLACES if each != "interpreter" or train.interpreter]
                raise got("train.command", "{" + name[:40] + "}", ", ".join("{" + each + "}" for each in known))
    if not train.command[0].strip() or train.command[0].startswith("-"):
        raise got("train.command", train.command[0], "a program")


def filled(word: str, places: dict[str, str]) -> str:
    """A word of a command with its places in it."""
    return _place.sub(lambda found: places[found[1]], word)
