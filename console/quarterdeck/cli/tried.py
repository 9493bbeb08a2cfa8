"""What people type first and is no command, and the command that does it."""

from __future__ import annotations

TRIED = {
    "alerts": "monitoring alerts",
    "approvals": "governance approvals",
    "audit list": "governance audit",
    "canary list": "deployments list",
    "data list": "datasets list",
    "data ls": "datasets list",
    "data show": "datasets show",
    "deployment list": "deployments list",
    "deployment show": "deployments show",
    "deployments status": "deployments list",
    "drill list": "drills list",
    "endpoints": "deployments list",
    "features views": "features list",
    "hook list": "hook ls",
    "keys list": "people list-keys",
    "list": "registry models",
    "log": "governance audit",
    "logs": "pipeline logs",
    "ls": "registry models",
    "model list": "registry models",
    "model versions": "registry versions",
    "models list": "registry models",
    "models versions": "registry versions",
    "monitoring list": "monitoring alerts",
    "registry list": "registry models",
    "remote list": "remote ls",
    "replay list": "replays list",
    "run list": "runs",
    "start": "serving start",
    "stop": "serving stop",
    "study list": "studies list",
    "train": "quickstart",
    "undeploy": "deployments stop",
    "version list": "registry versions",
    "version ls": "registry versions",
    "version versions": "registry versions",
    "versions": "registry versions",
    "views": "features list",
    "why": "ct why",
}


def unknown(name: str, known: list[str], noun: str = "") -> str:
    """The complaint about an unknown word: the command that is meant where that is known, else the nearest three."""
    import difflib

    said = f"got {name}, expected a known command"
    if meant := TRIED.get(f"{noun} {name}".strip()):
        return f"{said}; that is: qd {meant}"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    return said + (f"; nearest: {', '.join(near)}" if near else "")
