"""The palette behind `:`: every screen by name."""

from __future__ import annotations

from textual.command import DiscoveryHit, Hit, Hits, Provider

from quarterdeck.tui.keymap import SCREENS


class GoTo(Provider):
    """`:runs`, `:registry`, …: typed fuzzily."""

    async def discover(self) -> Hits:
        """Everything, before anything is typed."""
        for key, name in SCREENS:
            yield DiscoveryHit(name, lambda name=name: self.app.run_action(f"go('{name}')"), help=f"key {key}")

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query.lstrip(":"))
        for key, name in SCREENS:
            score = matcher.match(name)
            if score > 0:
                yield Hit(
                    score,
                    matcher.highlight(name),
                    lambda name=name: self.app.run_action(f"go('{name}')"),
                    help=f"key {key}",
                )
