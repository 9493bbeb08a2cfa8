"""Names made to harm a terminal, and a daemon that cleans nothing."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from quarterdeck.async_client import AsyncClient

SEED = 0  # nothing is drawn by lot: every name is tried
ODD = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]52;c;aGk=\x07",
    "\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31mc1",
    "\x9d0;title\x9c",
    "\x90q\x9c",
    "\x1b[2J\x1b[H",
    "\x1b[?1049l",
    "\x1bc",
    "bell\x07",
    "carriage\rreturn",
    "line\nbreak",
    "tab\tstop",
    "a\x00b",
    "back\x08\x08space",
    "delete\x7f",
    "\u202eright to left",
    "\u202aembedded\u202c",
    "\u2066isolate\u2069",
    "\u200fmark",
    "zero\u200bwidth",
    "joiner\u200d",
    "\ufeffmark",
    "next\x85line",
    "line\u2028separator",
    "paragraph\u2029separator",
    "tag\U000e0041",
    "lone\ud800".encode("utf-8", "replace").decode(),
    "[/b] plan",
    "[b]bold",
    "[IMPORTANT]",
    "model[/",
    "[/]",
    "[[",
    "[link=http://x]c",
    "[link=http://x",
    "[@click=app.quit]x[/]",
    "[@click='app.bell']x",
    "[red on blue]x",
    "\\[b]",
    ":skull: :rocket:",
    "$(touch canary)",
    "%s%n{0}{{7*7}}",
    "..\u2026",
    "-rf --help",
    " ",
    "  two  spaces  ",
    "\u00e9clair e\u0301clair \u212b",
    "\U0001f680 rocket",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "\U0001f1e9\U0001f1ea flag",
    "\u2764\ufe0f heart",
    "\u0645\u0631\u062d\u0628\u0627",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57",
    "\uff26\uff55\uff4c\uff4c",
    "a" + "\u0301" * 50,
    "\u2588" * 300,
    "x" * 10_240,
)
"""Sixty names made to harm a terminal, its markup or its columns."""


class Poisoned:
    """A real connection whose answers carry a hostile text in every free field: a daemon that cleans nothing."""

    def __init__(self, deck: AsyncClient) -> None:
        self._deck = deck
        self.names: tuple[str, ...] = ()
        self._count = 0
        self._meant: dict[str, str] = {}

    async def ask(self, message: Any) -> Any:
        """Ask with what was meant, answer with what harms."""
        answer = await self._deck.ask(self._changed(message, lambda value: self._meant.get(value, value)))
        return answer if not self.names else self._changed(answer, self._harmful)

    def _harmful(self, value: str) -> str:
        self._count += 1
        found = f"{self.names[self._count % len(self.names)]}{value}"
        self._meant[found] = value
        return found

    def _changed(self, value: Any, change: Callable[[str], str]) -> Any:
        if isinstance(value, msgspec.Struct):
            hints = typing.get_type_hints(type(value))
            fields = {field.name: getattr(value, field.name) for field in msgspec.structs.fields(value)}
            found = {}
            for name, each in fields.items():
                if isinstance(each, str):
                    found[name] = change(each) if hints[name] in (str, str | None) else each
                else:
                    found[name] = self._changed(each, change)
            return msgspec.structs.replace(value, **found)
        if isinstance(value, list | tuple):
            changed = [change(each) if isinstance(each, str) else self._changed(each, change) for each in value]
            return changed if isinstance(value, list) else tuple(changed)
        if isinstance(value, dict):
            return {
                change(key): change(each) if isinstance(each, str) else self._changed(each, change)
                for key, each in value.items()
            }
        return value

    async def follow(self) -> AsyncIterator[Any]:
        """The feed as it is."""
        async for item in self._deck.follow():
            yield item

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """As it is."""
        self._deck.on_state(callback)

    async def close(self) -> None:
        """Let go."""
        await self._deck.close()
