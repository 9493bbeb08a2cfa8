"""Where a training of the network stands, kept in a file, so that one that was cut off goes on as if it never was."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

import torch

from quarterdeckd.learning.fitted import Floats

EVERY = 1.0
"""Seconds of learning between two checkpoints, at least; more where writing one takes more than a twentieth of it."""
SHARE = 20


class Standing(NamedTuple):
    """Epochs done, the lowest watched loss, the epoch that had it and the network of then, (weight, bias) a layer."""

    epoch: int
    best: float
    kept: int
    keep: list[tuple[Floats, Floats]]


class Keeper:
    """Keeps and takes up the standing of one training in a folder; without a folder it does neither."""

    def __init__(
        self, folder: Path | None, net: torch.nn.Module, optimiser: torch.optim.Optimizer, shuffle: torch.Generator
    ) -> None:
        self._path = folder / "network.pt" if folder is not None else None
        self._net, self._optimiser, self._shuffle = net, optimiser, shuffle
        self._next = time.monotonic() + EVERY

    def taken_up(self, fresh: Standing) -> Standing:
        """What was kept, with network, optimiser and dice set to it; `fresh` where nothing was."""
        if self._path is None or not self._path.exists():
            return fresh
        kept = torch.load(self._path, weights_only=True, map_location="cpu")
        self._net.load_state_dict(kept["net"])
        self._optimiser.load_state_dict(kept["optimiser"])
        self._shuffle.set_state(kept["shuffle"])
        print(f"went on from the checkpoint of epoch {kept['epoch']}", flush=True)
        layers = [(weight.numpy(), bias.numpy()) for weight, bias in kept["keep"]]
        return Standing(kept["epoch"], kept["best"], kept["kept"], layers)

    def keep(self, standing: Standing) -> None:
        """Write it when it is time, whole or not at all."""
        began = time.monotonic()
        if self._path is None or began < self._next:
            return
        part = self._path.with_name("network.pt.part")
        state = {
            "net": self._net.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "shuffle": self._shuffle.get_state(),
            **standing._asdict(),
            "keep": [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in standing.keep],
        }
        torch.save(state, part)
        os.replace(part, self._path)
        now = time.monotonic()
        self._next = now + max(EVERY, SHARE * (now - began))
