"""What podvisor.toml and --map say about images, who is refused by it, and `podvisor images`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from supervisor.cli import images
from supervisor.errors import ManifestError, UsageError
from supervisor.project import manifests
from supervisor.project.manifests import Ids
from supervisor.runtime.images import Image, ImageUser

ROOT = Ids(0, 0, (0,))
ALICE = Ids(4711, 4711, ())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **spec: Any) -> str:
    """The name of a manifest with these containers, called a, b, c."""
    named = [{"name": "abcdef"[i], **fields} for i, fields in enumerate(containers)]
    first = [{"name": f"init-{i}", **fields} for i, fields in enumerate(init)]
    body = {"containers": named, "initContainers": first, **spec}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": body}
    Path("pod.json").write_text(json.dumps(made))
    return "pod.json"


def project(text: str, problems: list[str] | None = None) -> manifests.Project:
    Path("podvisor.toml").write_text(text)
    loaded = manifests.load([pod({"command": ["true"]})], ids=ROOT)
    assert [str(problem) for problem in loaded.problems] == (problems or [])
    return loaded.project


def problems(ids: Ids = ROOT, maps: list[str] | None = None, **given: Any) -> list[str]:
    loaded = manifests.load([pod(given)], ids=ids, maps=manifests.parse_maps(maps))
    return [str(problem).partition("error: ")[2] for problem in loaded.problems]


# --- podvisor.toml -----------------------------------------------------------------------------


def test_an_entry_is_an_images_configuration(here: Path) -> None:
    found = project(
        """
        [images."registry.example/web"]
        entrypoint = ["python3", "-m"]
        command = ["web"]
        working-dir = "src"
        env = { MODE = "local", EMPTY = "" }
        user = "root"
        stop-signal = "SIGRTMIN+3"
        paths = { "/app" = ".", "/etc/web" = "/srv/web" }

        [images]
        "plain:1" = { command = ["true"], user = 4711 }
        """
    )
    assert dict(found.images.entries) == {
        "registry.example/web": Image(
            entrypoint=("python3", "-m"),
            command=("web",),
            working_dir=str(here / "src"),
            env=(("MODE", "local"), ("EMPTY", "")),
            user=ImageUser("root", 0, 0),
            stop_signal="SIGRTMIN+3",
            paths=(("/app", str(here)), ("/etc/web", "/srv/web")),
        ),
        "plain:1": Image(command=("true",), user=ImageUser("4711", 4711, 0)),
    }


def test_everything_wrong_with_entries_is_said_at_its_line() -> None:
    project(
        """\
backoff-max = "5s"
[images."a"]
entry-point = ["x"]
entrypoint = "x"
command = ["x", 1]
working-dir = ""
[images."b:1"]
entrypoint = [""]
env = { A = 1 }
user = "no-such-user"
stop-signal = "TERM"
paths = { "app" = "." }
[images.c]
env = { "A=B" = "x" }
user = true
paths = { "/a/../b" = "." }
[images."docker.io/library/a"]
[images.'']
[images.d]
colour = "red"
paths = { "/" = "." }
user = 3000000000
command = ["a\\u0000b"]
""",
        [
            "podvisor.toml:" + problem
            for problem in (
                '3:1: error: images."a".entry-point: Unknown key (did you mean entrypoint?)',
                '4:1: error: images."a".entrypoint: must be a list of words, such as '
                '["python3", "-m", "web"]',
                '5:1: error: images."a".command: must be a list of words, such as '
                '["python3", "-m", "web"]',
                '6:1: error: images."a".working-dir: must be a folder',
                '8:1: error: images."b:1".entrypoint: must name a program',
                '9:1: error: images."b:1".env: must be names and texts, such as { PORT = "8080" }',
                '10:1: error: images."b:1".user: there is no user "no-such-user" on this machine',
                '11:1: error: images."b:1".stop-signal: must be the name of a signal, such as '
                "SIGQUIT or SIGRTMIN+3",
                '12:1: error: images."b:1".paths: "app" must be an absolute path below /, '
                "without ..",
                '14:1: error: images."c".env: must be names and texts, such as { PORT = "8080" }',
                '15:1: error: images."c".user: must be a number or the name of a user',
                '16:1: error: images."c".paths: "/a/../b" must be an absolute path below /, '
                "without ..",
                '17:1: error: images."docker.io/library/a": names the same images as [images."a"]',
                '18:1: error: images."": must name an image',
                '20:1: error: images."d".colour: Unknown key',
                '21:1: error: images."d".paths: "/" must be an absolute path below /, without ..',
                '22:1: error: images."d".user: must be at most 2147483647',
                '23:1: error: images."d".command: must be a list of words, such as '
                '["python3", "-m", "web"]',
            )
        ],
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'pass-env = []\nimages = "x"',
            '2:1: error: images: must be tables such as [images."nginx"]',
        ),
        ("[images]\na = 1\nb = []", '2:1: error: images."a": must be a table'),
        ('[images]\n"a:1" = { x = 1 }', '2:1: error: images."a:1".x: Unknown key'),
        ('images."a".user = []\n', '1:1: error: images."a".user: must be a number or the name'),
    ],
)
def test_other_ways_to_write_entries_have_lines_too(text: str, problem: str) -> None:
    Path("podvisor.toml").write_text(text)
    said = [str(each) for each in manifests.load([pod({"command": ["true"]})]).problems]
    assert said[0].startswith(f"podvisor.toml:{problem}")


def test_thousands_of_problems_end_somewhere() -> None:
    Path("podvisor.toml").write_text("[images.a]\n" + "\n".join(f"k{i} = 1" for i in range(9000)))
    said = [str(each) for each in manifests.load([pod({"command": ["true"]})]).problems]
    assert len(said) == manifests.MAX_FINDINGS + 1
    assert said[-1] == "podvisor.toml: error: more than 1000 problems: the rest is not shown"


# --- who is refused ----------------------------------------------------------------------------


def test_an_unmapped_image_without_a_command_is_refused_with_the_lines_to_add() -> None:
    said = (
        'spec.containers[0].image "nginx:1.27" stands for no local command, and the container '
        'has none of its own: add the lines `[images."nginx"]` and `entrypoint = ["PROGRAM"]` to '
        "podvisor.toml, or use --map nginx=PROGRAM"
    )
    assert problems(image="nginx:1.27") == [said]
    assert problems(image="nginx:1.27", args=["x"]) == [said]
    assert problems(image="nginx:1.27", command=["x"]) == []
    assert problems(image="nginx:1.27", maps=["nginx=PROGRAM"]) == []
    Path("podvisor.toml").write_text('[images."nginx"]\nentrypoint = ["PROGRAM"]\n')
    assert problems(image="nginx:1.27") == []


def test_a_problem_of_an_image_is_at_its_line() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  initContainers:\n"
    text += "  - name: b\n    image: web\n  containers:\n  - name: c\n    command: [x]\n"
    Path("pod.yaml").write_text(text)
    (problem,) = manifests.load(["pod.yaml"]).problems
    assert str(problem).startswith('pod.yaml:8:5: error: spec.initContainers[0].image "web" ')


def test_an_images_user_that_cannot_be_had_is_refused() -> None:
    Path("podvisor.toml").write_text('[images."w*"]\nentrypoint = ["x"]\nuser = 1\n')
    said = (
        'spec.containers[0].image "web" runs as user 1: podvisor runs as user 4711 and cannot '
        'change it: run podvisor as root, or remove the user from [images."w*"]'
    )
    assert problems(ALICE, image="web") == [said]
    assert problems(ROOT, image="web") == []
    assert problems(ALICE, image="web", securityContext={"runAsUser": 4711}) == []


def test_a_path_that_does_not_exist_is_said_by_who_uses_it(here: Path) -> None:
    Path("podvisor.toml").write_text(
        '[images.web]\nentrypoint = ["x"]\npaths = { "/app" = "build" }\n'
    )
    assert problems(command=["x"]) == []
    (said,) = problems(image="web")
    assert said == (
        f'spec.containers[0].image "web" has {here}/build at /app, which does not exist'
    )
    Path("build").mkdir()
    assert problems(image="web") == []


# --- --map -------------------------------------------------------------------------------------


def test_a_map_is_split_as_a_shell_would() -> None:
    given = ["web='my server' --name \"a b\"", "r/x:1=python -m x --a=b"]
    assert manifests.parse_maps(given) == (
        ("web", ("my server", "--name", "a b")),
        ("r/x:1", ("python", "-m", "x", "--a=b")),
    )
    assert manifests.parse_maps(None) == ()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["web"], "cannot use --map 'web': must be IMAGE=COMMAND, such as web='python3 -m web'"),
        (["=x"], "cannot use --map '=x': must be IMAGE=COMMAND, such as web='python3 -m web'"),
        (["web="], "cannot use --map 'web=': must be IMAGE=COMMAND, such as web='python3 -m web'"),
        (["web=''"], "cannot use --map \"web=''\": must be IMAGE=COMMAND"),
        (["web='x"], 'cannot use --map "web=\'x": no closing quotation'),
        (["web=x", "docker.io/library/web=y"], "cannot use --map docker.io/library/web=…: web is "),
    ],
)
def test_what_is_no_map_is_a_usage_error(given: list[str], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        manifests.parse_maps(given)
    assert str(caught.value).startswith(problem)


# --- podvisor images ---------------------------------------------------------------------------


def listed(*files: str, maps: list[str] | None = None) -> int:
    try:
        images.command(list(files), maps)
    except typer.Exit as leaving:
        return int(leaving.exit_code)
    return 0


def program(name: str, mode: int = 0o755) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)


TOML = """\
[images."registry.example/web"]
entrypoint = ["./serve"]
working-dir = "src"

[images."registry.example/*"]
entrypoint = ["job", "--all"]
working-dir = "/app"
env = { PATH = "bin:/nowhere" }
paths = { "/app" = ".", "/app/bin" = "tools" }
"""


def test_images_are_listed_with_their_rules_and_files(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "relative")
    Path("podvisor.toml").write_text(TOML)
    program("src/serve")
    program("tools/job")
    program("relative/own")
    manifest = pod(
        {"image": "registry.example/web:1"},
        {"image": "registry.example/nightly"},
        {"image": "busybox", "command": ["own", "a b"]},
        {"command": ["own"]},
        init=({"image": "db:3", "args": ["up"]},),
    )
    assert listed(manifest, maps=["db=relative/own migrate"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [[cell.strip() for cell in line.split("  ") if cell] for line in out.splitlines()] == [
        ["CONTAINER", "IMAGE", "MAPPED BY", "RUNS", "FILE"],
        ["web/init-0", "db:3", "--map db", "relative/own migrate up", f"{here}/relative/own"],
        [
            "web/a",
            "registry.example/web:1",
            "podvisor.toml: registry.example/web",
            "./serve",
            f"{here}/src/serve",
        ],
        [
            "web/b",
            "registry.example/nightly",
            "podvisor.toml: registry.example/*",
            "job --all",
            f"{here}/tools/job",
        ],
        ["web/c", "busybox", "-", "own 'a b'", f"{here}/relative/own"],
        ["web/d", "-", "-", "own", f"{here}/relative/own"],
    ]


def test_the_table_comes_before_the_advice_where_both_go_into_one_pipe() -> None:
    manifest = pod({"image": "registry.example/web"})
    ran = subprocess.run(
        [sys.executable, "-m", "supervisor", "images", manifest],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.stdout.startswith("CONTAINER"), ran.stdout
    assert "\nAdd to podvisor.toml" in ran.stdout


def test_what_cannot_be_run_is_marked_and_the_lines_to_add_are_shown(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("podvisor.toml").write_text('[images.empty]\nworking-dir = "."\n')
    program("plain", 0o644)
    manifest = pod(
        {"image": "registry.example/web:1@sha256:ab"},
        {"image": "registry.example/web:2"},
        {"image": "empty"},
        {"command": ["no-such-program"]},
        {"command": ["./plain"]},
        securityContext={"runAsNonRoot": False},
    )
    assert listed(manifest) == 1
    out, err = capsys.readouterr()
    last = [line.rpartition("  ")[2] for line in out.splitlines()[1:]]
    assert last == [
        "nothing to run",
        "nothing to run",
        "nothing to run",
        "not found",
        f"{here}/plain (not executable)",
    ]
    assert err == (
        "\nAdd to podvisor.toml, or use --map IMAGE=COMMAND:\n\n"
        '    [images."registry.example/web"]\n    entrypoint = ["PROGRAM"]\n\n'
        '    to [images."empty"]: entrypoint = ["PROGRAM"]\n'
    )


def test_the_podvisor_toml_that_applies_is_named_or_where_one_would_be_looked_for(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(pod({"image": "web"})).rename("one.yaml")
    wanting = 'and `entrypoint = ["PROGRAM"]` to {}, or use'
    Path("deploy").mkdir()
    Path("deploy/two.yaml").write_text(Path("one.yaml").read_text())
    for manifest, file in (("one.yaml", "podvisor.toml"), ("deploy", "deploy/podvisor.toml")):
        (problem,) = manifests.load([manifest]).problems
        assert wanting.format(file) in problem.text
    Path("deploy/podvisor.toml").write_text('[images.db]\nentrypoint = ["x"]\n')
    assert listed("deploy") == 1
    assert capsys.readouterr().err.startswith("\nAdd to deploy/podvisor.toml, or use")
    Path("deploy/podvisor.toml").write_text("[images.web]\n")
    (problem,) = manifests.load(["deploy"]).problems
    assert 'is [images."web"] in deploy/podvisor.toml, which names no program' in problem.text
    Path("deploy/podvisor.toml").unlink()
    Path("podvisor.toml").write_text('[images.web]\nentrypoint = ["x"]\n')
    monkeypatch.chdir("deploy")
    listed("two.yaml")
    assert f"  {here}/podvisor.toml: web  " in capsys.readouterr().out


def test_images_are_json_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program("run")
    Path("podvisor.toml").write_text('[images.web]\nentrypoint = ["./run"]\n')
    manifest = pod({"image": "web:1", "args": ["x"]}, {"image": "other"})
    with pytest.raises(typer.Exit) as leaving:
        images.command([manifest], None, images.Output.JSON)
    assert leaving.value.exit_code == 1
    where = {"namespace": "default", "pod": "web"}
    assert json.loads(capsys.readouterr().out) == [
        {
            **where,
            "container": "a",
            "image": "web:1",
            "rule": "web",
            "config": "podvisor.toml",
            "command": ["./run", "x"],
            "file": f"{here}/run",
            "volume": "",
            "problem": "",
            "unmapped": False,
        },
        {
            **where,
            "container": "b",
            "image": "other",
            "rule": "",
            "config": "podvisor.toml",
            "command": [],
            "file": "",
            "volume": "",
            "problem": "nothing to run",
            "unmapped": True,
        },
    ]


def test_a_container_that_cannot_be_started_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    Path("podvisor.toml").write_text('[images.web]\nentrypoint = ["sh"]\nuser = "root"\n')
    manifest = pod({"image": "web"}, securityContext={"runAsNonRoot": True})
    assert listed(manifest) == 1
    assert "image has non-numeric user (root), cannot verify" in capsys.readouterr().out


def test_images_know_the_configuration_of_their_input_and_tell_no_secret(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """§9.1: PATH too may come from there, or from an env file"""
    program("tools/deploy")
    Path("podvisor.toml").write_text('env-file = "tools.env"\n')
    Path("tools.env").write_text(f"PATH={here}/tools\n")
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    manifest = pod({"command": ["deploy", "--key=$(KEY)"], "env": env})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    documents = [json.loads(Path(manifest).read_text()), secret | {"stringData": {"k": "hunter2"}}]
    Path("all.yaml").write_text("\n---\n".join(map(json.dumps, documents)))
    assert listed("all.yaml") == 0
    out, err = capsys.readouterr()
    assert f"deploy '--key=***'  {here}/tools/deploy" in out
    assert "hunter2" not in out + err
    images.command(["all.yaml"], None, images.Output.JSON)
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ({"configMap": {"name": "scripts"}}, "in volume tools"),
        ({"emptyDir": {}}, "in volume tools"),
        ({"hostPath": {"path": "/nowhere"}}, "not found"),
    ],
)
def test_a_program_in_a_volume_is_not_looked_for_before_it_is_there(
    source: dict[str, Any], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mounts = [{"name": "tools", "mountPath": "/tools/"}]
    volumes = [{"name": "tools", **source}]
    path = [{"name": "PATH", "value": "/bin:/tools"}]
    manifest = pod(
        {"command": ["/tools/run"], "volumeMounts": mounts},
        {"command": ["run-this"], "env": path, "volumeMounts": mounts},
        {"command": ["sh"], "env": path, "volumeMounts": mounts},
        volumes=volumes,
    )
    assert listed(manifest) == (1 if shown == "not found" else 0)
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [re.split(r"  +", row)[-1] for row in rows] == [shown, shown, "/bin/sh"]


def test_variables_that_a_container_writes_later_are_not_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ref = {"volumeName": "v", "path": "app.env", "key": "K"}
    env = [{"name": "A", "valueFrom": {"fileKeyRef": ref}}]
    images.command(
        [pod({"command": ["true"], "env": env}, volumes=[{"name": "v", "emptyDir": {}}])]
    )
    assert "web/a" in capsys.readouterr().out


def test_images_of_a_broken_manifest_are_not_listed() -> None:
    with pytest.raises(ManifestError, match="1 error; nothing was started"):
        listed(pod({"image": " "}))


def test_the_example_of_the_readme_is_true(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """H14"""
    lines = (Path(__file__).parents[2] / "README.md").read_text().splitlines()
    begin = lines.index('    [images."registry.example/shop/web"]')
    end = next(i for i, line in enumerate(lines) if i > begin and line[:1] not in ("", " "))
    Path("podvisor.toml").write_text("\n".join(line[4:] for line in lines[begin:end]) + "\n")
    program("jobs/job.sh")
    program("bin/python3")
    monkeypatch.setenv("PATH", f"{here}/bin")
    made = [
        {"image": "registry.example/shop/web:1.4", "args": ["9090"]},
        {"image": "registry.example/jobs/nightly"},
        {"image": "redis:7"},
    ]
    manifest = Path(pod(*made)).read_text().replace('"web"', '"shop"', 1)
    for name, shown in zip("abc", ("web", "nightly", "cache"), strict=True):
        manifest = manifest.replace(f'"name": "{name}"', f'"name": "{shown}"')
    Path("shop.yaml").write_text(manifest)
    assert listed("shop.yaml") == 1
    out, err = capsys.readouterr()
    out = out.replace(f"{here}/bin/", "/usr/bin/").replace(f"{here}/", "/home/me/shop/")
    begin = lines.index("    $ podvisor images shop.yaml") + 1
    shown_lines = [line[4:] for line in lines[begin : begin + len((out + err).splitlines())]]
    assert (out + err).splitlines() == shown_lines
