"""The keys, in one table: what they do everywhere, and the words of the help screen."""

from __future__ import annotations

SCREENS: tuple[tuple[str, str], ...] = (
    ("1", "bridge"),
    ("2", "runs"),
    ("3", "registry"),
    ("4", "deployments"),
    ("5", "pipelines"),
    ("6", "monitoring"),
    ("7", "governance"),
    ("8", "hooks"),
    ("9", "studies"),
    ("0", "schedules"),
    ("f", "features"),
)
"""Key and screen; the words are also what `:` takes."""
SHORT = {
    "registry": "reg",
    "deployments": "dep",
    "pipelines": "pipe",
    "monitoring": "mon",
    "governance": "gov",
    "studies": "tune",
    "schedules": "sched",
    "features": "feat",
}
"""What a tab is called where the words themselves leave no room for what waits behind them."""

EVERYWHERE: tuple[tuple[str, str], ...] = (
    ("0-9 f", "go to a screen"),
    (":", "go to a screen, or do what a key does, by name"),
    ("/", "filter as you type"),
    ("enter", "open the row under the cursor"),
    ("esc", "clear the filter, else go back"),
    ("j k g G", "down, up, the first, the last (arrows too)"),
    ("y / Y", "copy the id / the equivalent qd command"),
    ("s / S", "sort by the next column / the other way round"),
    ("r / z", "refresh now / pause live updates"),
    ("?", "this help"),
    ("q", "quit; what runs in the daemon goes on"),
)
