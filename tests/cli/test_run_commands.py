"""`podvisor run` with a command, with containers left out, and with a container's exit code."""

from __future__ import annotations

import json

import pytest

from tests.support import Place, container, one_way, pod, sh

pytestmark = [pytest.mark.usefixtures("nothing_left"), one_way]

NEVER = {"restartPolicy": "Never"}
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


# --- a command -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 2, 77])
def test_a_command_is_a_pod_and_its_exit_code_that_of_the_run(place: Place, code: int) -> None:
    finished = place.run(
        "--name", "web", "--env", "A=x y", "--", "sh", "-c", f'echo "$A"; exit {code}'
    )
    assert finished.code == code
    assert finished.out == "web/web | x y\n"


def test_what_follows_the_two_dashes_is_never_ours(place: Place) -> None:
    finished = place.run("--name", "web", "--no-prefix", "--", "echo", "--name", "x", "--", "-o")
    assert (finished.code, finished.out) == (0, "--name x -- -o\n")


def test_a_command_is_restarted_only_when_that_is_asked_for(place: Place) -> None:
    finished = place.run(
        "--name", "web", "--restart", "OnFailure", "--", "sh", "-c", "test -e f || { >f; exit 3; }"
    )
    assert finished.code == 0
    assert finished.table()["web/web"][:2] == ["1", "0"]


def test_a_program_that_does_not_exist_has_the_kubelets_code(place: Place) -> None:
    place.run("--name", "web", "--", "no-such-program", code=128)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--", "true"), "cannot run a command without --name"),
        (("--name", "web", "--"), "cannot run a command: there is none after --"),
        (("--name", "web", "x.yaml", "--", "true"), "cannot run a command together with FILEs"),
        (("--name", "Web", "--", "true"), "cannot make a pod of this command line: metadata.name"),
        (("--name", "web", "--env", "A", "--", "true"), "cannot use --env 'A': must be NAME=VALUE"),
        (("--name", "web", "--no-such", "--", "true"), "No such option"),
        (("x.yaml", "--exit-code-from", "c"), "x.yaml: error: cannot read"),
    ],
)
def test_125_stands_for_every_failure_of_podvisor_itself(
    place: Place, words: tuple[str, ...], said: str
) -> None:
    assert said in place.run(*words, code=125).err


def test_what_is_wrong_with_podvisor_toml_keeps_a_command_from_running(place: Place) -> None:
    place.write("podvisor.toml", 'env-file = "no-such.env"\nprivate-tmpp = true\n')
    said = place.run("--name", "web", "--", "true", code=125).err
    assert "private-tmpp: Unknown key (did you mean private-tmp?)" in said
    assert "no-such.env: error: cannot read" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--name", "web"), "cannot use --name without a command"),
        (("x.yaml", "--restart", "Never"), "cannot use --restart without a command"),
        (("--strict",), "cannot run nothing"),
    ],
)
def test_a_command_lines_mistakes_are_told(place: Place, words: tuple[str, ...], said: str) -> None:
    assert said in place.run(*words, code=2).err


# --- printed, not run ----------------------------------------------------------------------------


def test_values_may_stand_behind_a_sign_but_in_the_command_itself(place: Place) -> None:
    finished = place.run("--name=web", "--dry-run=true", "-o=json", "--", "sh", "-o=yaml", code=0)
    assert json.loads(finished.out)["spec"]["containers"][0]["command"] == ["sh", "-o=yaml"]


def test_a_dry_run_prints_the_manifest_of_a_command_and_starts_nothing(place: Place) -> None:
    words = ("--name", "web", "--port", "80", "--env", "A=b", "--image", "web:1")
    command = ("--", "sh", "-c", "echo started >f")
    finished = place.run(*words, "--dry-run", "-o", "json", *command, code=0)
    assert json.loads(finished.out) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"run": "web"}, "name": "web"},
        "spec": {
            "containers": [
                {
                    "command": ["sh", "-c", "echo started >f"],
                    "env": [{"name": "A", "value": "b"}],
                    "image": "web:1",
                    "name": "web",
                    "ports": [{"containerPort": 80}],
                }
            ],
            "restartPolicy": "Never",
        },
    }
    printed = place.write("web.yaml", place.run(*words, "--dry-run", *command, code=0).out)
    again = place.run(printed, "--dry-run", "-o", "json", code=0)
    assert json.loads(again.out)["spec"]["containers"][0]["command"] == ["sh", *command[2:]]


# --- some of the containers ----------------------------------------------------------------------


def shop(**spec: object) -> dict[str, object]:
    """A pod that cannot run as it is: one container has no command."""
    broken = {"name": "mesh", "image": "mesh:1"}
    return pod(
        "shop",
        broken,
        sh("web", "echo web"),
        sh("api", "echo api"),
        init=(sh("prep", "echo prep"),),
        **NEVER,
        **spec,
    )


def test_containers_that_are_left_out_do_not_have_to_be_able_to_run(place: Place) -> None:
    finished = place.run(shop(), "--except", "mesh", "--except", "shop/prep", code=0)
    assert sorted(finished.table()) == ["shop/api", "shop/web"]
    finished = place.run(shop(), "--only", "api", "--only", "default/shop/prep", code=0)
    assert sorted(finished.table()) == ["shop/api", "shop/prep"]


def test_pods_of_which_nothing_is_left_do_not_run(place: Place) -> None:
    finished = place.run(shop(), pod("db", sh("db", "echo db"), **NEVER), "--only", "db", code=0)
    assert list(finished.table()) == ["db/db"]
    said = place.run(shop(), "--only", "prep", code=2).err
    assert "cannot run what is left: no app container of shop/prep" in said


def test_what_names_no_container_says_which_there_are(place: Place) -> None:
    finished = place.run(pod("db", container("db", "true")), "--except", "app", code=2)
    assert finished.err == "podvisor: cannot use --except app: there is db/db\n"


def test_containers_are_listed_with_commas_and_all_unknown_ones_named(place: Place) -> None:
    finished = place.run(shop(), "--except", "mesh,api", "--except", "shop/prep", code=0)
    assert finished.out == "shop/web | web\n"
    finished = place.run(shop(), "--only", "default/shop/prep,api", code=0)
    assert set(finished.table()) == {"shop/prep", "shop/api"}
    said = place.run(shop(), "--only", "a,web,b", "--only", "c", "--except", "d,mesh", code=2).err
    assert said == (
        "podvisor: cannot use --only a,b,c and --except d: "
        "there is shop/prep, shop/mesh, shop/web, shop/api\n"
    )


def test_what_is_wrong_is_said_where_it_stands_before_some_are_left_out(place: Place) -> None:
    broken = sh("api", "x") | {"ports": [{"containerPort": 0}]}
    manifest = pod("shop", container("mesh"), broken)
    said = place.run(manifest, "--except", "mesh", code=3).err
    assert "error: spec.containers[1].ports[0].containerPort: Required value" in said


# --- the exit code of one container --------------------------------------------------------------


def test_the_run_ends_with_the_container_whose_code_is_asked_for(place: Place) -> None:
    """Also where it would always be restarted, and the other pods with it."""
    tested = pod("shop", sh("tests", "sleep 0.3; exit 5"), sh("web", FOREVER))
    finished = place.run(tested, pod("db", sh("db", FOREVER)), "--exit-code-from", "tests", code=5)
    table = finished.table()
    assert table["shop/tests"][:2] == ["0", "5"]
    assert "tests has ended: stopping all" in finished.err
    assert table["db/db"][1] == table["shop/web"][1] == "0"


def test_a_container_that_is_tried_again_has_not_ended_for_good(place: Place) -> None:
    job = sh("job", "test -e f || { >f; exit 3; }")
    manifest = pod("shop", job, restartPolicy="OnFailure")
    finished = place.run(manifest, pod("db", sh("db", FOREVER)), "--exit-code-from", "job", code=0)
    assert finished.table()["shop/job"][:2] == ["1", "0"]


def test_a_pod_that_fails_before_its_container_starts_ends_the_run(place: Place) -> None:
    manifest = pod("shop", sh("tests", "true"), init=(sh("prep", "exit 9"),), **NEVER)
    other = pod("db", sh("db", FOREVER))
    said = place.run(manifest, other, "--exit-code-from", "shop/tests", code=1).err
    assert "tests has never started: stopping all" in said


def test_a_container_that_cannot_be_started_ends_the_run_and_has_not_ended(place: Place) -> None:
    manifest = pod("shop", container("tests", "/no/such/program"), sh("web", FOREVER), **NEVER)
    said = place.run(manifest, "--exit-code-from", "tests", code=128).err
    assert "tests could not be started: stopping all" in said
    assert "has ended: stopping" not in said


def test_one_container_has_to_be_meant(place: Place) -> None:
    two = [pod(name, sh("app", "true"), **NEVER) for name in ("a", "b")]
    said = place.run(*two, "--exit-code-from", "app", code=125).err
    assert "cannot use --exit-code-from app: say default/a/app or default/b/app" in said
    said = place.run(*two, "--exit-code-from", "x", code=125).err
    assert "cannot use --exit-code-from x: there is a/app, b/app" in said


# --- a rendered chart ----------------------------------------------------------------------------

RENDERED = """\
---
# Source: shop/templates/account.yaml
apiVersion: v1
kind: ServiceAccount
metadata: {name: shop}
---
# Source: shop/templates/nothing.yaml
---
---
null
---
# Source: shop/templates/job.yaml
apiVersion: batch/v1
kind: Job
metadata: {name: migrate}
spec:
  backoffLimit: 2
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: migrate, command: [echo, migrated]}
---
# Source: shop/templates/config.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: shop}
data: {a: b}
"""


def test_what_a_chart_renders_runs_unchanged(place: Place) -> None:
    path = place.write("rendered.yaml", RENDERED)
    with open(path, "rb") as stdin:
        finished = place.run("-", stdin=stdin, code=0)
    assert finished.out == "migrate/migrate | migrated\n"
    assert "stdin:4:1: warning: skipped, since only pods and workloads are run" in finished.err
    assert "spec.backoffLimit is ignored: the pod template runs once, as one pod" in finished.err
    place.run(path, "--strict", code=3)
    only_config = place.write(
        "config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    )
    said = place.run(only_config, code=3).err
    assert "nothing to run: the input has no pod to start" in said


def test_hooks_of_a_chart_are_run_as_at_an_install(place: Place) -> None:
    def hook(name: str, occasions: str) -> dict[str, object]:
        annotations = {"helm.sh/hook": occasions}
        return pod(name, sh("c", f"echo {name}"), metadata={"annotations": annotations}, **NEVER)

    finished = place.run(hook("migrate", "pre-install, pre-upgrade"), hook("check", "test"), code=0)
    assert finished.out == "migrate/c | migrate\n"
    place.run(hook("check", "test"), code=3)
