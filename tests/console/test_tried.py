"""What people type first leads to the command that does it, and each of those is one."""

from __future__ import annotations

import click
import pytest

from quarterdeck.cli.main import command
from quarterdeck.cli.tried import TRIED
from tests.command import said


@pytest.mark.parametrize("words", sorted(TRIED))
def test_what_is_tried_is_no_command_and_what_is_said_instead_is_one(words: str) -> None:
    root = command()
    assert isinstance(root, click.Group)
    assert found(root, words) is None
    assert found(root, TRIED[words]) is not None


def found(root: click.Group, words: str) -> click.Command | None:
    """The command of these words."""
    noun, _, verb = words.partition(" ")
    group = root.get_command(click.Context(root), noun)
    if not verb:
        return group
    if noun == "runs" or not isinstance(group, click.Group):
        return None
    return group.get_command(click.Context(group), verb)


def test_the_command_that_is_meant_is_said_in_one_line_with_exit_code_2() -> None:
    for words, meant in (("version list", "qd registry versions"), ("versions", "qd registry versions")):
        done = said(words.split(), {})
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1 and f"that is: {meant}; see" in done.stderr, done.stderr


def test_another_word_is_answered_with_the_nearest_ones() -> None:
    assert "nearest: versions" in said(["registry", "verions"], {}).stderr
