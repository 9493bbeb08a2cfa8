"""How long ago something was, whatever was done to the wall clock meanwhile."""

from __future__ import annotations

from typing import NamedTuple

from quarterstore.records.moments import Moment


class Now(NamedTuple):
    """This moment, and the one at which this daemon began."""

    moment: Moment
    began: Moment

    def since(self, then: Moment) -> float:
        """Seconds since a moment: by the clock of the machine while that runs, which no jump of the wall clock moves.
        Of a moment before the machine began: what the journal's times say up to the start of this daemon, at least
        nothing, and by the clock of the machine from there on."""
        if then.boot and then.boot == self.moment.boot and then.up <= self.moment.up:
            return self.moment.up - then.up
        return max(0.0, self.began.at - then.at) + self.moment.up - self.began.up
