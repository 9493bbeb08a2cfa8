"""`qd schedule` and `qd schedules` are one noun: the same words mean the same at both."""

from __future__ import annotations

import click
import pytest

from quarterdeck.cli.main import command
from quarterdeck.cli.short.scheduling import schedule_group


@pytest.mark.parametrize("verb", sorted(schedule_group()))
def test_a_verb_of_schedule_is_that_of_schedules(verb: str) -> None:
    root = command()
    assert isinstance(root, click.Group)
    context = click.Context(root)
    shown = []
    for noun in ("schedule", "schedules"):
        group = root.get_command(context, noun)
        assert isinstance(group, click.Group)
        found = group.get_command(context, verb)
        assert found is not None
        shown.append((found.help, [(each.name, each.opts, each.required) for each in found.params]))
    assert shown[0] == shown[1]
