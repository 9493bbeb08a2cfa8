"""What the doors over HTTP share: a JSON body as a record, the caller's key, headers and faults of an answer."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from quarterdeckd.http.server import Request, Response
from quarterdeckd.serving.inference import Stamp
from quarterstore.records.faults import MEANINGS, Fault, Overloaded, got

Body = TypeVar("Body")


def decoded(body: bytes, kind: type[Body], decoder: msgspec.json.Decoder[Body], what: str, form: str) -> Body:
    """A body as a record; raises `Invalid`. JSON has no NaN and no Infinity, but Python's `json.dumps` writes them, and
    1e999 is beyond every number: such a body is read all the same, so that the complaint can name the value. Of an
    error the words are kept: an error in a variable holds this frame, and so the body, until garbage is collected."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = str(error)
    if b"NaN" in body or b"Infinity" in body or "out of range" in found:
        try:
            return msgspec.convert(json.loads(body), kind)
        except msgspec.ValidationError as error:
            found = str(error)
        except (ValueError, RecursionError):
            pass  # the first complaint stands
    raise got("body", f"JSON that is no {what} ({found[:150]})", form)


def refuse_encoded(request: Request) -> None:
    """Raise `Invalid` for a compressed body: it would be read as broken JSON."""
    encoding = request.headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        raise got("content-encoding", encoding, "none")


def sticky(request: Request, key: Any, field: str) -> str | None:
    """What keeps a caller on one arm: the header `quarterdeck-key`, else the key in the body. Never the request's `id`:
    a client that sends the same one each time would put all its traffic on one arm."""
    header = request.headers.get(b"quarterdeck-key")
    return header.decode("latin-1") if header else checked_key(key, field)


def checked_key(key: Any, field: str) -> str | None:
    """A key as a text; raises `Invalid`."""
    if key is None or key == "":
        return None
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise got(field, type(key).__name__, "a text or a number")
    return str(key)


def headers(stamp: Stamp) -> bytes:
    """Version, epoch, prediction and arm as header lines."""
    about = _about(stamp.version, stamp.epoch, stamp.arm)
    return b"%bquarterdeck-prediction: %b\r\n" % (about, stamp.prediction.encode())


@lru_cache(256)
def _about(version: str, epoch: int, arm: str) -> bytes:
    words = f"quarterdeck-version: {version}\r\nquarterdeck-epoch: {epoch}\r\nquarterdeck-arm: {arm}\r\n"
    return words.encode("latin-1", "replace")


def refused(fault: Fault, stamp: Stamp | None = None) -> Response:
    """A fault as the Open Inference Protocol spells it, under the status that it has everywhere."""
    status = MEANINGS[type(fault)].http
    if stamp is None:
        later = b"retry-after: %d\r\n" % fault.after if isinstance(fault, Overloaded) else b""
        return Response(status, msgspec.json.encode({"error": fault.line(), **fault.figures}), later)
    body = msgspec.json.encode({"error": fault.line(), "id": stamp.prediction})
    return Response(status, body, headers(stamp))
