"""Runs of MLflow's prompt page: what was asked of which model, with which parameters, and what it answered."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from quarterdeckd.doors.mlflow import runs
from quarterdeckd.doors.mlflow.caller import Caller, objects, text
from quarterdeckd.doors.mlflow.errors import invalid

REQUIRED = ("experiment_id", "prompt_template", "prompt_parameters", "model_route", "model_input", "mlflow_version")
TABLE = "eval_results_table.json"
Keep = Callable[[Caller, str, str, bytes], Awaitable[None]]


class Creator:
    """Makes such runs; the table of what was answered is a file of the run."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep

    async def create(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        """`runs/create-promptlab-run`."""
        for name in REQUIRED:
            if not given.get(name):
                raise invalid(f"CreatePromptlabRun request must specify {name}.")
        asked = {name: given[name] for name in ("experiment_id", "run_name", "tags", "start_time") if given.get(name)}
        asked["user_id"] = text(given, "user_id", "unknown")
        table = _table(given)
        made = await runs.create(caller, asked)
        run = str(made["run"]["info"]["run_id"])
        params = [
            *({"key": each.get("key"), "value": str(each.get("value"))} for each in objects(given, "model_parameters")),
            {"key": "model_route", "value": text(given, "model_route")},
            {"key": "prompt_template", "value": text(given, "prompt_template")},
        ]
        tags = [
            {"key": "mlflow.loggedArtifacts", "value": json.dumps([{"path": TABLE, "type": "table"}])},
            {"key": "mlflow.runSourceType", "value": "PROMPT_ENGINEERING"},
        ]
        await runs.log_batch(caller, {"run_id": run, "params": params, "tags": tags})
        await self._keep(caller, run, TABLE, table)
        await runs.update(caller, {"run_id": run, "status": "FINISHED"})
        return await runs.get(caller, {"run_id": run})


def _table(given: dict[str, Any]) -> bytes:
    asked, answered = objects(given, "prompt_parameters"), objects(given, "model_output_parameters")
    columns = [*(each.get("key") for each in asked), "prompt", "output", *(each.get("key") for each in answered)]
    values = [
        *(each.get("value") for each in asked),
        given["model_input"],
        given.get("model_output"),
        *(each.get("value") for each in answered),
    ]
    return msgspec.json.encode({"columns": columns, "data": [values]})
