"""Volumes: what is mounted where, what the node writes, and how it lies on the disk."""

from __future__ import annotations

import os
import pathlib
import socket
import stat
from typing import Any

import msgspec
import pytest

from supervisor.api import v1, validation
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime import volume_files, volumes
from supervisor.runtime.cri import Isolation, Mount, StartError
from supervisor.runtime.spec import Configuration, NodeInfo, launch_spec
from supervisor.runtime.volumes import File, VolumeError, contents, hosts

CONFIGURATION = Configuration(
    config_maps={("shop", "app"): {"a.conf": b"one", "b.conf": b"two"}},
    secrets={("shop", "login"): {"user": b"me", "password": b"hidden"}},
)
NODE = NodeInfo(
    name="here",
    host_ip="127.0.0.1",
    isolation=Isolation.PIDNS,
    state_dir="/state",
    working_dir="/project",
    uid=0,
    gid=0,
    groups=(0,),
    cpu_millis=2000,
    memory=8 << 30,
    configuration=CONFIGURATION,
)
HOSTS = Mount(source="/state/pods/u-1/etc-hosts", target="/etc/hosts")
OWN = "/state/pods/u-1/volumes"
PROJECTED = "kubernetes.io~projected"


def pod(*sources: dict[str, Any], meta: dict[str, Any] | None = None, **app: Any) -> v1.Pod:
    """Its volumes are named v0, v1 ..."""
    data = {
        "metadata": {"name": "web", "namespace": "shop"} | (meta or {}),
        "spec": {
            "volumes": [{"name": f"v{index}"} | source for index, source in enumerate(sources)],
            "containers": [{"name": "app", "command": ["true"]} | app],
        },
    }
    made = validation.with_defaults(msgspec.convert(data, v1.Pod))
    replaced = msgspec.structs.replace(made.metadata, uid="u-1")
    return msgspec.structs.replace(made, metadata=replaced)


def held(source: dict[str, Any], **meta: Any) -> dict[str, File]:
    made = pod(source, meta=meta, resources={"limits": {"cpu": "1500m"}})
    return contents(made.spec.volumes[0], made, NODE)


def problem(source: dict[str, Any]) -> str:
    with pytest.raises(VolumeError) as caught:
        held(source)
    return str(caught.value)


# --- what the node writes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(
            {"configMap": {"name": "app"}},
            {"a.conf": File(b"one", 0o644), "b.conf": File(b"two", 0o644)},
            id="all keys",
        ),
        pytest.param(
            {"configMap": {"name": "app", "defaultMode": 0o600, "items": [
                {"key": "a.conf", "path": "etc/x"},
                {"key": "a.conf", "path": "y", "mode": 0o444},
            ]}},
            {"etc/x": File(b"one", 0o600), "y": File(b"one", 0o444)},
            id="some keys, each where it is wanted",
        ),
        pytest.param({"configMap": {"name": "no", "optional": True}}, {}, id="optional"),
        pytest.param(
            {"configMap": {"name": "app", "optional": True, "items": [
                {"key": "no", "path": "a"}, {"key": "a.conf", "path": "b"},
            ]}},
            {"b": File(b"one", 0o644)},
            id="optional keys",
        ),
        pytest.param(
            {"secret": {"secretName": "login", "defaultMode": 0o400}},
            {"user": File(b"me", 0o400), "password": File(b"hidden", 0o400)},
            id="a secret",
        ),
        pytest.param(
            {"downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "name", "mode": 0o600, "fieldRef": {"fieldPath": "metadata.name"}},
                {"path": "one", "fieldRef": {"fieldPath": "metadata.annotations['a']"}},
                {"path": "cpu", "resourceFieldRef": {
                    "containerName": "app", "resource": "limits.cpu", "divisor": "1m"}},
            ]}},
            {
                "labels": File(b'a="1"\nb="2"', 0o644),
                "name": File(b"web", 0o600),
                "one": File(b'say "hi"\n', 0o644),
                "cpu": File(b"1500", 0o644),
            },
            id="the downward API",
        ),
        pytest.param(
            {"projected": {"defaultMode": 0o440, "sources": [
                {"configMap": {"name": "app"}},
                {"secret": {"name": "login", "items": [{"key": "user", "path": "a.conf"}]}},
                {"downwardAPI": {"items": [
                    {"path": "me", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                {"secret": {"name": "no", "optional": True}},
            ]}},
            {
                "a.conf": File(b"me", 0o440),
                "b.conf": File(b"two", 0o440),
                "me": File(b"shop", 0o440),
            },
            id="several in one, the later one wins",
        ),
    ],
)  # fmt: skip
def test_files_of_volumes_have_their_paths_bytes_and_modes(
    source: dict[str, Any], expected: dict[str, File]
) -> None:
    """§9.3.4"""
    labels = {"b": "2", "a": "1"}
    assert held(source, labels=labels, annotations={"a": 'say "hi"\n'}) == expected


def test_whole_maps_are_quoted_as_go_quotes_them() -> None:
    items = [{"path": "x", "fieldRef": {"fieldPath": "metadata.annotations"}}]
    annotations = {"a": 'tab\t"x"\\', "b": "é \x01 \u200b \U000e0001"}
    said = held({"downwardAPI": {"items": items}}, annotations=annotations)["x"].data.decode()
    assert said == 'a="tab\\t\\"x\\"\\\\"\nb="é \\x01 \\u200b \\U000e0001"'


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "app", "items": [{"key": "k", "path": "p"}]}},
            "configmap references non-existent config key: k",
        ),
        (
            {"secret": {"secretName": "login", "items": [{"key": "k", "path": "p"}]}},
            "references non-existent secret key: k",
        ),
        (
            {"projected": {"sources": [{"configMap": {"name": "x"}}, {"secret": {"name": "y"}}]}},
            '[configmap "x" not found, secret "y" not found]',
        ),
        (
            {"downwardAPI": {"items": [{"path": "p", "resourceFieldRef": {
                "containerName": "no", "resource": "limits.cpu"}}]}},
            "container no not found",
        ),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_said_in_the_kubelets_words(
    source: dict[str, Any], text: str
) -> None:
    """§9.3.4"""
    assert problem(source) == text


def test_the_hosts_file_is_the_hosts_with_the_pod_and_its_aliases() -> None:
    alias = v1.HostAlias(ip="10.0.0.1", hostnames=("db", "db.local"))
    assert hosts("127.0.0.1 localhost", "127.0.0.1", "web", [alias]) == (
        "# Kubernetes-managed hosts file (host network).\n"
        "127.0.0.1 localhost\n"
        "127.0.0.1\tweb\n"
        "\n# Entries added by HostAliases.\n"
        "10.0.0.1\tdb\tdb.local\n"
    )


# --- what is mounted -------------------------------------------------------------------------


def mounts(node: NodeInfo = NODE, *sources: dict[str, Any], **app: Any) -> tuple[Mount, ...]:
    made = pod(*sources, **app)
    id = ContainerId("u-1", "app", 0)
    return launch_spec(made, made.spec.containers[0], id, node).mounts


def mount(volume: int, path: str, **more: Any) -> dict[str, Any]:
    return {"name": f"v{volume}", "mountPath": path, **more}


def test_each_kind_of_volume_is_mounted_from_where_it_lies_parents_first() -> None:
    found = mounts(
        NODE,
        {"emptyDir": {}},
        {"hostPath": {"path": "/srv/data"}},
        {"secret": {"secretName": "login"}},
        volumeMounts=[
            mount(1, "/cache/deep/data/", readOnly=True),
            mount(2, "run/login"),
            mount(0, "/cache"),
        ],
    )
    assert found == (
        Mount(source=f"{OWN}/kubernetes.io~empty-dir/v0", target="/cache"),
        HOSTS,
        Mount(source=f"{OWN}/kubernetes.io~secret/v2", target="/run/login", read_only=True),
        Mount(source="/srv/data", target="/cache/deep/data", read_only=True),
    )


IN_MEMORY = "/memory/pods/u-1/volumes"


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ({"emptyDir": {}}, f"{OWN}/kubernetes.io~empty-dir"),
        ({"emptyDir": {"medium": "Memory"}}, f"{IN_MEMORY}/kubernetes.io~empty-dir"),
        ({"secret": {"secretName": "login"}}, f"{IN_MEMORY}/kubernetes.io~secret"),
        ({"configMap": {"name": "app"}}, f"{OWN}/kubernetes.io~configmap"),
        ({"projected": {"sources": [{"configMap": {"name": "app"}}]}}, f"{OWN}/{PROJECTED}"),
        (
            {"projected": {"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "b"}}]}},
            f"{IN_MEMORY}/{PROJECTED}",
        ),
    ],
)
def test_what_must_not_reach_a_disk_lies_in_memory_if_there_is_a_folder(
    source: dict[str, Any], folder: str
) -> None:
    """§9.3.2"""
    given = [mount(0, "/v")]
    node = msgspec.structs.replace(NODE, memory_dir="/memory")
    assert mounts(node, source, volumeMounts=given)[0].source == f"{folder}/v0"
    on_disk = folder.replace(IN_MEMORY, OWN)
    assert mounts(NODE, source, volumeMounts=given)[0].source == f"{on_disk}/v0"


def test_a_volume_at_etc_hosts_and_tmp_comes_before_our_own() -> None:
    node = msgspec.structs.replace(NODE, private_tmp=True)
    source = f"{OWN}/kubernetes.io~empty-dir/v0"
    given = [mount(0, "/tmp"), mount(0, "/etc/hosts", subPath="h")]
    assert mounts(node, {}, volumeMounts=given) == (
        Mount(source=source, target="/tmp"),
        Mount(source=source, target="/etc/hosts", sub_path="h"),
    )
    assert mounts(node, {})[0] == Mount(
        source="/state/pods/u-1/containers/app/0/tmp", target="/tmp"
    )


def sub_path(expression: str, value: str) -> str:
    env = [{"name": "NAME", "value": value}]
    found = mounts(NODE, {}, env=env, volumeMounts=[mount(0, "/v", subPathExpr=expression)])
    return next(m.sub_path for m in found if m.target == "/v")


def test_a_sub_path_is_expanded() -> None:
    """§9.3.5, H04"""
    assert sub_path("$(NAME)/logs", "web") == "web/logs"
    assert sub_path("$$(NAME)", "web") == "$(NAME)"


@pytest.mark.parametrize(
    ("expression", "value", "text"),
    [
        ("$(NAME)", "..", "unable to provision SubPath `$(NAME)`: must not contain '..'"),
        ("$(NAME)", "/tmp", "error SubPath `$(NAME)` must not be an absolute path"),
        ("$(NAME)", "", "missing value for NAME"),
        ("$(PATH)/$(B)/$(A)", "web", "missing value for A, B, PATH"),
    ],
)
def test_an_expanded_sub_path_must_stay_in_its_volume(
    expression: str, value: str, text: str
) -> None:
    """§9.3.5, H05, H06. What a variable holds is not repeated: it may be a Secret's."""
    with pytest.raises(StartError) as caught:
        sub_path(expression, value)
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", text)


@pytest.mark.parametrize("path", ["/", "//", "/proc", "/proc/sys", "."])
def test_nothing_is_mounted_over_the_root_or_proc(path: str) -> None:
    with pytest.raises(StartError, match="nothing can be mounted at /"):
        mounts(NODE, {}, volumeMounts=[mount(0, path)])


def test_in_group_mode_a_mount_is_refused_by_name_with_the_remedy() -> None:
    group = msgspec.structs.replace(NODE, isolation=Isolation.GROUP)
    assert mounts(group, {}) == ()
    with pytest.raises(StartError) as caught:
        mounts(group, {}, volumeMounts=[mount(0, "/v")])
    assert "mounting volume v0 at /v is not possible in isolation mode group" in str(caught.value)
    assert "podvisor doctor" in str(caught.value)


# --- how it lies on the disk -----------------------------------------------------------------


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    """What a container sees."""
    found = {}
    for parent, _, files in os.walk(folder, followlinks=True):
        for name in files:
            path = pathlib.Path(parent, name)
            if not path.relative_to(folder).parts[0].startswith(".."):
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def hidden(folder: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith(".."))


def files(**given: bytes) -> dict[str, File]:
    return {name.replace("__", "/"): File(data, 0o640) for name, data in given.items()}


def test_files_are_swapped_as_a_whole_and_only_when_they_differ(tmp_path: pathlib.Path) -> None:
    """§9.3.4"""
    volume = tmp_path / "v"
    assert volume_files.write(str(volume), files(a=b"1", etc__b=b"2", gone=b"x"), None)
    assert tree(volume) == {"a": b"1", "etc/b": b"2", "gone": b"x"}
    assert os.readlink(volume / "a") == "..data/a"
    assert stat.S_IMODE((volume / "a").stat().st_mode) == 0o640
    first = os.readlink(volume / "..data")
    assert not volume_files.write(str(volume), files(a=b"1", etc__b=b"2", gone=b"x"), None)
    assert os.readlink(volume / "..data") == first

    with open(volume / "a", "rb") as opened:
        (volume / "..2001_left_over").mkdir()  # by a writer that was killed
        os.symlink("..2001_left_over", volume / "..data_tmp")
        assert volume_files.write(str(volume), files(a=b"3", etc__b=b"2", new=b"4"), None)
        assert opened.read() == b"1"  # who has it open has the old one
    assert tree(volume) == {"a": b"3", "etc/b": b"2", "new": b"4"}
    assert hidden(volume) == sorted(["..data", os.readlink(volume / "..data")])


def test_a_writer_that_was_killed_after_the_swap_leaves_no_volume_without_files(
    tmp_path: pathlib.Path,
) -> None:
    """§9.3.4"""
    volume = tmp_path / "v"
    volume_files.write(str(volume), files(a=b"1"), None)
    os.unlink(volume / "a")
    os.symlink("..data/gone", volume / "gone")
    assert not volume_files.write(str(volume), files(a=b"1"), None)
    assert tree(volume) == {"a": b"1"}
    assert not os.path.lexists(volume / "gone")


def test_where_other_volumes_are_mounted_stays_when_files_change(tmp_path: pathlib.Path) -> None:
    """§9.3.4; unlinking a file that is mounted over would end that mount in the container."""
    volume = tmp_path / "v"
    volume_files.write(str(volume), files(a=b"1"), None)
    (volume / "folder").mkdir()
    (volume / "file").touch()
    assert volume_files.write(str(volume), files(b=b"2"), None)
    assert tree(volume) == {"b": b"2", "file": b""}
    assert (volume / "folder").is_dir()


def test_files_that_cannot_be_written_leave_nothing_behind(tmp_path: pathlib.Path) -> None:
    volume = tmp_path / "v"
    volume_files.write(str(volume), files(a=b"1"), None)
    before = hidden(volume)
    with pytest.raises(VolumeError, match="/v/a/b: not a directory"):
        volume_files.write(str(volume), files(a=b"1", a__b=b"2"), None)
    assert hidden(volume) == before
    assert tree(volume) == {"a": b"1"}


def test_a_mode_alone_is_a_difference_and_no_files_are_none(tmp_path: pathlib.Path) -> None:
    volume = tmp_path / "v"
    assert volume_files.write(str(volume), {"a": File(b"1", 0o600)}, None)
    assert volume_files.write(str(volume), {"a": File(b"1", 0o400)}, None)
    assert stat.S_IMODE((volume / "a").stat().st_mode) == 0o400
    assert volume_files.write(str(volume), {}, None)
    assert tree(volume) == {}
    assert not volume_files.write(str(volume), {}, None)


def test_an_empty_volume_is_everybodys_and_keeps_what_it_holds(tmp_path: pathlib.Path) -> None:
    """§9.3.2"""
    before = os.umask(0o077)
    try:
        volume_files.make_empty(str(tmp_path / "v"), None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "v").stat().st_mode) == 0o777
    (tmp_path / "v" / "kept").write_bytes(b"1")
    volume_files.make_empty(str(tmp_path / "v"), None)
    assert tree(tmp_path / "v") == {"kept": b"1"}


def test_an_fs_group_gets_what_the_volume_holds(tmp_path: pathlib.Path) -> None:
    """§9.4.1: set-gid folders, files that the group can read, and write where the pod writes."""
    group = os.getegid()
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "file").write_bytes(b"")
    (tmp_path / "v" / "file").chmod(0o600)
    volume_files.make_empty(str(tmp_path / "v"), group)
    assert stat.S_IMODE((tmp_path / "v").stat().st_mode) == 0o2777
    assert stat.S_IMODE((tmp_path / "v" / "file").stat().st_mode) == 0o660
    volume_files.write(str(tmp_path / "w"), {"a": File(b"1", 0o400)}, group)
    assert stat.S_IMODE((tmp_path / "w" / "a").stat().st_mode) == 0o440
    assert (tmp_path / "w" / "a").stat().st_gid == group
    assert not volume_files.write(str(tmp_path / "w"), {"a": File(b"1", 0o400)}, group)


@pytest.mark.parametrize(
    ("kind", "there", "text"),
    [
        ("Directory", "file", "is not a directory"),
        ("DirectoryOrCreate", "file", "is not a directory"),
        ("Directory", None, "is not a directory"),
        ("File", "folder", "is not a file"),
        ("FileOrCreate", "folder", "is not a file"),
        ("File", None, "is not a file"),
        ("Socket", "file", "is not a socket file"),
        ("CharDevice", "file", "is not a character device"),
        ("BlockDevice", None, "is not a block device"),
    ],
)
def test_a_host_path_of_another_type_is_refused(
    tmp_path: pathlib.Path, kind: str, there: str | None, text: str
) -> None:
    """§9.3.3"""
    path = tmp_path / "p"
    if there == "file":
        path.write_bytes(b"")
    elif there == "folder":
        path.mkdir()
    with pytest.raises(VolumeError) as caught:
        volume_files.check_host_path(v1.HostPathVolumeSource(path=str(path), type=kind))
    assert str(caught.value) == f"hostPath type check failed: {path} {text}"
    assert path.exists() == (there is not None)


def test_host_paths_are_made_with_their_modes_whatever_the_umask(tmp_path: pathlib.Path) -> None:
    """§9.3.3"""
    before = os.umask(0o077)
    try:
        for name, kind in (("a/b", "DirectoryOrCreate"), ("a/file", "FileOrCreate"), ("c", "")):
            source = v1.HostPathVolumeSource(path=str(tmp_path / name), type=kind)
            volume_files.check_host_path(source)
            volume_files.check_host_path(source)
    finally:
        os.umask(before)
    modes = {name: (tmp_path / name).stat().st_mode for name in ("a", "a/b", "a/file", "c")}
    folder, file = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
    assert modes == {"a": folder, "a/b": folder, "a/file": file, "c": folder}


def test_a_host_path_may_be_anything_that_its_type_says(tmp_path: pathlib.Path) -> None:
    """§9.3.3"""
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(tmp_path)  # its path may be too long for a socket
        try:
            made.bind("s")
        finally:
            os.chdir(here)
        for path, kind in ((tmp_path / "s", "Socket"), ("/dev/null", "CharDevice")):
            volume_files.check_host_path(v1.HostPathVolumeSource(path=str(path), type=kind))
    path = str(tmp_path / "no" / "file")
    with pytest.raises(VolumeError, match="no such file or directory"):
        volume_files.check_host_path(v1.HostPathVolumeSource(path=path, type="FileOrCreate"))
    with pytest.raises(VolumeError, match="must be an absolute path"):
        volume_files.check_host_path(v1.HostPathVolumeSource(path="a", type=""))


def test_what_fails_is_told_as_go_does_and_each_time_alike(tmp_path: pathlib.Path) -> None:
    """§9.3.1"""
    (tmp_path / "file").touch()
    below, volume = str(tmp_path / "file" / "a" / "b"), str(tmp_path / "v")
    long, behind = "x" * 300, str(tmp_path / "v" / "behind")
    (tmp_path / "v").mkdir()
    os.symlink("nowhere/file", behind)
    every = {
        f"mkdir {tmp_path}/file: not a directory": lambda: volume_files.check_host_path(
            v1.HostPathVolumeSource(path=below)
        ),
        f"open {below}: not a directory": lambda: volume_files.check_host_path(
            v1.HostPathVolumeSource(path=below, type="FileOrCreate")
        ),
        f"hostPath type check failed: {below} is not a directory": (
            lambda: volume_files.check_host_path(
                v1.HostPathVolumeSource(path=below, type="Directory")
            )
        ),
        f"mkdir {below}: not a directory": lambda: volume_files.make_empty(below, None),
        f"open {volume}/{long}: file name too long": lambda: volume_files.write(
            volume, {"a": File(b"1", 0o644), long: File(b"2", 0o644)}, None
        ),
        f"open {behind}: no such file or directory": lambda: volume_files.write_hosts(behind, ""),
        f"mkdir {tmp_path}/file: file exists": lambda: volume_files.make_tmp(f"{tmp_path}/file"),
    }
    for text, failing in every.items():
        for _ in range(2):
            with pytest.raises(VolumeError) as caught:
                failing()
            assert str(caught.value) == text
    assert os.listdir(volume) == ["behind"], "nothing piles up"


def resolved(volume: pathlib.Path, sub_path: str) -> str:
    wanted = Mount(source=str(volume), target="/v", sub_path=sub_path)
    return volume_files.resolve(wanted, "v", "app")


def test_a_sub_path_is_made_with_the_mode_of_its_volume(tmp_path: pathlib.Path) -> None:
    """§9.3.5"""
    tmp_path.chmod(0o770)
    assert resolved(tmp_path, "a/b") == str(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o770
    (tmp_path / "file").write_bytes(b"")
    os.symlink("file", tmp_path / "link")
    assert resolved(tmp_path, "link") == str(tmp_path / "file")


@pytest.mark.parametrize("sub_path", ["out", "out/x", "out/x/y", "dangling", "in/../../x"])
def test_a_sub_path_never_leads_out_of_its_volume(tmp_path: pathlib.Path, sub_path: str) -> None:
    """§9.3.5"""
    volume = tmp_path / "v"
    (volume / "in").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    os.symlink("..", volume / "out")
    os.symlink("../nothing", volume / "dangling")
    with pytest.raises(StartError) as caught:
        resolved(volume, sub_path)
    assert caught.value.reason == "CreateContainerConfigError"
    assert "subPath" in caught.value.message
    assert 'for volumeMount "v" of container "app"' in caught.value.message
    assert sorted(os.listdir(tmp_path)) == ["v", "x"]
    assert os.listdir(tmp_path / "x") == []


def test_what_is_exchanged_while_a_sub_path_is_made_leads_nowhere(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§9.3.5"""
    (tmp_path / "v").mkdir(mode=0o777)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim").chmod(0o700)
    make = os.mkdir

    def make_and_lose(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        make(path, mode, dir_fd=dir_fd)
        os.rename(tmp_path / "v" / "a", tmp_path / "v" / "away")
        os.symlink(tmp_path / "victim", tmp_path / "v" / "a")

    monkeypatch.setattr(os, "mkdir", make_and_lose)
    with pytest.raises(StartError, match="failed to create subPath directory"):
        resolved(tmp_path / "v", "a/b")
    assert os.listdir(tmp_path / "victim") == []
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o700


def test_what_a_volume_takes_is_counted_once_for_each_file(tmp_path: pathlib.Path) -> None:
    empty = volume_files.used(str(tmp_path))
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    once = volume_files.used(str(tmp_path))
    os.link(tmp_path / "a", tmp_path / "b")
    assert 100_000 <= once - empty < 120_000
    assert volume_files.used(str(tmp_path)) == once


def test_a_volume_goes_also_when_its_folders_were_closed(tmp_path: pathlib.Path) -> None:
    deep = tmp_path / "v" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    os.symlink("/etc", tmp_path / "v" / "a" / "elsewhere")
    deep.chmod(0)
    (tmp_path / "v" / "a").chmod(0)
    volume_files.remove(str(tmp_path / "v"))
    assert os.listdir(tmp_path) == []


def test_limits_are_those_that_are_more_than_nothing() -> None:
    made = pod({"emptyDir": {"sizeLimit": "1Mi"}}, {"emptyDir": {"sizeLimit": "0"}}, {})
    assert [(v.name, str(limit)) for v, limit in volumes.size_limits(made)] == [("v0", "1Mi")]
