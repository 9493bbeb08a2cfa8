"""A batch's file of rows, looked at before the act is decided: what cannot be answered becomes no job."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.dispatch import Prepare
from quarterdeckd.services.batches import spec_of
from quarterdeckd.work.uploads import Uploads, told_by
from quarterstore.ledger.state import State
from quarterstore.records.batches import StartBatch
from quarterstore.shelf.artefacts import Artefacts


class Fitting:
    """Looks at uploaded rows; in a thread, because a process reads the file."""

    def __init__(self, view: State, artefacts: Artefacts) -> None:
        self._view = view
        self._artefacts = artefacts

    def preparers(self) -> dict[type, Prepare]:
        """The act that names rows -> what looks at those first."""
        return {StartBatch: self.checked}

    def checked(self, act: StartBatch) -> StartBatch:
        """The act, when its file is kept and has the columns that the version takes; `NotFound` or `Invalid` else."""
        Uploads(self._artefacts).kept(act)
        spec = spec_of(self._view, act)
        spec = replace(spec, data=str(self._artefacts.path(act.digest)))
        if spec.signature.inputs:  # else only the job knows, from the model's file
            told_by("quarterdeckd.serving.fitting", bool, given=msgspec.json.encode(spec))
        return act
