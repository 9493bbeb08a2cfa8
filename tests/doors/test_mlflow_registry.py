"""The MLflow door's registry: the real client, governance in the way of a stage, and everything that is wrong."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck import keys
from quarterstore.records.governance import ListApprovals
from quarterstore.records.people import AddKey
from quarterstore.records.registry import ListTenures
from tests.conftest import Daemon
from tests.doors.test_mlflow import API, free_port, post, refused


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    yield f"http://127.0.0.1:{port}"
    daemon.end()


@pytest.fixture(scope="module")
def door(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


SCRIPT = """
import mlflow
from mlflow.exceptions import MlflowException

def refusal(work):
    try:
        work()
    except MlflowException as error:
        return error.error_code, error.message
    return None

client = mlflow.MlflowClient()
made = client.create_registered_model("Churn of 2026", tags={"team": "one", "empty": ""}, description="who leaves")
assert (made.name, made.tags, made.description) == ("Churn of 2026", {"team": "one", "empty": ""}, "who leaves")
assert refusal(lambda: client.create_registered_model("Churn of 2026"))[0] == "RESOURCE_ALREADY_EXISTS"
client.rename_registered_model("Churn of 2026", "churn model")
code, words = refusal(lambda: client.get_registered_model("Churn of 2026"))
assert code == "RESOURCE_DOES_NOT_EXIST" and "Registered Model with name=Churn of 2026 not found" in words
client.set_registered_model_tag("churn model", "k", "")
assert client.get_registered_model("churn model").tags["k"] == ""
client.delete_registered_model_tag("churn model", "k")
assert "k" not in client.get_registered_model("churn model").tags
for n in range(3):
    version = client.create_model_version("churn model", f"runs:/r{n}/model", f"r{n}", tags={"n": str(n)})
    assert (version.version, version.status, version.current_stage) == (str(n + 1), "READY", "None"), version
client.transition_model_version_stage("churn model", 1, "Production")
client.transition_model_version_stage("churn model", 2, "production")
stages = {each.version: each.current_stage for each in client.search_model_versions("name = 'churn model'")}
assert stages == {"1": "Archived", "2": "Production", "3": "None"}
latest = {each.current_stage: each.version for each in client.get_latest_versions("churn model")}
assert latest == {"Archived": "1", "Production": "2", "None": "3"}
assert [each.version for each in client.get_latest_versions("churn model", ["Production"])] == ["2"]
client.set_registered_model_alias("churn model", "champion", 2)
assert client.get_model_version_by_alias("churn model", "champion").version == "2"
assert client.get_registered_model("churn model").aliases == {"champion": "2"}
copy = client.copy_model_version("models:/churn model@champion", "copies")
assert copy.source == "models:/churn model/2"
assert client.get_model_version_download_uri("copies", copy.version) == "runs:/r1/model"
client.delete_registered_model_alias("churn model", "champion")
assert client.get_model_version("churn model", "2").aliases == []
client.update_model_version("churn model", 3, "the third")
assert client.get_model_version("churn model", "3").description == "the third"
assert client.get_model_version("churn model", "3").last_updated_timestamp > version.creation_timestamp - 1
assert [each.version for each in client.search_model_versions("run_id = 'r2'")] == ["3"]
assert [each.version for each in client.search_model_versions("source_path = 'runs:/r0/model'")] == ["1"]
assert [each.version for each in client.search_model_versions("tags.n = '1' and name = 'churn model'")] == ["2"]
by_number = client.search_model_versions("name LIKE 'churn%'", order_by=["version_number DESC"])
assert [each.version for each in by_number] == ["3", "2", "1"]
one = client.search_model_versions("name = 'churn model'", max_results=2, order_by=["version_number ASC"])
two = client.search_model_versions(
    "name = 'churn model'", max_results=2, order_by=["version_number ASC"], page_token=one.token
)
assert [each.version for each in (*one, *two)] == ["1", "2", "3"] and not two.token
client.set_model_version_tag("churn model", "3", "t", "")
assert client.get_model_version("churn model", "3").tags["t"] == ""
client.delete_model_version_tag("churn model", "3", "t")
client.delete_model_version("churn model", "3")
code, words = refusal(lambda: client.get_model_version("churn model", "3"))
assert code == "RESOURCE_DOES_NOT_EXIST" and "Model Version (name=churn model, version=3) not found" in words
assert client.create_model_version("churn model", "runs:/r9/model", "r9").version == "4"
assert refusal(lambda: client.delete_registered_model("churn model"))[0] != None
assert refusal(lambda: client.delete_model_version("churn model", "2"))[0] != None
client.transition_model_version_stage("churn model", 2, "Archived")
names = [f"paged {n:02}" for n in range(7)]
for name in names:
    client.create_registered_model(name)
found, token = [], None
while True:
    page = client.search_registered_models("name ILIKE 'PAGED%'", max_results=3, page_token=token)
    found += [each.name for each in page]
    token = page.token
    if not token:
        break
assert found == names, found
down = client.search_registered_models("name LIKE 'paged%'", order_by=["name DESC"])
assert [each.name for each in down] == names[::-1]
client.delete_registered_model("churn model")
assert refusal(lambda: client.get_registered_model("churn model"))[0] == "RESOURCE_DOES_NOT_EXIST"
assert refusal(lambda: client.rename_registered_model("churn model", "x"))[0] == "RESOURCE_DOES_NOT_EXIST"
client.create_registered_model("churn model")
assert client.create_model_version("churn model", "runs:/r/m", "r").version == "5"
print("done")
"""


def test_mlflows_own_client_keeps_its_models_here(address: str) -> None:
    """A team's script goes on as it is: names with blanks, stages, words for versions, pages; a number that was given
    is never given again, also not after the model was deleted."""
    environ = {"MLFLOW_TRACKING_URI": address, "PATH": "/usr/bin:/bin", "HOME": tempfile.mkdtemp(prefix="qd")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, env=environ)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]


@pytest.mark.parametrize(
    ("method", "route", "given", "status", "code", "words"),
    [
        ("POST", "registered-models/create", {}, 400, "INVALID_PARAMETER_VALUE", "required parameter 'name'"),
        ("POST", "registered-models/create", {"name": 3}, 400, "INVALID_PARAMETER_VALUE", "Invalid value 3 for"),
        ("POST", "registered-models/create", {"name": "a/b"}, 400, "INVALID_PARAMETER_VALUE", "cannot contain '/'"),
        ("POST", "registered-models/create", {"name": "a\x1b[31m"}, 400, "INVALID_PARAMETER_VALUE", "control"),
        ("GET", "registered-models/get", {"name": "nobody"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("GET", "model-versions/get", {"name": "m", "version": "x"}, 400, "INVALID_PARAMETER_VALUE", "be an integer"),
        ("GET", "model-versions/get", {"name": "m", "version": "9"}, 404, "RESOURCE_DOES_NOT_EXIST", "version=9"),
        ("GET", "registered-models/alias", {"name": "m", "alias": "x"}, 400, "INVALID_PARAMETER_VALUE", "alias x"),
        ("POST", "registered-models/alias", {"name": "m", "version": "1", "alias": "Latest"}, 400, None, "reserved"),
        (
            "POST",
            "registered-models/alias",
            {"name": "m", "version": "1", "alias": "v3"},
            400,
            None,
            "'v3' is reserved",
        ),
        ("POST", "registered-models/alias", {"name": "m", "version": "1", "alias": "a b"}, 400, None, "Invalid alias"),
        ("POST", "registered-models/alias", {"name": "m", "version": "1", "alias": "a" * 256}, 400, None, "length"),
        ("POST", "registered-models/rename", {"name": "m", "new_name": "a:b"}, 400, None, "Invalid model name 'a:b'"),
        ("POST", "registered-models/rename", {"name": "m", "new_name": " "}, 400, None, "parameter 'new_name'"),
        ("POST", "registered-models/set-tag", {"name": "m", "key": "a;b"}, 400, None, "Names may only contain"),
        ("POST", "registered-models/alias", {"name": "m", "version": "1", "alias": "7"}, 400, None, "no number"),
        ("POST", "model-versions/create", {"name": "m", "source": "/etc"}, 400, None, "To use a local path"),
        ("POST", "model-versions/create", {"name": "m", "source": "file:///etc"}, 400, None, "To use a local path"),
        ("POST", "model-versions/create", {"name": "m", "source": "http://[b/x"}, 400, None, "It is no URI"),
        ("POST", "model-versions/create", {"name": "m"}, 400, None, "required parameter 'source'"),
        ("POST", "model-versions/create", {"name": "m", "source": "s3://b/../x"}, 400, None, "If supplying a source"),
        ("POST", "model-versions/create", {"name": "m", "source": "s3://b/%252e%252e/x"}, 400, None, "If supplying"),
        ("POST", "model-versions/create", {"name": "m", "source": "s3://b/a%00"}, 400, None, "If supplying a source"),
        ("POST", "model-versions/transition-stage", {"name": "m", "version": "1", "stage": "Up"}, 400, None, "Up"),
        ("GET", "model-versions/search", {"filter": "name ="}, 400, "INVALID_PARAMETER_VALUE", "^"),
        ("GET", "registered-models/search", {"max_results": "0"}, 400, "INVALID_PARAMETER_VALUE", "max_results"),
        ("GET", "registered-models/search", {"page_token": "x"}, 400, "INVALID_PARAMETER_VALUE", "page"),
        ("PUT", "registered-models/create", {"name": "q"}, 404, "ENDPOINT_NOT_FOUND", "no route"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    door: httpx.Client, method: str, route: str, given: dict[str, Any], status: int, code: str | None, words: str
) -> None:
    if door.get(f"{API}/registered-models/get", params={"name": "m"}).status_code == 404:
        post(door, "registered-models/create", name="m")
        post(door, "model-versions/create", name="m", source="runs:/r/m", run_id="r")
    before = door.get(f"{API}/registered-models/search").json()
    more: dict[str, Any] = {"params": given} if method == "GET" else {"json": given}
    answer = door.request(method, f"{API}/{route}", **more)
    assert refused(answer) == (status, code or "INVALID_PARAMETER_VALUE"), answer.text
    assert words in answer.json()["message"]
    assert door.get(f"{API}/registered-models/search").json() == before


def test_a_version_by_reference_is_not_served(absent: Any) -> None:
    """There is no file that a host could load; to say so late, in a job, would be worse."""
    port = free_port()
    absent.start("--mlflow", f"127.0.0.1:{port}")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as door:
        post(door, "registered-models/create", name="m")
        post(door, "model-versions/create", name="m", source="runs:/r/m", run_id="r")
        post(door, "model-versions/transition-stage", name="m", version="1", stage="Production")
    done = absent.qd("deploy", "m@1")
    assert done.returncode == 6 and "kept by reference" in done.stderr, done.stderr


def test_in_a_team_a_stage_waits_for_another_person_and_the_refusal_names_the_approval(absent: Any) -> None:
    """A script that promotes by itself is told what to wait for, and may ask twice."""
    port = free_port()
    absent.start("--profile", "team", "--mlflow", f"127.0.0.1:{port}")
    home = absent.home
    with absent.client() as owner:
        for person, roles in (("bo", ("operator",)), ("ana", ("operator", "approver"))):
            owner.ask(AddKey(public=keys.make(home, person), person=person, roles=roles))
        token = home.secret_key("bo").read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, headers=headers) as door:
            post(door, "registered-models/create", name="m")
            post(door, "model-versions/create", name="m", source="runs:/r/m", run_id="r")
            wanted = {"name": "m", "version": "1", "stage": "Production"}
            answer = door.post(f"{API}/model-versions/transition-stage", json=wanted)
            (waiting,) = owner.ask(ListApprovals())
            assert refused(answer) == (403, "PERMISSION_DENIED") and waiting.id in answer.text
            again = door.post(f"{API}/model-versions/transition-stage", json=wanted)
            assert refused(again) == (403, "PERMISSION_DENIED") and waiting.id in again.text
            assert len(owner.ask(ListApprovals())) == 1
            done = absent.qd("--as", "ana", "approve", waiting.id)
            assert done.returncode == 0, done.stderr
            found = door.get(f"{API}/model-versions/get", params={"name": "m", "version": "1"}).json()
            assert found["model_version"]["current_stage"] == "Production"
        (tenure,) = owner.ask(ListTenures(model="m"))
        assert (tenure.asked_by, tenure.approved_by) == ("bo", "ana")
