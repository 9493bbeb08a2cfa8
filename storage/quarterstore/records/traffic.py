"""Stage and traffic side by side: what is to be said where a version is in Production and another one answers."""

from __future__ import annotations

from collections.abc import Iterable

from quarterstore.records.deployments import Deployment
from quarterstore.records.registry import Version


def beside(version: Version, environment: str, deployments: Iterable[Deployment]) -> list[str]:
    """Which other versions of the model answer there, at which endpoint and until when."""
    return [
        f"{found.live} keeps its traffic at endpoint {found.endpoint} until: qd deploy {version.id}"
        + (f" --endpoint {found.endpoint}" if found.endpoint != version.model else "")
        for found in deployments
        if (found.model, found.environment) == (version.model, environment) and found.live not in (None, version.id)
    ]
