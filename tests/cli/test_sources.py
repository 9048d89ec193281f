"""What the files of a durable node say, look after look."""

from __future__ import annotations

import os
import pathlib
import threading
from typing import Any

import anyio
import pytest

from supervisor.api import v1
from supervisor.cli.sources import Sources, owned
from supervisor.project import manifests

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  containers:
  - name: app
    command: [COMMAND]
"""


def pod(name: str, command: str = "one") -> str:
    return POD.replace("NAME", name).replace("COMMAND", command)


def put(path: pathlib.Path, content: str) -> str:
    """There as a whole or not at all, and never mistaken for what was there."""
    new = path.with_suffix(".new")
    new.write_text(content)
    os.rename(new, path)
    return str(path)


def look(sources: Sources) -> list[str]:
    return [str(problem) for problem in sources.look()]


def wanted(sources: Sources) -> dict[str, str]:
    """By name: what its container runs."""
    return {name: h.pod.spec.containers[0].command[0] for (_, name), h in sources.wanted.items()}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "pods"
    path.mkdir()
    return path


def test_files_come_change_and_go(folder: pathlib.Path) -> None:
    put(folder / "a.yaml", pod("a"))
    put(folder / "notes.txt", "no manifest")
    sources = Sources([str(folder)])
    assert look(sources) == []
    assert wanted(sources) == {"a": "one"}
    put(folder / "b.yml", pod("b"))
    put(folder / "a.yaml", pod("a", "two"))
    assert look(sources) == []
    assert wanted(sources) == {"a": "two", "b": "one"}
    (folder / "a.yaml").unlink()
    assert look(sources) == look(sources) == []
    assert wanted(sources) == {"b": "one"}


def test_a_file_that_has_not_changed_is_not_read_again(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.yaml", pod("a"))
    sources = Sources([str(folder)])
    look(sources)
    monkeypatch.setattr("supervisor.project.manifests.load", None)  # calling it would fail
    assert look(sources) == []
    assert wanted(sources) == {"a": "one"}


def test_a_broken_file_says_why_once_and_stands_for_what_it_held_last(
    folder: pathlib.Path,
) -> None:
    path = put(folder / "a.yaml", pod("a"))
    sources = Sources([path])
    look(sources)
    put(folder / "a.yaml", pod("a").replace("command", "comand"))
    (said,) = look(sources)
    assert said.startswith(f"{path}:7:5: error: spec.containers[0].comand: Unknown field")
    assert look(sources) == []
    assert sources.is_broken(path)
    assert wanted(sources) == {"a": "one"}
    put(folder / "a.yaml", "")
    (said,) = look(sources)
    assert "no documents" in said
    put(folder / "a.yaml", pod("a", "two"))
    assert look(sources) == []
    assert not sources.is_broken(path)
    assert wanted(sources) == {"a": "two"}


def test_what_is_broken_from_the_start_is_wanted_when_it_is_repaired(folder: pathlib.Path) -> None:
    path = put(folder / "a.yaml", "a: [")
    sources = Sources([str(folder)])
    assert len(look(sources)) == 1
    assert (sources.is_broken(path), wanted(sources)) == (True, {})
    put(folder / "a.yaml", pod("a"))
    assert look(sources) == []
    assert (sources.is_broken(path), wanted(sources)) == (False, {"a": "one"})


def test_what_something_else_broke_comes_back_though_the_file_is_the_same(
    folder: pathlib.Path,
) -> None:
    path = put(folder / "a.yaml", pod("a"))
    put(folder / "podvisor.toml", "backoff-max = 'soon'\n")
    sources = Sources([path])
    (said,) = look(sources)
    assert "backoff-max" in said
    assert look(sources) == []
    put(folder / "podvisor.toml", "backoff-max = '10s'\n")
    assert look(sources) == []
    assert wanted(sources) == {"a": "one"}
    assert sources.wanted["default", "a"].project.backoff_max == 10


def test_a_changed_project_file_or_env_file_is_as_if_the_manifests_had_changed(
    folder: pathlib.Path,
) -> None:
    put(folder / "a.yaml", pod("a").replace("spec:", "spec:\n  nodeSelector: {disk: ssd}"))
    put(folder / "b.yaml", pod("b"))
    put(folder.parent / "podvisor.toml", "env-file = 'service.env'\n")
    put(folder.parent / "service.env", "A=1\n")
    sources = Sources([str(folder)])
    assert len(look(sources)) == 1  # nodeSelector is ignored
    projects = [sources.wanted["default", name].project for name in "ab"]
    assert [project.given for project in projects] == [(("A", "1"),)] * 2
    assert look(sources) == []
    put(folder.parent / "service.env", "A=22\n")
    assert look(sources) == []
    assert sources.wanted["default", "b"].project.given == (("A", "22"),)
    put(folder.parent / "podvisor.toml", "backoff-max = 'soon'\n")
    (said,) = look(sources)
    assert "podvisor.toml:1:1: error: backoff-max" in said
    assert sources.wanted["default", "a"].project.given == (("A", "22"),)
    put(folder / "podvisor.toml", "backoff-max = '10s'\n")  # nearer to them
    assert look(sources) == []
    assert sources.wanted["default", "a"].project.backoff_max == 10
    (folder / "podvisor.toml").unlink()
    (folder.parent / "podvisor.toml").unlink()
    for is_found in (True, False):
        assert look(sources) == []
        assert sources.wanted["default", "a"].project.found is is_found


@pytest.mark.parametrize("name", ["podvisor.toml", "service.env"])
@pytest.mark.parametrize("way", ["emptied", "removed"])
def test_a_project_or_env_file_that_is_being_written_again_changes_nothing(
    folder: pathlib.Path, name: str, way: str
) -> None:
    put(folder / "a.yaml", pod("a"))
    for file, text in (
        ("podvisor.toml", "env-file = 'service.env'\n"),
        ("service.env", "A=1\n"),
    ):
        put(folder / file, text)
    sources = Sources([str(folder)])
    assert look(sources) == look(sources) == []
    before = (folder / name).read_text()
    for _ in range(2):
        if way == "emptied":
            (folder / name).write_text("")
        else:
            (folder / name).unlink()
        assert look(sources) == []
        assert sources.wanted["default", "a"].project.given == (("A", "1"),)
        put(folder / name, before)
        assert look(sources) == []
        assert sources.wanted["default", "a"].project.given == (("A", "1"),)


def test_a_project_file_that_stays_empty_counts_at_the_second_look(folder: pathlib.Path) -> None:
    put(folder / "a.yaml", pod("a"))
    put(folder / "podvisor.toml", "private-tmp = true\n")
    sources = Sources([str(folder)])
    look(sources)
    put(folder / "podvisor.toml", "")
    for is_private in (True, False):
        assert look(sources) == []
        assert sources.wanted["default", "a"].project.private_tmp is is_private


def test_a_broken_file_that_is_removed_takes_its_pods_along(folder: pathlib.Path) -> None:
    path = put(folder / "a.yaml", pod("a"))
    sources = Sources([str(folder)])
    look(sources)
    put(folder / "a.yaml", "a: [")
    look(sources)
    os.unlink(path)
    assert look(sources) == look(sources) == []
    assert (sources.is_broken(path), wanted(sources)) == (False, {})


def test_what_is_not_there_is_said_at_the_first_look_and_may_come(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.yaml"
    sources = Sources([str(path)])
    assert look(sources) == [f"{path}: error: cannot read: there is no such file"]
    assert look(sources) == []
    put(path, pod("a"))
    assert look(sources) == []
    assert wanted(sources) == {"a": "one"}


def test_of_two_pods_of_one_name_the_one_named_first_is_taken(tmp_path: pathlib.Path) -> None:
    second = put(tmp_path / "a.yaml", pod("same", "second"))
    first = put(tmp_path / "b.yaml", pod("same", "first"))
    sources = Sources([first, second])
    clash = f"{second}: error: Pod default/same is not taken: {first} has it"
    assert look(sources) == [clash]
    assert wanted(sources) == {"same": "first"}
    put(tmp_path / "b.yaml", pod("same", "still"))
    assert look(sources) == []  # told already
    os.unlink(first)
    assert look(sources) == look(sources) == []
    assert wanted(sources) == {"same": "second"}
    put(tmp_path / "b.yaml", pod("same", "first"))
    assert look(sources) == [clash]


def test_a_folder_that_cannot_be_read_takes_nothing_away_and_says_so_once(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder / "a.yaml", pod("a"))
    sources = Sources([str(folder)])
    look(sources)

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", refuse)
        for known in (sources, Sources([str(folder)])):
            assert look(known) == [f"{folder}: error: cannot read: Permission denied"]
            assert look(known) == []
            assert known.is_broken(path)
        assert wanted(sources) == {"a": "one"}
    assert look(sources) == []
    assert not sources.is_broken(path)
    assert wanted(sources) == {"a": "one"}


def test_a_file_that_cannot_be_looked_at_is_not_gone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.yaml"
    path.symlink_to("a.yaml")
    sources = Sources([str(path)])
    (said,) = look(sources)
    assert "Too many levels of symbolic links" in said
    assert sources.is_broken(str(path))
    path.unlink()
    assert look(sources) == look(sources) == []
    assert not sources.is_broken(str(path))


def test_a_folder_that_is_gone_takes_its_pods_along(folder: pathlib.Path) -> None:
    path = put(folder / "a.yaml", pod("a"))
    sources = Sources([str(folder)])
    look(sources)
    os.unlink(path)
    folder.rmdir()
    assert look(sources) == look(sources) == []
    assert wanted(sources) == {}


def test_what_is_no_regular_file_holds_nobody_up(folder: pathlib.Path) -> None:
    put(folder / "a.yaml", pod("a"))
    os.mkfifo(folder / "fifo.yaml")
    (folder / "inner.yaml").mkdir()
    put(folder / "inner.yaml" / "b.yaml", pod("b"))  # folders are not entered
    sources = Sources([str(folder)])
    assert look(sources) == [f"{folder}/fifo.yaml: error: cannot read: not a regular file"]
    assert wanted(sources) == {"a": "one"}


def test_a_file_that_is_gone_for_one_look_takes_nothing_away(folder: pathlib.Path) -> None:
    """Some editors write a file by removing it first."""
    path = put(folder / "a.yaml", pod("a"))
    sources = Sources([str(folder)])
    look(sources)
    os.unlink(path)
    assert look(sources) == []
    assert wanted(sources) == {"a": "one"}
    put(folder / "a.yaml", pod("a", "two"))
    assert look(sources) == []
    assert wanted(sources) == {"a": "two"}
    os.unlink(path)
    look(sources)
    assert wanted(sources) == {"a": "two"}, "and the next time it counts anew"
    look(sources)
    assert wanted(sources) == {}


def test_a_path_that_was_never_there_takes_no_pods_away(tmp_path: pathlib.Path) -> None:
    """It may be mistyped, or a disk that is not mounted yet: the pods are those of another path."""
    (tmp_path / "right").mkdir()
    elsewhere = str(tmp_path / "before" / "a.yaml")
    here = str(tmp_path / "right" / "a.yaml")
    sources = Sources([str(tmp_path / "wrong"), str(tmp_path / "right")])
    assert look(sources) != []
    assert sources.is_broken(elsewhere)
    assert not sources.is_broken(here), "that file is surely not there"
    (tmp_path / "wrong").mkdir()
    look(sources)
    assert not sources.is_broken(elsewhere)


CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: VALUE}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n"
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"


def test_configuration_is_that_of_all_files(folder: pathlib.Path) -> None:
    put(folder / "a.yaml", pod("a"))
    put(folder / "c.yaml", CONFIG.replace("VALUE", "one"))
    put(folder / "s.yaml", SECRET)
    sources = Sources([str(folder)])
    assert look(sources) == []
    assert sources.configuration.config_maps == {("default", "c"): {"a": b"one"}}
    assert sources.configuration.secrets == {("default", "s"): {"a": b"b"}}
    put(folder / "c.yaml", CONFIG.replace("VALUE", "other"))
    (folder / "s.yaml").unlink()
    assert look(sources) == look(sources) == []
    assert sources.configuration.config_maps == {("default", "c"): {"a": b"other"}}
    assert sources.configuration.secrets == {}
    put(folder / "c.yaml", CONFIG.replace("a: VALUE", "a: [1]"))
    assert len(look(sources)) == 1
    assert sources.configuration.config_maps == {("default", "c"): {"a": b"other"}}


def test_of_two_config_maps_of_one_name_the_first_stays(folder: pathlib.Path) -> None:
    first = put(folder / "a.yaml", CONFIG.replace("VALUE", "first"))
    second = put(folder / "b.yaml", CONFIG.replace("VALUE", "second") + "---\n" + pod("c"))
    sources = Sources([str(folder)])
    assert look(sources) == [f"{second}: error: ConfigMap default/c is not taken: {first} has it"]
    assert sources.configuration.config_maps == {("default", "c"): {"a": b"first"}}
    assert wanted(sources) == {"c": "one"}
    assert look(sources) == []


def test_a_file_may_hold_only_what_is_not_run(folder: pathlib.Path) -> None:
    path = put(folder / "service.yaml", SERVICE)
    put(folder / "a.yaml", pod("a"))
    sources = Sources([str(folder)])
    (said,) = look(sources)
    assert said.startswith(f"{path}:2:1: warning: skipped")
    assert (sources.is_broken(path), look(sources)) == (False, [])
    strict = Sources([str(folder)], strict=True)
    (said,) = look(strict)
    assert said.startswith(f"{path}:2:1: error: kind Service is not run here")
    assert strict.is_broken(path)


CRON_JOB = """\
apiVersion: batch/v1
kind: CronJob
metadata: {name: NAME}
spec:
  schedule: 0 3 * * *
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: app, command: [job]}]}
"""


def test_a_second_kind_of_one_name_gives_the_pods_of_both_another(folder: pathlib.Path) -> None:
    """Whichever file came first; and without it the other has the plain name again."""
    job = (
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: same}\nspec:\n"
        "  template: {spec: {restartPolicy: Never, containers: [{name: app, command: [once]}]}}\n"
    )
    cron = CRON_JOB.replace("NAME", "same")
    first = put(folder / "b.yaml", job)
    sources = Sources([str(folder)])
    assert (look(sources), wanted(sources)) == ([], {"same": "once"})
    second = put(folder / "a.yaml", cron.replace("  schedule: 0 3 * * *\n", ""))
    assert len(look(sources)) == 1
    assert wanted(sources) == {"same": "once"}, "what is broken has no name yet"
    put(folder / "a.yaml", cron)
    said = [text for text in look(sources) if "is ignored" not in text]
    of_both = [
        f"{second}:3:12: warning: metadata.name is also that of a Job: "
        "this CronJob runs as pod same-cronjob",
        f"{first}:3:12: warning: metadata.name is also that of a CronJob: "
        "this Job runs as pod same-job",
    ]
    assert said == of_both
    both = {"same-cronjob": "job", "same-job": "once"}
    assert (look(sources), wanted(sources)) == ([], both)
    again = Sources([str(folder)])
    look(again)
    assert wanted(again) == both
    os.unlink(second)
    assert look(sources) == look(sources) == []
    assert wanted(sources) == {"same": "once"}


def test_a_pod_may_have_the_name_that_a_workload_gets_with_its_kind(folder: pathlib.Path) -> None:
    """It keeps it, and the workload is not run."""
    put(folder / "a.yaml", CRON_JOB.replace("NAME", "same"))
    put(folder / "b.yaml", pod("same") + "---\n" + pod("same-cronjob", "two"))
    sources = Sources([str(folder)])
    assert look(sources)[-1] == (
        f'{folder}/a.yaml:3:18: error: metadata.name: Duplicate value: "same-cronjob": '
        "another pod has that name"
    )
    assert wanted(sources) == {"same": "one", "same-cronjob": "two"}


# --- on a thread ---------------------------------------------------------------------------------


class Slow:
    """Reading that does not end until it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        self._load = manifests.load
        monkeypatch.setattr(manifests, "load", self.load)

    def load(self, *given: Any, **more: Any) -> manifests.Loaded:
        self.began.set()
        assert self.may_end.wait(30), "nobody goes on while a file is read"
        return self._load(*given, **more)

    async def until_it_began(self) -> None:
        with anyio.fail_after(60):
            while not self.began.is_set():
                await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_the_loop_goes_on_while_a_file_is_read_and_sees_it_as_a_whole(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.yaml", pod("a"))
    sources = Sources([str(folder)])
    look(sources)
    put(folder / "a.yaml", pod("a", "two"))
    put(folder / "b.yaml", "a: [")
    slow, said = Slow(monkeypatch), []

    async def look_aside() -> None:
        said.extend(await sources.look_aside())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_aside)
        await slow.until_it_began()
        assert wanted(sources) == {"a": "one"}
        slow.may_end.set()
    assert wanted(sources) == {"a": "two"}
    assert len(said) == 1


@pytest.mark.anyio
async def test_who_ends_does_not_wait_for_a_file_that_is_read(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.yaml", pod("a"))
    sources, slow = Sources([str(folder)]), Slow(monkeypatch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sources.look_aside)
        await slow.until_it_began()
        tasks.cancel_scope.cancel()
    assert sources.wanted == {}
    slow.may_end.set()


FILE = {"podvisor/source": "/pods/web.yaml", "kubernetes.io/config.hash": "1"}
BY_API = {"podvisor/source": "/pods/web.yaml", "kubernetes.io/config.source": "api"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(None, {"a": "b"}, {"a": "b"}, id="a new pod"),
        pytest.param(None, {**FILE, "a": "b"}, {**BY_API, "a": "b"}, id="a copy of one of a file"),
        pytest.param(FILE, {"a": "b"}, {**FILE, "a": "b"}, id="put in place of one of a file"),
        pytest.param(FILE, {**BY_API, "a": "b"}, {**FILE, "a": "b"}, id="taken from a file"),
        pytest.param(BY_API, FILE, BY_API, id="given to a file"),
        pytest.param(BY_API, {"a": "b"}, {"a": "b"}, id="no file any more"),
    ],
)
def test_requests_do_not_change_whose_a_pod_is(
    old: dict[str, str] | None, new: dict[str, str], expected: dict[str, str]
) -> None:
    def pod(annotations: dict[str, str]) -> v1.Pod:
        return v1.Pod(metadata=v1.ObjectMeta(name="web", annotations=annotations))

    found = owned(None if old is None else pod(old), pod(new))
    assert found == pod(expected)
