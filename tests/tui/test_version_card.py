"""What the registry screen says of a version's file."""

from __future__ import annotations

from quarterdeck.tui.screens.version_cards import overview_card
from quarterstore.records.registry import Signature, Tensor, Version

SHAPE = Signature(inputs=(Tensor("x", "FP32", (-1, 2)),), outputs=(Tensor("y", "FP32", (-1, 1)),))


def card(form: str, code: tuple[str, ...], allowed: bool) -> str:
    version = Version(
        id="m@1",
        model="m",
        number=1,
        semver="1.0.0",
        stage="None",
        digest="0" * 64,
        size=10,
        format=form,
        signature=SHAPE,
        created=0.0,
        created_by="ana",
        reason="the first version",
        allow_code=allowed,
        code=code,
    )
    return overview_card(version, None, 10.0, 100).plain


def test_a_version_that_runs_code_says_so_and_what_it_imports() -> None:
    assert "runs code" not in card("onnx", (), allowed=False)
    shown = card("pickle", ("posix.system", "evil\x1b[2J.name"), allowed=True)
    assert "runs code" in shown and "posix.system" in shown and "\x1b" not in shown
