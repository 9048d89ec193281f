"""Volumes end to end: what containers find at their paths, and what is left of it on the host.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

import os
import shlex
import signal

import pytest

from tests.support import (
    Manifest,
    Place,
    Way,
    as_root,
    in_group,
    in_pidns,
    pod,
    sh,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}


def mount(name: str, path: str, **more: object) -> Manifest:
    return {"name": name, "mountPath": path, **more}


def empty(name: str, **more: object) -> Manifest:
    return {"name": name, "emptyDir": more}


@in_pidns
def test_containers_share_what_a_pod_has_at_paths_of_its_own(place: Place, way: Way):
    """§9.3.2, §9.3.4, H04"""
    fields = [{"path": "etc/labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    source = os.path.join(place.folder, "given")
    finished = place.run(
        pod(
            "web",
            sh(
                "app",
                "cat /podvisor-work/made /podvisor-logs/made; cat /podvisor-me/etc/labels; echo;"
                "echo no 2>/dev/null >/podvisor-me/x || echo read-only; ls -A /podvisor-none;"
                "stat -c %a /podvisor-work; echo back >/podvisor-given/deep/file;"
                "echo written >/podvisor-logs/new; cat /podvisor-work/logs/app/new",
                volumeMounts=[
                    mount("work", "/podvisor-work"),
                    mount("work", "/podvisor-logs", subPathExpr="logs/$(WHO)"),
                    mount("me", "/podvisor-me"),
                    mount("none", "/podvisor-none"),
                    mount("given", "/podvisor-given"),
                ],
                env=[{"name": "WHO", "value": "app"}],
            ),
            init=(
                sh(
                    "first",
                    "echo made >/podvisor-work/made; mkdir -p /podvisor-work/logs/app;"
                    "echo sub >/podvisor-work/logs/app/made; mkdir /podvisor-given/deep",
                    volumeMounts=[
                        mount("work", "/podvisor-work"),
                        mount("given", "/podvisor-given"),
                    ],
                ),
            ),
            metadata={"labels": {"app": "web"}},
            volumes=[
                {"name": "work"},
                {"name": "me", "downwardAPI": {"items": fields}},
                {"name": "none", "configMap": {"name": "absent", "optional": True}},
                {"name": "given", "hostPath": {"path": source, "type": "DirectoryOrCreate"}},
            ],
            **NEVER,
        ),
        code=0,
    )
    lines = [line.split("| ", 1)[1] for line in finished.out.splitlines()]
    data = [line for line in lines if line.startswith("..")]
    assert lines[:4] == ["made", "sub", 'app="web"', "read-only"]
    assert "..data" in data
    assert lines[-2:] == ["777", "written"]
    with open(f"{source}/deep/file") as file:
        assert file.read() == "back\n"
    assert not [name for name in os.listdir("/") if name.startswith("podvisor-")]


def of_file(name: str, key: str, **more: object) -> Manifest:
    ref = {"volumeName": "made", "path": "deep/app.env", "key": key, **more}
    return {"name": name, "valueFrom": {"fileKeyRef": ref}}


@in_pidns
def test_a_container_has_variables_from_a_file_that_an_init_container_has_written(place: Place):
    """§9.1.3, H17"""
    text = "CONFIG_1='value1'\\nCONFIG_2='two\\nlines'\\n"
    finished = place.run(
        pod(
            "web",
            sh(
                "app",
                'echo "$CONFIG_1 $CONFIG_2 ${CONFIG_3-none} $WORDS"; ls /podvisor-made 2>&1',
                env=[
                    of_file("CONFIG_1", "CONFIG_1"),
                    of_file("CONFIG_2", "CONFIG_2"),
                    of_file("CONFIG_3", "CONFIG_3", optional=True),
                    {"name": "WORDS", "value": "<$(CONFIG_1)>"},
                ],
            ),
            init=(
                sh(
                    "first",
                    "mkdir /podvisor-made/deep; cd /podvisor-made/deep;"
                    f"printf {shlex.quote(text)} >app.env",
                    volumeMounts=[mount("made", "/podvisor-made")],
                ),
            ),
            volumes=[empty("made")],
            **NEVER,
        ),
    )
    lines = [line.split("| ", 1)[1] for line in finished.out.splitlines()]
    assert lines[:2] == ["value1 two", "lines none <value1>"]
    assert "No such file or directory" in lines[2]  # the volume need not be mounted for it


@in_pidns
def test_an_empty_volume_survives_a_restart_and_ends_with_its_pod(place: Place):
    """§9.3.2, H19"""
    session = place.start(
        pod(
            "web",
            sh(
                "app",
                "echo x >>/podvisor-data/runs; [ $(wc -l </podvisor-data/runs) = 1 ] && exit 1;"
                "chmod 0 /podvisor-data; echo twice; exec sleep 1000",
                volumeMounts=[mount("data", "/podvisor-data")],
            ),
            volumes=[empty("data")],
        ),
        "--backoff-initial=10ms",
        "--grace-period=0",
    )
    session.until_logged("twice")
    session.signal(signal.SIGINT)
    session.wait(130)  # and nothing is left, though the container has closed the volume


@in_pidns
def test_an_empty_volume_survives_the_restart_of_all_containers(place: Place):
    """§9.3.2, §3.4.2, H19"""
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    mounts = [mount("data", "/podvisor-data")]
    finished = place.run(
        pod(
            "web",
            sh(
                "app",
                "echo app >>/podvisor-data/runs; cat /podvisor-data/runs;"
                "[ $(grep -c app /podvisor-data/runs) = 2 ] || exit 42",
                volumeMounts=mounts,
                restartPolicy="Never",
                restartPolicyRules=[rule],
            ),
            init=(sh("first", "echo first >>/podvisor-data/runs", volumeMounts=mounts),),
            volumes=[empty("data")],
            **NEVER,
        ),
        "--backoff-initial=10ms",
        "--no-prefix",
        code=0,
    )
    assert finished.out.split() == ["first", "app", "first", "app", "first", "app"]


@in_pidns
def test_a_pod_waits_for_what_it_is_to_mount(place: Place):
    """§9.3.1, A17"""
    source = os.path.join(place.folder, "late")
    session = place.start(
        pod(
            "web",
            sh("app", "echo here", volumeMounts=[mount("late", "/podvisor-late")]),
            volumes=[{"name": "late", "hostPath": {"path": source, "type": "Directory"}}],
            **NEVER,
        )
    )
    session.until_said(f"hostPath type check failed: {source} is not a directory")
    os.mkdir(source)
    finished = session.wait(0)
    assert 'FailedMount: MountVolume.SetUp failed for volume "late" : ' in finished.err
    assert finished.err.count("FailedMount") == 1


@in_pidns
@pytest.mark.parametrize("value", ["..", "/tmp"])
def test_a_sub_path_that_leads_elsewhere_keeps_its_container_from_starting(
    place: Place, value: str
):
    """§9.3.5, H05, H06"""
    session = place.start(
        pod(
            "web",
            sh(
                "app",
                "echo never",
                env=[{"name": "WHERE", "value": value}],
                volumeMounts=[mount("data", "/podvisor-data", subPathExpr="$(WHERE)")],
            ),
            volumes=[empty("data")],
            **NEVER,
        )
    )
    session.until_said("CreateContainerConfigError")
    session.signal(signal.SIGINT)
    assert "never" not in session.wait(130).out


@in_pidns
def test_the_hosts_file_has_the_pod_and_its_aliases(place: Place):
    """H22"""
    finished = place.run(
        pod(
            "web",
            sh("app", "cat /etc/hosts; getent hosts web"),
            hostAliases=[{"ip": "10.1.2.3", "hostnames": ["db", "db.shop"]}],
            **NEVER,
        ),
        code=0,
    )
    lines = [line.partition("| ")[2] for line in finished.out.splitlines()]
    assert lines[0] == "# Kubernetes-managed hosts file (host network)."
    assert "127.0.0.1\tweb" in lines
    assert "10.1.2.3\tdb\tdb.shop" in lines
    assert lines[-1].split() == ["127.0.0.1", "web"]


@in_pidns
def test_a_working_directory_that_a_mount_covers_is_told_from_one_that_is_missing(place: Place):
    folder = os.path.join(place.folder, "web")
    covered = sh("covered", ":", workingDir=folder, volumeMounts=[mount("work", place.folder)])
    missing = sh("missing", ":", workingDir="/podvisor-none")
    finished = place.run(pod("web", covered, missing, volumes=[empty("work")], **NEVER), code=1)
    why = "no such file or directory"
    assert f'directory "{folder}": {why} in what is mounted at {place.folder}\n' in finished.err
    assert f'directory "/podvisor-none": {why}\n' in finished.err


@in_pidns
def test_a_private_tmp_is_empty_at_each_start(place: Place):
    place.write("podvisor.toml", "private-tmp = true\n")
    # A folder that its user has closed to himself goes with the rest.
    script = "ls -A /tmp; stat -c %a /tmp; mkdir -p /tmp/x/y; chmod 0 /tmp/x"
    session = place.start(
        pod("web", sh("app", f"{script}; exit 1", workingDir="/"), restartPolicy="OnFailure"),
        "--backoff-initial=10ms",
    )
    session.until(lambda: session.out.count("1777") >= 2, "two starts")
    session.signal(signal.SIGINT)
    assert "| x" not in session.wait(130).out


@as_root
def test_an_fs_group_may_write_and_what_it_writes_stays_its(place: Place, way: Way):
    """§9.4.1"""
    if not way.namespaces:
        pytest.skip("nothing is mounted in mode group")
    finished = place.run(
        pod(
            "web",
            sh(
                "app",
                "id -G; echo x >/podvisor-data/x; stat -c '%g %a' /podvisor-data /podvisor-data/x",
                volumeMounts=[mount("data", "/podvisor-data")],
            ),
            volumes=[empty("data")],
            securityContext={"runAsUser": 1234, "fsGroup": 4321},
            **NEVER,
        ),
        code=0,
    )
    lines = [line.partition("| ")[2] for line in finished.out.splitlines()]
    assert lines == ["0 4321", "4321 2777", "4321 644"]


@in_group
def test_without_namespaces_mounts_are_refused_by_name(place: Place):
    finished = place.run(
        pod(
            "web",
            sh("app", "true", volumeMounts=[mount("data", "/data")]),
            volumes=[empty("data")],
            hostAliases=[{"ip": "10.1.2.3", "hostnames": ["db"]}],
        ),
        code=3,
    )
    where = "spec.containers[0].volumeMounts[0]: mounting volume data at /data"
    assert f"{where} is not possible in isolation mode group" in finished.err
    assert "hostAliases is not possible" in finished.err
    assert "podvisor doctor" in finished.err
