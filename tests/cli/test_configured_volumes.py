"""Volumes that show ConfigMaps and Secrets, end to end: what is in them, and when it changes.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.cli.test_configuration import Hold, hold
from tests.support import Durable, Manifest, Place, one_way, pod, sh

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["hold"]

SECRET = "m4rked-s3cret"


def mount(name: str, path: str, **more: Any) -> Manifest:
    return {"name": name, "mountPath": path, **more}


@one_way
def test_keys_are_files_with_their_modes(place: Place, hold: Hold) -> None:
    """§9.3.4"""
    hold(
        ConfigMap={"default/settings": {"a.conf": "one", "b.conf": "two"}},
        Secret={"default/login": {"password": SECRET}},
    )
    script = (
        "cat /podvisor-conf/a.conf /podvisor-all/x/b /podvisor-one;"
        "stat -Lc %a /podvisor-conf/a.conf /podvisor-login/password /podvisor-all/x/b;"
        f'[ "$(cat /podvisor-login/password)" = {SECRET[:3]}"{SECRET[3:]}" ] && echo same'
    )
    items = [{"key": "b.conf", "path": "x/b"}]
    finished = place.run(
        pod(
            "web",
            sh(
                "app",
                script,
                volumeMounts=[
                    mount("conf", "/podvisor-conf"),
                    mount("conf", "/podvisor-one", subPath="b.conf"),
                    mount("login", "/podvisor-login"),
                    mount("all", "/podvisor-all"),
                ],
            ),
            volumes=[
                {"name": "conf", "configMap": {"name": "settings"}},
                {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o400}},
                {
                    "name": "all",
                    "projected": {
                        "defaultMode": 0o440,
                        "sources": [{"configMap": {"name": "settings", "items": items}}],
                    },
                },
            ],
            restartPolicy="Never",
        ),
        code=0,
    )
    lines = [line.partition("| ")[2] for line in finished.out.splitlines()]
    assert lines == ["onetwotwo644", "400", "440", "same"]


@one_way
def test_run_refuses_a_volume_of_what_its_documents_do_not_have(place: Place, hold: Hold) -> None:
    """§9.3.1: nothing could bring it any more."""
    hold(ConfigMap={"default/settings": {"a": "1"}})
    items = [{"key": "b", "path": "b"}]
    volumes = [
        {"name": "one", "secret": {"secretName": "login"}},
        {"name": "two", "configMap": {"name": "settings", "items": items}},
        {"name": "three", "projected": {"sources": [{"secret": {"name": "no"}}]}},
    ]
    finished = place.run(pod("web", sh("app", "true"), volumes=volumes), code=3)
    for path in (
        'volumes[0].secret.secretName: Not found: "login"',
        'volumes[1].configMap.items[0].key: Not found: "b"',
        'volumes[2].projected.sources[0].secret.name: Not found: "no"',
    ):
        assert f"spec.{path}" in finished.err


@one_way
def test_a_served_pod_waits_for_its_secret_and_sees_it_change(node: Durable, hold: Hold) -> None:
    """§9.3.1, §9.3.4"""
    script = (
        "old=$(cat /podvisor-login/password); one=$(cat /podvisor-one); echo began;"
        'while [ "$(cat /podvisor-login/password)" = "$old" ]; do sleep 0.05; done;'
        '[ "$(cat /podvisor-one)" = "$one" ] && echo kept; echo changed; exec sleep 1000'
    )
    node.put(
        "web.json",
        pod(
            "web",
            sh(
                "app",
                script,
                volumeMounts=[
                    mount("login", "/podvisor-login"),
                    mount("login", "/podvisor-one", subPath="password"),
                ],
            ),
            volumes=[{"name": "login", "secret": {"secretName": "login"}}],
            terminationGracePeriodSeconds=1,
        ),
    )
    session = node.serve()
    session.until_said('FailedMount: MountVolume.SetUp failed for volume "login" : secret "login"')
    record = node.record("web")
    assert record is not None
    assert record.status.phase == "Pending"
    hold(Secret={"default/login": {"password": SECRET}})
    session.until_logged("began")
    hold(Secret={"default/login": {"password": SECRET + "2"}})
    session.until_logged("changed")
    assert "kept" in session.out

    holding = set()
    for path, _, names in os.walk(node.state):
        for name in names:
            if not os.path.isfile(f"{path}/{name}"):
                continue  # the launcher's socket
            with open(f"{path}/{name}", "rb") as file:
                if SECRET.encode() in file.read():
                    holding.add(os.path.relpath(f"{path}/{name}", node.state).split("/")[0])
    # The volume's own file and nothing else; where there is a tmpfs, that is not here either.
    assert holding == (set() if os.path.exists(f"{node.state}/memory") else {"pods"})
    session.signal(2)
    session.wait(130)
    assert not [names for _, _, names in os.walk(f"{node.state}/pods") if "password" in names]


@one_way
def test_a_sub_path_that_is_refused_is_made_good_by_another_look_at_the_manifest(node: Durable):
    """§9.3.5, H07: here a changed manifest replaces the pod"""

    def manifest(place: str) -> Manifest:
        value = {"fieldRef": {"fieldPath": "metadata.annotations['place']"}}
        data = mount("data", "/podvisor-data", subPathExpr="$(PLACE)")
        app = sh(
            "app",
            "touch /podvisor-data/here && echo began; exec sleep 1000",
            env=[{"name": "PLACE", "valueFrom": value}],
            volumeMounts=[data],
        )
        made = pod("web", app, volumes=[{"name": "data", "emptyDir": {}}])
        made["spec"]["terminationGracePeriodSeconds"] = 1
        made["metadata"]["annotations"] = {"place": place}
        return made

    node.put("web.json", manifest("/absolute"))
    session = node.serve()
    session.until_said("CreateContainerConfigError")
    node.put("web.json", manifest("inside"))
    session.until_logged("began")
    session.signal(2)
    session.wait(130)
