"""A training of the network that is cut off, wherever, and begun again gives the network it would have given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarterdeckd.learning import checkpoints, torch_loop
from quarterdeckd.learning.parameters import MLP


class Cut(Exception):
    """The process was ended."""


def trained(folder: Path | None, cut: int = 0) -> tuple[torch_loop.Mlp, list[int]]:
    """The network of 60 rows, and the epochs that were told; ended behind epoch `cut`."""
    draw = np.random.default_rng(1)
    x = draw.normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    told: list[int] = []

    def points(epoch: int, values: dict[str, float]) -> None:
        told.append(epoch)
        if epoch == cut:
            raise Cut

    params: dict[str, Any] = {**MLP, "hidden": [8], "epochs": 20, "batch": 16, "patience": 8}
    return torch_loop.fit(x[:45], y[:45], x[45:], y[45:], 2, params, 7, points, folder), told


@pytest.mark.parametrize("cut", [1, 2, 9, 19])
def test_a_training_that_was_cut_off_gives_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """To the last bit, and what is done again is no more than the epoch since the last checkpoint."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 0)
    whole, _ = trained(None)
    with pytest.raises(Cut):
        trained(tmp_path, cut)
    mended, told = trained(tmp_path)
    assert told[0] == cut
    assert (mended.epoch, mended.epochs) == (whole.epoch, whole.epochs)
    for (weight, bias), (other, beside) in zip(mended.layers, whole.layers, strict=True):
        assert np.array_equal(weight, other) and np.array_equal(bias, beside)


def test_half_a_checkpoint_is_never_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written beside and renamed."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    (tmp_path / "network.pt.part").write_bytes(b"half")
    _, told = trained(tmp_path)
    assert told[0] == 1
