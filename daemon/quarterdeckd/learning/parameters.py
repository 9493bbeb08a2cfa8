"""The built-in learners and their parameters, with what each is unless given; loads no library."""

from __future__ import annotations

from typing import Any

TABULAR: dict[str, dict[str, Any]] = {
    "logistic": {"c": 1.0, "iterations": 300},
    "forest": {"trees": 100, "depth": 0, "leaf": 0},
    "boosting": {"trees": 100, "depth": 3, "rate": 0.1},
    "ridge": {"alpha": 1.0},
}
"""Learner -> its parameters. `depth` 0 is unlimited; `leaf` 0 takes a thousandth of the rows, at least 2, which keeps
the exported forest small (100 trees fully grown on 4,000 rows are 6 MB and take 3 s to convert)."""

MLP: dict[str, Any] = {
    "hidden": [64, 64],
    "epochs": 60,
    "batch": 0,
    "rate": 2e-3,
    "decay": 1e-4,
    "patience": 15,
}
"""`batch` 0 takes 32 rows up to 2,000 rows and 256 beyond; `patience` epochs without a lower `val_loss` end the
training."""

LEARNERS: dict[str, dict[str, Any]] = {"mlp": MLP, **TABULAR}
