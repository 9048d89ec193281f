"""`podvisor run` with pods whose images stand for local commands."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.support import Durable, Manifest, Place, as_root, in_group, in_pidns, one_way, pod

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
TOML = """
[images."registry.example/tester"]
entrypoint = ["sh", "-c", 'echo entrypoint "$@"', "sh"]
command = ["default", "arguments"]
"""


def of_image(name: str, image: str, **fields: Any) -> Manifest:
    return {"name": name, "image": image, **fields}


@one_way
def test_commands_and_arguments_override_an_images_own(place: Place):
    """§9.2; H14: its default command, its default arguments, both, neither"""
    place.write("podvisor.toml", TOML)
    image = "registry.example/tester:1.0"
    both = {"command": ["echo", "override"], "args": ["$(X)", "arguments"]}
    one = pod(
        "h14",
        of_image("neither", image),
        of_image("args", image, args=["override", "arguments"]),
        of_image("command", image, command=["echo", "override"]),
        of_image("both", image, **both, env=[{"name": "X", "value": "expanded"}]),
        **NEVER,
    )
    h14 = place.run(one, "-o", "json", code=0).pods["h14"]
    assert h14.lines("neither") == ["entrypoint default arguments"]
    assert h14.lines("args") == ["entrypoint override arguments"]
    assert h14.lines("command") == ["override"]
    assert h14.lines("both") == ["override expanded arguments"]
    assert h14.containers["args"]["image"] == image


@one_way
def test_a_map_is_an_image_for_one_run(place: Place):
    """§9.2"""
    one = pod("m", of_image("a", "web:1", args=["two words"]), of_image("b", "web"), **NEVER)
    refused = place.run(one, code=3)
    assert refused.err.count("or use --map web=PROGRAM") == 2
    assert refused.err.endswith("2 errors; nothing was started\n")
    made = place.run(one, "--map", "web=sh -c 'echo \"<$1>\"' sh", "-o", "json", code=0).pods["m"]
    assert (made.lines("a"), made.lines("b")) == (["<two words>"], ["<>"])


@one_way
def test_an_images_folder_and_variables_are_the_containers(place: Place):
    """§9.1.9: and the manifest's come after them"""
    place.write(
        "podvisor.toml",
        '[images."web"]\nentrypoint = ["./tool"]\nworking-dir = "src"\n'
        'env = { A = "image", B = "image" }\n',
    )
    place.write("src/tool", "")
    place.write("src/run", 'echo "$A $B $(pwd)"\n')
    own = {"command": ["sh", "run"], "env": [{"name": "B", "value": "own"}]}
    one = pod("f", of_image("a", "web", **own), **NEVER)
    made = place.run(one, "-o", "json", code=0).pods["f"]
    assert made.lines("a") == [f"image own {place.folder}/src"]


@in_pidns
def test_an_images_stop_signal_asks_its_main_to_end(place: Place):
    """§6.5: and the status shows it; the container's own counts more"""
    script = "trap 'echo quit; exit 3' QUIT; trap 'echo usr1; exit 4' USR1; echo up; sleep 1000 & "
    script += "while :; do wait; done"
    place.write(
        "podvisor.toml",
        f'[images."web"]\nentrypoint = ["sh", "-c", """{script}"""]\nstop-signal = "SIGQUIT"\n',
    )
    own = {"lifecycle": {"stopSignal": "SIGUSR1"}}
    one = pod("s", of_image("a", "web"), of_image("b", "web", **own), os={"name": "linux"})
    session = place.start(one, "-o", "json")
    session.until(lambda: session.err.count("| up") == 2, "two mains")
    session.signal(signal.SIGINT)
    made = session.wait(130).pods["s"]
    assert (made.end("a"), made.end("b")) == (("Error", 3), ("Error", 4))
    shown = {name: status["stopSignal"] for name, status in made.containers.items()}
    assert shown == {"a": "SIGQUIT", "b": "SIGUSR1"}


@as_root
def test_an_images_user_owns_its_processes(place: Place):
    """§9.4.1"""
    place.write(
        "podvisor.toml", '[images."web"]\nentrypoint = ["sh", "-c", "id -u; id -g"]\nuser = 4711\n'
    )
    fields = {"securityContext": {"runAsUser": 4712, "runAsGroup": 5}}
    one = pod("u", of_image("a", "web"), of_image("b", "web", **fields), **NEVER)
    made = place.run(one, "-o", "json", code=0).pods["u"]
    assert (made.lines("a"), made.lines("b")) == (["4711", "0"], ["4712", "5"])


@in_group
def test_in_mode_group_paths_are_refused_before_anything_starts(place: Place):
    place.write(
        "podvisor.toml", '[images."web"]\nentrypoint = ["true"]\npaths = { "/app" = "." }\n'
    )
    finished = place.run(pod("g", of_image("a", "web"), **NEVER), code=3)
    assert "error: pod g, container a: paths of its image cannot be had: /app; " in finished.err
    assert finished.err.endswith("1 error; nothing was started\n")


@one_way
def test_a_durable_node_takes_a_mapped_image_on_again_with_its_stop_signal(node: Durable):
    """§6.5"""
    script = "trap 'exit 3' QUIT; echo up; sleep 1000 & while :; do wait; done"
    node.place.write(
        "podvisor.toml",
        f'[images."web"]\nentrypoint = ["sh", "-c", """{script}"""]\nstop-signal = "SIGQUIT"\n',
    )
    node.put("web.json", pod("web", of_image("a", "web", args=["--x"])))
    node.put("late.json", pod("late", of_image("a", "other"), **NEVER))
    session = node.serve("--map", "other=echo mapped", node.pods)
    pid = node.running(session, "web", "a")
    session.until(lambda: node.phase("late") == "Succeeded", "the mapped one")
    session.until_logged("| up")
    session.kill()
    # Without the map this file is refused. What is known of its pod stays.
    again = node.serve()
    again.until_said("taken on again")
    assert node.pid("web", "a") == pid
    again.until_said("stands for no local command")
    again.signal(signal.SIGTERM)
    finished = again.wait(143)
    assert node.container("web", "a").ended.exit_code == 3
    assert "Traceback" not in finished.err
