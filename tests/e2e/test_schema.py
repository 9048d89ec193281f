"""Whatever the OpenAPI document allows a client to send, the server has an answer for."""

from __future__ import annotations

import base64
import pathlib
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from tests.support import Durable

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.filterwarnings("ignore")]

requests = pytest.importorskip("requests")
schemathesis = pytest.importorskip("schemathesis")

_EACH = 2  # requests of each operation; `make torture` sends thousands without sense besides
_WATCHES = {"watch", "follow"}


def test_no_request_that_the_schema_allows_is_an_error_of_the_server(
    cluster: Durable, tmp_path: pathlib.Path
) -> None:
    config = yaml.safe_load(pathlib.Path(cluster.state, "kubeconfig").read_text())
    where = config["clusters"][0]["cluster"]
    authority = tmp_path / "ca"
    authority.write_bytes(base64.b64decode(where["certificate-authority-data"]))
    url = where["server"]
    wrong: list[str] = []
    asked = 0
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {config['users'][0]['user']['token']}"

        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            for name in _WATCHES & set(case.query or {}):
                del case.query[name]  # it would go on
            answer = case.call(base_url=url, session=session, timeout=60, verify=str(authority))
            if answer.status_code >= 500 and answer.status_code != 503:
                wrong.append(
                    f"{case.method} {answer.url}: {answer.status_code} {answer.text[:300]}"
                )

        index = session.get(f"{url}/openapi/v3", verify=str(authority)).json()
        for path in index["paths"]:
            document = session.get(f"{url}/openapi/v3/{path}", verify=str(authority)).json()
            for found in schemathesis.openapi.from_dict(document).get_all_operations():
                # Pods would be run, and streams have tests of their own.
                if "/pods" in found.ok().path and found.ok().method == "post":
                    continue
                settings(
                    max_examples=_EACH,
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate],
                )(given(found.ok().as_strategy())(ask))()
    assert asked > 100
    assert not wrong
