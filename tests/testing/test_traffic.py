"""What a Service's requests see of a shutdown, for servers that do it well and badly."""

from __future__ import annotations

import asyncio
import pathlib
import re
import sys
from typing import Any

import pytest
import trustme

from supervisor import PodHandle, Supervisor, UsageError
from supervisor.testing import FakeClock, LoadReport, Outcome, Phase, load
from supervisor.testing.traffic import Target, http_target
from tests.runtime.nodes import until
from tests.support import free_port
from tests.testing.conftest import Manifest, manifest, printed, shell

pytestmark = pytest.mark.anyio

SERVER = str(pathlib.Path(__file__).parent / "server.py")


@pytest.fixture
def port() -> int:
    return free_port()


def server(mode: str, port: int, **more: Any) -> Manifest:
    return {
        "name": "web",
        "command": [sys.executable, SERVER, mode, str(port)],
        "ports": [{"containerPort": port}],
    } | more


async def serving(node: Supervisor, mode: str, port: int, **more: Any) -> PodHandle:
    pod = await node.run(manifest("web", server(mode, port, **more)))
    await printed(pod, "serving")
    return await pod.wait_ready()


async def rehearsed(
    node: Supervisor, mode: str, port: int, *, grace: float = 30, **options: Any
) -> LoadReport:
    """What a load sees of a shutdown."""
    pod = await serving(node, mode, port)
    async with load(pod, **options) as traffic:
        await traffic.answered(30)
        await pod.terminate(grace)
    return traffic.report


def lost(report: LoadReport) -> dict[Outcome, int]:
    return {o: count for o, count in report.outcomes.items() if o.is_lost and count}


@pytest.mark.parametrize("mode", ["good", "chunked"])
async def test_a_server_that_drains_loses_nothing(node: Supervisor, port: int, mode: str) -> None:
    report = await rehearsed(node, mode, port)
    assert report.ok, report
    assert report.verdict == "no request was lost"
    assert report.phases[Phase.READY] >= 30
    assert report.phases[Phase.SIGNALLED] > 0
    assert report.requests == report.outcomes[Outcome.ANSWERED] == sum(report.phases.values())


async def test_a_listener_that_is_closed_too_early_refuses(node: Supervisor, port: int) -> None:
    report = await rehearsed(node, "deaf", port)
    assert report.outcomes[Outcome.REFUSED] > 0
    assert {p.phase for p in report.problems} == {Phase.SIGNALLED}
    assert "after SIGTERM: the server closed its listener before draining" in report.verdict
    # Not before it was told to end, and not made after the endpoints have followed.
    assert all(p.at >= 0 for p in report.problems)
    assert all(p.at - p.took < 1 for p in report.problems)


async def test_a_listener_may_close_at_once_when_endpoints_do_not_lag(
    node: Supervisor, port: int
) -> None:
    report = await rehearsed(node, "deaf", port, endpoint_lag=0)
    assert report.ok, report


async def test_a_server_that_just_ends_cuts_what_is_on_its_way(node: Supervisor, port: int) -> None:
    report = await rehearsed(node, "hasty", port, endpoint_lag=1)
    assert report.outcomes[Outcome.CUT] > 0
    assert "the server ended with requests on their way" in report.verdict
    assert report.outcomes[Outcome.REFUSED] > 0
    assert "the server had ended, but new connections still come for 1 s" in report.verdict


async def test_a_server_that_ends_before_everybody_knows_refuses(
    node: Supervisor, port: int
) -> None:
    report = await rehearsed(node, "early", port, endpoint_lag=2)
    assert report.outcomes[Outcome.REFUSED] > 0
    assert 1 < max(p.at - p.took for p in report.problems) < 3
    assert Phase.EXITED in {p.phase for p in report.problems}
    assert re.search(r"after (its end|SIGTERM): the server had ended", report.verdict)
    assert len(report.verdict.splitlines()) == len(lost(report))


async def test_errors_are_counted_with_their_status(node: Supervisor, port: int) -> None:
    report = await rehearsed(node, "errors", port)
    assert set(lost(report)) == {Outcome.ERROR}
    assert {p.status for p in report.problems} == {503}
    assert "status 503: the server refused work while requests still came" in report.verdict


async def test_a_response_that_breaks_off_is_cut(node: Supervisor, port: int) -> None:
    report = await rehearsed(node, "breaks", port)
    assert set(lost(report)) == {Outcome.CUT}
    assert "the server broke off its responses" in report.verdict
    assert {p.status for p in report.problems} == {200}


async def test_a_kept_connection_that_is_closed_over_a_request_is_cut(
    node: Supervisor, port: int
) -> None:
    report = await rehearsed(node, "drops", port, rate=300, concurrency=20)
    assert report.outcomes[Outcome.CUT] > 0
    assert "closed kept connections with requests on their way" in report.verdict


async def test_a_kept_connection_may_be_closed_between_two_requests(
    node: Supervisor, port: int
) -> None:
    report = await rehearsed(node, "idle", port, rate=50)
    assert report.ok, report


async def test_a_request_that_nobody_answers_is_given_up(node: Supervisor, port: int) -> None:
    report = await rehearsed(node, "hangs", port, grace=2, timeout=0.2)
    assert set(lost(report)) == {Outcome.UNANSWERED}
    assert "they were given up" in report.verdict


async def test_late_answers_are_no_loss(node: Supervisor, port: int) -> None:
    report = await rehearsed(node, "slow", port, slow=0.2)
    assert report.ok, report
    assert report.outcomes[Outcome.SLOW] > 0
    assert report.verdict.startswith("no request was lost\n")
    assert report.verdict.endswith("answered late")


async def test_what_is_killed_while_it_drains_has_not_enough_grace(
    node: Supervisor, port: int
) -> None:
    pod = await serving(node, "hangs", port)
    async with load(pod) as traffic:
        await traffic.answered(30)
        await pod.terminate(0)
    assert "SIGKILL came before they were answered" in traffic.report.verdict


async def test_requests_come_during_a_pre_stop(node: Supervisor, port: int) -> None:
    sleep = {"preStop": {"exec": {"command": ["sleep", "0.5"]}}}
    pod = await serving(node, "good", port, lifecycle=sleep)
    async with load(pod) as traffic:
        await traffic.answered(30)
        await pod.terminate(30)
    assert traffic.report.ok, traffic.report
    assert traffic.report.phases[Phase.PRE_STOP] > 0


async def test_a_pod_that_is_not_ready_gets_no_new_connections(node: Supervisor, port: int) -> None:
    """§10.2"""
    gates = [{"conditionType": "example.com/on"}]
    pod = await node.run(manifest("web", server("good", port), readinessGates=gates))
    await printed(pod, "serving")
    await pod.wait_for("ContainersReady")
    async with load(pod, endpoint_lag=0) as traffic:
        await asyncio.sleep(0.1)
        assert traffic.report.requests == 0
        assert not traffic.report.ok
        assert "never ready" in traffic.report.verdict
        await pod.set_condition("example.com/on", "True")
        await traffic.answered(10)
        await pod.set_condition("example.com/on", "False")
    assert traffic.report.ok, traffic.report


async def test_a_pod_without_a_readiness_probe_is_ready_too_early(
    node: Supervisor, port: int
) -> None:
    late = shell("web", "sleep 100", ports=[{"containerPort": port}])
    pod = await node.run(manifest("web", late))
    await pod.wait_ready()
    async with load(pod) as traffic:
        await until(lambda: traffic.report.requests > 0, "a request")
    assert set(lost(traffic.report)) == {Outcome.REFUSED}
    assert "it needs a readiness probe" in traffic.report.verdict


async def test_https_is_spoken_where_probes_speak_it_and_nothing_is_verified(
    node: Supervisor, port: int, tmp_path: pathlib.Path
) -> None:
    certificate = str(tmp_path / "pem")
    trustme.CA().issue_cert("somebody.example").private_key_and_cert_chain_pem.write_to_path(
        certificate
    )
    probe = {"httpGet": {"port": port, "scheme": "HTTPS", "path": "/"}, "periodSeconds": 1}
    main = server("good", port, readinessProbe=probe)
    main["command"].append(certificate)
    pod = await node.run(manifest("web", main))
    await pod.wait_ready(60)
    async with load(pod) as traffic:
        await traffic.answered(20)
        await pod.terminate(30)
    assert traffic.report.target == f"https://127.0.0.1:{port}/"
    assert traffic.report.ok, traffic.report


async def test_what_the_block_raises_comes_out_of_it(node: Supervisor, port: int) -> None:
    pod = await serving(node, "good", port)
    with pytest.raises(ZeroDivisionError):
        async with load(pod):
            raise ZeroDivisionError


async def test_requests_need_a_port_and_real_time(timeless: Supervisor, port: int) -> None:
    pod = await timeless.run(["sleep", "100"])
    with pytest.raises(UsageError, match="declares no port"):
        async with load(pod):
            pass
    with pytest.raises(UsageError, match="begins with /"):
        async with load(pod, port=port, path="healthz"):
            pass
    with pytest.raises(UsageError, match="fake clock"):
        async with load(pod, port=port):
            pass


async def test_where_a_pod_serves_is_read_from_its_manifest(
    timeless: Supervisor, clock: FakeClock
) -> None:
    probe = {"httpGet": {"port": "http", "path": "/ready", "scheme": "HTTPS"}}
    ports = [{"containerPort": 8000}, {"containerPort": 8443, "name": "http"}]
    probed = shell("web", "sleep 100", ports=ports, readinessProbe=probe)
    pod = await timeless.run(manifest("probed", shell("side", "sleep 100"), probed))
    assert http_target(pod.pod) == Target("web", "127.0.0.1", 8443, "https", "/")
    declared = shell("web", "sleep 100", ports=[{"containerPort": 53, "protocol": "UDP"}, ports[0]])
    pod = await timeless.run(manifest("declared", declared))
    assert http_target(pod.pod) == Target("web", "127.0.0.1", 8000)
    pod = await timeless.run(["sleep", "100"])
    assert http_target(pod.pod) is None
