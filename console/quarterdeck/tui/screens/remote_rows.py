"""Endpoints of other decks among our own: a row each, and a card; what is not known of them is a dash, never a 0."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from quarterdeck.tui.messages import Deck
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, facts, number, right, safe, section, state, title
from quarterdeck.wording import command_text
from quarterstore.records.remotes import EndpointThere, ListReached, RemoteStatus, RollBackThere, ShowRemote


class There(NamedTuple):
    """An endpoint of a remote, as that remote was when it was asked last."""

    status: RemoteStatus
    endpoint: EndpointThere

    @property
    def name(self) -> str:
        """How it is told from one of ours."""
        return f"{self.endpoint.endpoint} on {self.status.remote}"

    @property
    def changed(self) -> float | None:
        """When the remote answered last."""
        return self.status.heard

    @property
    def command(self) -> str:
        """What asks it again."""
        return command_text(ShowRemote(remote=self.status.remote))

    @property
    def way_back(self) -> RollBackThere:
        """The act that rolls it back."""
        return RollBackThere(remote=self.status.remote, endpoint=self.endpoint.endpoint, reason="from the console")


async def remote_rows(deck: Deck) -> list[tuple[str, There]]:
    """Every endpoint of every remote that something was deployed on."""
    return [
        (found.name, found)
        for status in await deck.ask(ListReached())
        for found in (There(status, endpoint) for endpoint in status.endpoints)
    ]


def there_cells(found: There, now: float) -> tuple[Text, ...]:
    """Its row; the last column says when it was heard of."""
    there = found.endpoint
    return (
        safe(found.name, 60),
        # the longest state fills its column without a glyph: a wider one would cost the column of requests
        safe(there.state, 20, "red") if there.state == "UNREACHABLE" else state(there.state),
        safe(there.live or "-", 60),
        safe(there.pending or "-", 60),
        right("-"),
        right(f"{there.requests:,}" if there.requests is not None else "-"),
        right(number(there.p95, 3)),
        right(f"{there.errors:,}" if there.errors is not None else "-", "bold red" if there.errors else ""),
        right(ago(found.changed, now)),
    )


def there_card(found: There, now: float) -> Drawing:
    """An endpoint there in full: what is known of it, and since when nothing is."""
    status, there = found.status, found.endpoint

    def drawn(width: int, height: int) -> Text:
        heard = f"heard of {ago(status.heard, now)}" if status.heard else "not heard of since the daemon started"
        text = title(found.name, [state(there.state)], heard, width)
        figures = (
            ("answers", there.live or "-"),
            ("note", status.why or there.why or "-"),
            ("bundle", there.bundle or "-"),
            ("requests/s", number(there.requests)),
            ("errors/s", number(there.errors)),
            ("P95 ms", number(there.p95, 3)),
        )
        text.append_text(section("the endpoint", facts(figures, room=width), width))
        about = (
            ("address", status.url),
            ("failures", number(status.failures)),
            ("deck", status.deck or "-"),
            ("version", status.version or "-"),
            ("profile", status.profile or "-"),
        )
        text.append_text(section(f"the remote {status.remote}", facts(about, room=width), width))
        return text

    return drawn
