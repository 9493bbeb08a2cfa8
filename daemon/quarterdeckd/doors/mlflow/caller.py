"""Who asks at the door: a person by a bearer token, and how that person speaks to the deck."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.identity import public_half
from quarterdeckd.api.permissions import Speaker, speaker_of
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterstore.ledger.state import State
from quarterstore.records.base import answer_type
from quarterstore.records.experiments import Experiment
from quarterstore.records.faults import Forbidden
from quarterstore.records.runs import Run

MANUAL = "See the API docs for more information about request parameters."
LONGEST_SHOWN = 500
Newest = Callable[[str], Mapping[str, tuple[int, float, float]]]
"""The newest point (step, time, value) of each metric of a run, as far as it is in memory."""


class Caller:
    """One request's person; asks the deck as any client does, through the same dispatch."""

    def __init__(self, dispatch: Dispatch, speaker: Speaker, newest: Newest) -> None:
        self.dispatch = dispatch
        self.speaker = speaker
        self.newest = newest

    @property
    def view(self) -> State:
        """The state as it is certain."""
        return self.dispatch.view

    async def ask(self, message: Any) -> Any:
        """The typed answer of a message, or its fault."""
        return await self.dispatch.speak(message, answer_type(type(message)), speaker=self.speaker)

    def experiment(self, given: dict[str, Any], *, active: bool = False) -> Experiment:
        """The experiment that a request names by its number."""
        number = text(given, "experiment_id")
        if not number.removeprefix("-").isdecimal():
            raise invalid(f"Invalid experiment ID '{number[:200]}'. Experiment ID must be a valid integer.")
        found = next((each for each in self.view.experiments if each.id == number), None)
        if found is None:
            raise absent(f"No Experiment with id={number} exists")
        if active and found.removed is not None:
            raise invalid(f"The experiment {number} must be in the 'active' state. Current state is deleted.")
        return found

    def run(self, given: dict[str, Any], *, active: bool = False) -> Run:
        """The run that a request names."""
        number = given.get("run_id") or given.get("run_uuid")
        if not number:
            raise missing("run_id")
        if not isinstance(number, str):
            raise unfit("run_id", number, "a string")
        found = self.view.runs.get(number)
        if found is None:
            raise absent(f"Run with id={number[:200]} not found")
        if active and found.removed is not None:
            raise invalid(f"The run {number} must be in the 'active' state. Current state is deleted.")
        return found


def missing(name: str) -> MlflowError:
    """A parameter that has to be given."""
    return invalid(f"Missing value for required parameter '{name}'. {MANUAL}")


def text(given: dict[str, Any], name: str, default: str | None = None) -> str:
    """A text of a request; required where it has no default."""
    value = given.get(name)
    if value is None or value == "":
        if default is None:
            raise missing(name)
        return default
    if not isinstance(value, str):
        raise unfit(name, value, "a string")
    return value


def unfit(name: str, value: Any, expected: str) -> MlflowError:
    """A parameter of another kind, its value as JSON."""
    hint = f"Hint: Value was of type '{type(value).__name__}'"
    return invalid(
        f"Invalid value {shown(value)} for parameter '{name}' supplied: expected {expected}. {hint}. {MANUAL}"
    )


def shown(value: Any) -> str:
    """A value of a request as JSON, the start of it where it is long."""
    found = msgspec.json.encode(value).decode()
    return found if len(found) <= LONGEST_SHOWN else f"{found[:LONGEST_SHOWN]}…"


def number(given: dict[str, Any], name: str, default: int | None = None) -> int:
    """A whole number of a request, which may come as a text (proto3's JSON)."""
    value = given.get(name)
    if value is None:
        if default is None:
            raise missing(name)
        return default
    try:
        if isinstance(value, bool):
            raise ValueError
        found = int(value)
        if not -(2**63) <= found < 2**63:
            raise ValueError
        return found
    except (TypeError, ValueError, OverflowError) as error:
        raise unfit(name, value, "an integer") from error


def enumerated(given: dict[str, Any], name: str, words: Sequence[str]) -> str:
    """One of some words, or its place among them from 1 on (proto3's JSON takes both); empty where it is not given."""
    value = given.get(name)
    if value is None or value == "":
        return ""
    if str(value) in words:
        return str(value)
    place = number(given, name) if str(value).isdecimal() else 0
    if not 1 <= place <= len(words):
        raise invalid(
            f"Invalid value {shown(value)} for parameter '{name}' supplied: expected one of {', '.join(words)}."
        )
    return words[place - 1]


def listed(given: dict[str, Any], name: str) -> list[Any]:
    """A list of a request, empty where it is not given."""
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise unfit(name, value, "a list")
    return value


def objects(given: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects of a request, empty where it is not given."""
    found = listed(given, name)
    for each in found:
        if not isinstance(each, dict):
            raise unfit(name, found, "a list of objects")
    return found


def pairs(given: dict[str, Any], name: str) -> dict[str, str]:
    """A list of {key, value} as a dict of texts."""
    return {text(each, "key"): text(each, "value", "") for each in objects(given, name)}


def speaker_at(view: State, authorization: str, profile: str, owner: str) -> Speaker:
    """The person of a bearer token, which is the secret of that person's key; in `solo` the owner needs none."""
    kind, _, token = authorization.partition(" ")
    if not authorization:
        if profile != "solo":
            raise MlflowError("UNAUTHENTICATED", "no token was given; set MLFLOW_TRACKING_TOKEN to your key's secret")
        return speaker_of(view, owner)
    try:
        if kind.lower() != "bearer":
            raise ValueError
        return speaker_of(view, public_half(token.strip().encode()))
    except (ValueError, Forbidden) as error:
        raise MlflowError("UNAUTHENTICATED", "the token is the secret of no key that may speak") from error
