"""The rules of package lists."""

from __future__ import annotations

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.finding import one_of, run_of
from quarterstore.ledger.state import State
from quarterstore.records import packages
from quarterstore.records.faults import NotFound, got
from quarterstore.records.names import checked_text

MOST = 5000


def _keep(state: State, act: packages.KeepPackages, asking: Asking) -> Decision:
    if not 0 < len(act.packages) <= MOST:
        raise got("packages", f"{len(act.packages)} of them", f"1 to {MOST}")
    found = tuple(sorted({checked_text("packages", each) for each in act.packages}))
    for each in found:
        if "==" not in each:
            raise got("packages", each, "NAME==VERSION")
    digest = packages.digest_of(found)
    known = state.packages.get(digest)
    if known is not None:
        return Decision([], f"{len(found)} packages are kept already", lambda after: known)
    kept = packages.PackageList(digest=digest, packages=found)
    return Decision([packages.PackagesKept(list=kept)], f"kept a list of {len(found)} packages", lambda after: kept)


def _show(state: State, query: packages.ShowPackages, asking: Asking) -> packages.PackageList:
    wanted = query.packages
    if wanted.startswith("run-"):
        run = run_of(state, wanted, removed=True)
        if run.source.packages is None or run.source.packages not in state.packages:
            raise NotFound(f"{run.id} names no list of packages that is kept here", field="packages")
        wanted = run.source.packages
    found: packages.PackageList = one_of(state.packages, "packages", wanted)
    return found


RULES: Rules = {packages.KeepPackages: _keep}
ANSWERS: Answerers = {packages.ShowPackages: _show}
