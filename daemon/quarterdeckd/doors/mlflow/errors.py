"""Faults as MLflow's clients know them: an error code in the body, the HTTP status that belongs to it."""

from __future__ import annotations

import msgspec

from quarterdeckd.http.server import Response
from quarterstore.records.faults import MEANINGS, Fault

STATUS = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "INVALID_STATE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "REQUEST_LIMIT_EXCEEDED": 429,
    "RESOURCE_LIMIT_EXCEEDED": 429,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}
"""mlflow.exceptions.ERROR_CODE_TO_HTTP_STATUS, 3.17."""


class MlflowError(Exception):
    """A refusal of the door itself, in MLflow's words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


def invalid(words: str) -> MlflowError:
    """A parameter that is not right."""
    return MlflowError("INVALID_PARAMETER_VALUE", words)


def absent(words: str) -> MlflowError:
    """Something that is not there."""
    return MlflowError("RESOURCE_DOES_NOT_EXIST", words)


def answered(error: MlflowError | Fault) -> Response:
    """The answer that says what was wrong."""
    if isinstance(error, MlflowError):
        code, words = error.code, str(error)
    else:
        code = next(MEANINGS[kind].mlflow for kind in type(error).__mro__ if kind in MEANINGS)
        words = "\n".join([error.line(), *error.pointed()])
    return Response(STATUS.get(code, 500), msgspec.json.encode({"error_code": code, "message": words}))
