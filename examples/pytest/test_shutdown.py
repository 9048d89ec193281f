"""What a Pod owes to a rolling update: it ends in time, and drops no request that it has taken.

Run it with `pytest examples/pytest`: one of the two manifests fails, and the report says why.
"""

import pathlib
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from supervisor.pytest_plugin import PodFactory

HERE = pathlib.Path(__file__).parent


def ask(port: int, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return int(answer.status)


@pytest.mark.parametrize("manifest", ["broken.yaml", "repaired.yaml"])
def test_a_report_that_was_begun_is_finished(manifest: str, pod_factory: PodFactory) -> None:
    pod = pod_factory(HERE / manifest).wait_ready(timeout=20)
    with ThreadPoolExecutor() as client:
        answer = client.submit(ask, pod.host_port, "/report")
        assert any(line.text == "report begun" for line in pod.logs(follow=True))
        end = pod.terminate()
        assert answer.result() == 200
    assert end.killed == (), f"SIGKILL was needed\n{end}"
    assert end.exit_code == 0
