"""The key of a step: another one whenever what it does may differ."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeckd.pipeline import keying
from quarterstore.records import flows
from quarterstore.records.pipelines import DataSection, Definition, TrainSection
from quarterstore.records.spaces import Parameter, TuneSection

FILES = {"train.py": "a" * 64}


def key_of(uses: str, files: dict[str, str], **train: Any) -> str:
    definition = Definition(
        name="p",
        model="m",
        data=DataSection(target="y", builtin="iris"),
        train=TrainSection(**train),
        tune=TuneSection(
            objectives={"accuracy": "maximise"}, space={"rate": Parameter(kind="float", low=0.1, high=0.2)}
        ),
    )
    step = next(step for step in flows.flow(definition) if step.uses == uses)
    return keying.key(definition, step, None, files, {})


@pytest.mark.parametrize("uses", ["tune", "train"])
def test_code_of_ones_own_that_is_trained_with_is_part_of_the_key(uses: str) -> None:
    """A search over a training function that was changed would be taken from the cache of the former one."""
    own = {"python": "train.py:train"}
    assert key_of(uses, FILES, **own) == key_of(uses, FILES, **own)
    assert key_of(uses, FILES, **own) != key_of(uses, {"train.py": "b" * 64}, **own)
    assert key_of(uses, FILES) == key_of(uses, {"train.py": "b" * 64})


def test_our_own_source_is_read_in_every_folder() -> None:
    """The search for parameters has a folder of its own."""
    keying._ours.cache_clear()
    read = []

    class Hasher:
        def update(self, data: bytes) -> None:
            read.append(data)

        def hexdigest(self) -> str:
            return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keying.hashlib, "sha256", Hasher)
        keying._ours()
    keying._ours.cache_clear()
    assert any(data.startswith(b"tuning/asking.py\0") for data in read)
