"""A version that is promoted beside live traffic: the command and the doctor say so, on a real daemon."""

from __future__ import annotations

from typing import Any

from quarterstore.records import deployments, registry
from tests.faults.test_serving import deployed, staged, until
from tests.serving import conftest as made


def test_a_promotion_that_leaves_the_traffic_is_said_and_found_by_the_doctor(absent: Any) -> None:
    absent.start()
    with absent.client() as client:
        deployed(client, 0.0)
        until(lambda: client.ask(deployments.ShowDeployment(endpoint="small")).live == "small@1")
        assert "what answers is in Production" in absent.qd("doctor").stdout
        staged(client, made.model_bytes(1.0))
        done = absent.qd("promote", "small@2", "Production", "--reason", "better")
        assert done.returncode == 0
        assert done.stderr.endswith("small@1 keeps its traffic at endpoint small until: qd deploy small@2\n")
        found = absent.qd("doctor")
        assert found.returncode == 1
        assert "small@1 answers at small and is in Archived" in found.stdout
        assert "qd deploy small@2 --endpoint small, or qd rollback small" in found.stdout
        assert absent.qd("rollback", "small").returncode == 0
        assert client.ask(registry.ShowVersion(version="small@1")).stage == "Production"
        assert "what answers is in Production" in absent.qd("doctor").stdout
