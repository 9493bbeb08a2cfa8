"""Names and lengths that MLflow's clients expect to be refused, in the words they look for (mlflow.utils.validation,
3.17)."""

from __future__ import annotations

import posixpath
import re

from quarterdeckd.doors.mlflow.caller import missing, shown
from quarterdeckd.doors.mlflow.errors import MlflowError, invalid

LONGEST_KEY, LONGEST_PARAM, LONGEST_TAG = 250, 6000, 8000
LONGEST_EXPERIMENT, LONGEST_ALIAS = 500, 255

_key = re.compile(r"[/\w.\- :]*\Z")
_alias = re.compile(r"[\w\-]*\Z")
_numbered = re.compile(r"[vV]\d+\Z")
_characters = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and "
    "slashes (/)."
)


def key(name: str, place: str = "key") -> str:
    """The name of a metric, a parameter or a tag; `place` is where the request has it."""
    if not _key.match(name):
        raise _unfit(name, place, _characters)
    return unmistakable(name, place)


def unmistakable(name: str, place: str) -> str:
    """A name that stays itself when a client takes it for a path."""
    plain = posixpath.normpath(name)
    if plain != name or plain == "." or plain.startswith(("..", "/")):
        words = "Names may be treated as files in certain cases, and must not resolve to other names when treated as"
        raise _unfit(name, place, f"{words} such. This name would resolve to {plain!r}")
    return name


def _unfit(name: str, place: str, words: str) -> MlflowError:
    return invalid(f"Invalid value {shown(name)} for parameter '{place}' supplied: {words}")


def within(value: str, most: int, place: str) -> str:
    """A text of a bearable length."""
    if len(value) > most:
        raise invalid(f"'{place}' exceeds the maximum length of {most} characters: it has {len(value)}")
    return value


def metric(name: str, place: str = "name") -> str:
    """The name of a metric."""
    return within(key(name, place), LONGEST_KEY, "Metric name")


def param(name: str, value: str, place: str = "") -> tuple[str, str]:
    """A parameter; one that is too long is refused, never cut."""
    within(key(name, f"{place}key"), LONGEST_KEY, "Param key")
    return name, within(value, LONGEST_PARAM, "Param value")


def tag(name: str, value: str, place: str = "") -> tuple[str, str]:
    """A tag of a run; one that is too long is refused, never cut."""
    within(key(name, f"{place}key"), LONGEST_KEY, f"{place}key")
    return name, within(value, LONGEST_TAG, f"{place}value")


def tags(given: dict[str, str]) -> dict[str, str]:
    """Tags whose names and values may be."""
    for name, value in given.items():
        tag(name, value)
    return given


def keys(given: dict[str, str]) -> dict[str, str]:
    """Tags of the registry: their names may be; their values are the deck's to judge."""
    for name in given:
        within(key(name), LONGEST_KEY, "key")
    return given


def experiment(name: str) -> str:
    """The name of an experiment."""
    return within(name, LONGEST_EXPERIMENT, "name")


def model(name: str, place: str = "name") -> str:
    """The name of a registered model."""
    if not name.strip():
        raise missing(place)
    if "/" in name or ":" in name:
        raise invalid(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    return unmistakable(name, "name")


def logged_model(name: str) -> str:
    """The name of a logged model; empty where one is to be chosen."""
    if found := [mark for mark in "/:.%\"'" if mark in name]:
        raise invalid(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string and cannot contain the "
            f"following characters: {', '.join(found)}"
        )
    return name


def alias(word: str) -> str:
    """A word that may name a version."""
    if not _alias.match(word):
        raise invalid(
            f"Invalid alias name: '{word}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    within(word, LONGEST_ALIAS, "Registered model alias name")
    if word.lower() == "latest":
        raise invalid("'latest' alias name (case insensitive) is reserved.")
    if _numbered.match(word):
        raise invalid(f"Version alias name '{word}' is reserved.")
    return word
