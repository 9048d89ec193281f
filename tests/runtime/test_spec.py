"""What a container of a manifest becomes: words, environment, folder, user, files."""

from __future__ import annotations

import errno
import posixpath
import signal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.api import v1, validation
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import Isolation, LaunchSpec, Mount, StartError, veil
from supervisor.runtime.images import Image, Images, ImageUser
from supervisor.runtime.spec import (
    Configuration,
    NodeInfo,
    User,
    bare_spec,
    expand,
    group_problem,
    hostname,
    inherited,
    launch_spec,
    log_path,
    missing_configuration,
    signal_number,
)

USERS = {0: User("root", "/root"), 1000: User("alice", "/home/alice")}
ROOT = NodeInfo(
    name="here",
    host_ip="127.0.0.1",
    isolation=Isolation.PIDNS,
    state_dir="/state",
    working_dir="/project",
    uid=0,
    gid=0,
    groups=(0, 27),
    cpu_millis=2000,
    memory=8 << 30,
    ephemeral_storage=100 << 30,
    environ=(("PATH", "/bin"), ("HOME", "/root")),
    user=USERS.get,
)
ALICE = msgspec.structs.replace(
    ROOT,
    isolation=Isolation.PIDNS_ROOTLESS,
    uid=1000,
    gid=1000,
    groups=(1000, 27),
    environ=(("PATH", "/bin"), ("HOME", "/home/alice")),
)
GROUP = msgspec.structs.replace(ROOT, isolation=Isolation.GROUP)
HELD = Configuration(
    config_maps={
        ("default", "settings"): {"COLOR": b"blue", "SIZE": b"$(COLOR)", "no.shell-name": b"n"},
        ("default", "more"): {"COLOR": b"red", "logo": b"GIF89a"},
        ("other", "theirs"): {"COLOR": b"green"},
    },
    secrets={
        ("default", "login"): {"USER": b"alice", "PASSWORD": b"s3cr3t/w\xc3\xb6rd", "EMPTY": b""},
        ("default", "raw"): {"KEY": b"\xff\xfe"},
    },
    binary_data=frozenset({("default", "more", "logo")}),
)
CONFIGURED = msgspec.structs.replace(ROOT, configuration=HELD)


def spec(node: NodeInfo = ROOT, *, pod: dict[str, Any] | None = None, **fields: Any) -> LaunchSpec:
    """The launch spec of container `app`, whose fields are given in their Kubernetes form."""
    made, container = manifest(pod, **fields)
    return launch_spec(made, container, ContainerId(made.metadata.uid, "app", 2), node)


def manifest(pod: dict[str, Any] | None = None, **fields: Any) -> tuple[v1.Pod, v1.Container]:
    given = {"metadata": {}, "spec": {}} | (pod or {})
    app = {"name": "app", "command": ["true"], "terminationMessagePath": "/dev/termination-log"}
    meta = {"name": "web", "namespace": "default", "uid": "u-1"} | given["metadata"]
    body = {"containers": [app | fields, {"name": "other", "command": ["true"]}]} | given["spec"]
    made = msgspec.convert({"metadata": meta, "spec": body}, v1.Pod)
    return made, made.spec.containers[0]


def env(*entries: dict[str, Any], node: NodeInfo = ROOT, **more: Any) -> dict[str, str]:
    """What the manifest's variables become."""
    names = {entry["name"] for entry in entries}
    given = dict(spec(node, env=list(entries), **more).env)
    return {name: value for name, value in given.items() if name in names}


def value(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "value": text}


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, of: str, **more: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": of, **more}}}


def of_config_map(name: str, of: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"configMapKeyRef": {"name": of, "key": key, **more}}}


def of_secret(name: str, of: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": of, "key": key, **more}}}


def all_of_config_map(of: str, prefix: str = "", **more: Any) -> dict[str, Any]:
    return {"configMapRef": {"name": of, **more}, "prefix": prefix}


def all_of_secret(of: str, prefix: str = "", **more: Any) -> dict[str, Any]:
    return {"secretRef": {"name": of, **more}, "prefix": prefix}


def configured(node: NodeInfo = CONFIGURED, **given: Any) -> dict[str, str]:
    """All that the manifest adds to the environment."""
    return {k: v for k, v in spec(node, **given).env if k not in ("PATH", "HOME", "HOSTNAME")}


def refusal(node: NodeInfo = ROOT, **given: Any) -> str:
    with pytest.raises(StartError) as caught:
        spec(node, **given)
    assert caught.value.reason == "CreateContainerConfigError"
    assert caught.value.created is False
    return caught.value.message


# --- expansion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y$(A)z"),  # what was put in is not looked at again
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(A$$", "$(A$"),
        ("$()", "$()"),
        ("$($(A))", "$($(A))"),
        ("$(E)", ""),
        ("a\n$(A)\n", "a\n1\n"),
    ],
)
def test_references_are_replaced_and_dollars_are_escaped(text: str, expanded: str):
    """§9.1.2"""
    assert expand(text, {"A": "1", "B": "$(A)", "E": ""}) == expanded


def slow_expand(text: str, variables: dict[str, str]) -> str:
    """The same, character by character."""
    out, at = "", 0
    while at < len(text):
        if text[at : at + 2] == "$$":
            out, at = out + "$", at + 2
        elif text[at : at + 2] == "$(" and ")" in text[at:]:
            end = text.index(")", at)
            out += variables.get(text[at + 2 : end], text[at : end + 1])
            at = end + 1
        else:
            out, at = out + text[at], at + 1
    return out


@given(
    st.text(alphabet="$()AB \n", max_size=30),
    st.dictionaries(st.sampled_from("AB"), st.text(alphabet="$()A", max_size=4)),
)
def test_expansion_equals_its_definition(text: str, variables: dict[str, str]):
    """§9.1.2"""
    assert expand(text, variables) == slow_expand(text, variables)


@given(st.text(alphabet="$()AB", max_size=30))
def test_doubled_dollars_bring_any_text_through_unchanged(text: str):
    """§9.1.2"""
    assert expand(text.replace("$", "$$"), {"A": "1", "B": "2"}) == text


# --- environment -------------------------------------------------------------------------------


def test_values_refer_to_earlier_variables_only():
    """§9.1.2"""
    assert env(value("A", "$(B)"), value("B", "b$(A)"), value("C", "$(B)")) == {
        "A": "$(B)",
        "B": "b$(B)",
        "C": "b$(B)",
    }


def test_a_later_definition_wins_and_may_build_on_the_earlier_one():
    """§9.1.1"""
    assert env(value("A", "1"), value("A", "$(A)2")) == {"A": "12"}


def test_what_is_inherited_cannot_be_referred_to():
    """§9.1.2: as in a cluster, where `$(PATH)` stays too."""
    assert env(value("P", "/x:$(PATH)")) == {"P": "/x:$(PATH)"}


def test_words_are_expanded_with_the_final_environment():
    """§9.2"""
    made = spec(
        command=["$(A)", "$$(A)"],
        args=["$(A)$(HOSTNAME)"],
        env=[value("A", "1"), value("A", "2")],
    )
    assert made.argv == ("2", "$(A)", "2$(HOSTNAME)")


def test_fields_of_the_pod_can_be_read():
    """§9.1.3"""
    pod = {
        "metadata": {"labels": {"a.b/c": "l"}, "annotations": {"k": "$(A)\n"}},
        "spec": {"serviceAccountName": "robot"},
    }
    paths = {
        "metadata.name": "web",
        "metadata.namespace": "default",
        "metadata.uid": "u-1",
        "metadata.labels['a.b/c']": "l",
        "metadata.labels['missing']": "",
        "metadata.annotations['k']": "$(A)\n",  # not expanded
        "spec.nodeName": "here",
        "spec.serviceAccountName": "robot",
        "status.hostIP": "127.0.0.1",
        "status.hostIPs": "127.0.0.1",
        "status.podIP": "127.0.0.1",
        "status.podIPs": "127.0.0.1",
    }
    entries = [value("A", "1"), *(field(path, path) for path in paths)]
    assert env(*entries, pod=pod) == {"A": "1"} | paths


def test_a_pod_without_a_service_account_has_the_default_one():
    """§9.1.3"""
    assert env(field("A", "spec.serviceAccountName")) == {"A": "default"}


def test_a_field_that_cannot_be_read_is_named():
    """§9.1.3"""
    assert refusal(env=[field("A", "status.phase")]) == "unsupported fieldPath: status.phase"


@pytest.mark.parametrize(
    ("ref", "shown"),
    [
        ({"resource": "limits.cpu"}, "2"),  # 1500m rounded up
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.cpu", "divisor": "0"}, "2"),
        ({"resource": "requests.memory"}, "100000000"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "96"),  # 95.4 rounded up
        ({"resource": "limits.memory", "divisor": "1Gi"}, "8"),  # the node's
        ({"resource": "requests.cpu"}, "0"),
        ({"resource": "limits.ephemeral-storage", "divisor": "1Gi"}, "100"),  # 0 is no limit
        ({"resource": "limits.hugepages-2Mi"}, "0"),
        ({"resource": "limits.cpu", "containerName": "other"}, "2"),
    ],
)
def test_resources_are_shown_in_units_of_the_divisor_rounded_up(ref: dict[str, str], shown: str):
    """§9.1.3: missing limits default to what the node has."""
    of = ref.pop("resource")
    resources = {
        "limits": {"cpu": "1500m", "ephemeral-storage": "0"},
        "requests": {"memory": "100M"},
    }
    assert env(resource("A", of, **ref), resources=resources) == {"A": shown}


def test_a_resource_of_an_unknown_container_is_refused():
    """§9.1.3"""
    entry = resource("A", "limits.cpu", containerName="nobody")
    assert refusal(env=[entry]) == "container nobody not found"


def test_only_a_few_variables_are_inherited():
    """§9.1.9"""
    host = {
        "PATH": "/venv/bin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "LC_ALL": "de_DE",
        "TZ": "UTC",
        "TERM": "xterm",
        "USER": "root",
        "AWS_SECRET": "x",
        "PASSED": "y",
        "LD_PRELOAD": "z",
    }
    assert inherited(host, ["PASSED", "UNSET"]) == {
        "PATH": "/venv/bin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "LC_ALL": "de_DE",
        "TZ": "UTC",
        "TERM": "xterm",
        "PASSED": "y",
    }


def test_a_container_has_what_is_inherited_its_host_name_and_its_own_variables():
    """§9.1.9"""
    assert dict(spec(env=[value("A", "1")]).env) == {
        "PATH": "/bin",
        "HOME": "/root",
        "HOSTNAME": "web",
        "A": "1",
    }


def test_a_container_with_a_terminal_is_told_of_what_kind_unless_the_manifest_says():
    assert "TERM" not in dict(spec().env)
    assert dict(spec(tty=True).env)["TERM"] == "xterm"
    assert dict(spec(tty=True, env=[value("TERM", "vt100")]).env)["TERM"] == "vt100"
    made = spec(stdin=True, stdinOnce=True, tty=True)
    assert (made.stdin, made.stdin_once, made.tty) == (True, True, True)


def test_variables_of_env_files_stand_between_what_is_inherited_and_the_manifests():
    node = msgspec.structs.replace(
        ROOT, given=(("PATH", "/given"), ("HOME", "/given"), ("HOSTNAME", "given"), ("A", "given"))
    )
    made = dict(spec(node, env=[value("A", "own"), value("B", "$(HOSTNAME) $(A)")]).env)
    assert made == {
        "PATH": "/given",
        "HOME": "/given",
        "HOSTNAME": "given",
        "A": "own",
        "B": "$(HOSTNAME) own",
    }
    as_alice = spec(node, securityContext={"runAsUser": 1000})
    assert dict(as_alice.env)["HOME"] == "/given"


# --- ConfigMaps and Secrets --------------------------------------------------------------------


def test_variables_come_from_keys_of_config_maps_and_secrets():
    """H09, H11: §9.1.3"""
    made = env(
        of_config_map("C", "settings", "COLOR"),
        of_secret("P", "login", "PASSWORD"),
        of_secret("E", "login", "EMPTY"),
        node=CONFIGURED,
    )
    assert made == {"C": "blue", "P": "s3cr3t/wörd", "E": ""}


@pytest.mark.parametrize("prefix", ["p_", "1-", "$_", "p#-", "."])
@pytest.mark.parametrize("all_of", [all_of_config_map, all_of_secret])
def test_a_prefix_may_be_what_no_shell_takes_for_a_name(all_of: Any, prefix: str):
    """H09, H11: §9.1.5"""
    of = "settings" if all_of is all_of_config_map else "login"
    plain, made = (configured(envFrom=[all_of(of, begin)]) for begin in ("", prefix))
    assert made == {prefix + key: value for key, value in plain.items()}


def test_all_keys_become_variables_with_a_prefix_before_their_names():
    """H09, H11: §9.1.1, §9.1.5: any key may be the name of a variable"""
    made = configured(
        envFrom=[
            all_of_config_map("settings"),
            all_of_secret("login", "my-"),
            all_of_secret("login"),
        ]
    )
    assert made == {
        "COLOR": "blue",
        "SIZE": "$(COLOR)",
        "no.shell-name": "n",
        "my-USER": "alice",
        "my-PASSWORD": "s3cr3t/wörd",
        "my-EMPTY": "",
        "USER": "alice",
        "PASSWORD": "s3cr3t/wörd",
        "EMPTY": "",
    }


def test_later_sources_win_and_single_variables_win_over_all_of_them():
    """§9.1.1"""
    both = [all_of_config_map("settings"), all_of_config_map("more")]
    assert configured(envFrom=both)["COLOR"] == "red"
    assert configured(envFrom=both[::-1])["COLOR"] == "blue"
    assert configured(envFrom=both, env=[value("COLOR", "own")])["COLOR"] == "own"
    twice = [of_config_map("A", "settings", "COLOR"), of_config_map("A", "more", "COLOR")]
    assert configured(env=twice) == {"A": "red"}


def test_values_that_come_from_elsewhere_can_be_referred_to_and_are_not_expanded():
    """§9.1.2, §9.2"""
    made = spec(
        CONFIGURED,
        envFrom=[all_of_config_map("settings")],
        env=[
            of_secret("WHO", "login", "USER"),
            value("URL", "$(WHO)@$(SIZE)/$(COLOR)"),
            of_config_map("RAW", "settings", "SIZE"),
        ],
        args=["$(URL)", "$(RAW)"],
    )
    assert dict(made.env)["URL"] == "alice@$(COLOR)/blue"
    assert dict(made.env)["RAW"] == "$(COLOR)"
    assert made.argv == ("true", "alice@$(COLOR)/blue", "$(COLOR)")


def test_a_literal_value_is_used_before_its_source():
    """§9.1.3"""
    both = of_config_map("A", "gone", "COLOR") | {"value": "own"}
    assert configured(env=[both]) == {"A": "own"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"env": [of_config_map("A", "x", "k")]}, 'configmap "x" not found'),
        ({"env": [of_secret("A", "x", "k")]}, 'secret "x" not found'),
        ({"envFrom": [all_of_config_map("x")]}, 'configmap "x" not found'),
        ({"envFrom": [all_of_secret("x")]}, 'secret "x" not found'),
        ({"env": [of_config_map("A", "theirs", "COLOR")]}, 'configmap "theirs" not found'),
        (
            {"env": [of_config_map("A", "settings", "k")]},
            "couldn't find key k in ConfigMap default/settings",
        ),
        ({"env": [of_secret("A", "login", "k")]}, "couldn't find key k in Secret default/login"),
        (
            {"env": [of_config_map("A", "more", "logo")]},
            "couldn't find key logo in ConfigMap default/more",
        ),
        (
            {"env": [of_secret("A", "raw", "KEY", optional=True)]},
            "key KEY in Secret default/raw is not UTF-8: it cannot become a variable",
        ),
        (
            {"envFrom": [all_of_secret("raw")]},
            "key KEY in Secret default/raw is not UTF-8: it cannot become a variable",
        ),
    ],
)
def test_a_missing_source_is_named_in_the_kubelets_words(given: dict[str, Any], message: str):
    """H18: §9.1.4"""
    assert refusal(CONFIGURED, **given) == message


def test_what_is_optional_and_missing_leaves_the_variable_as_it_was():
    """H18: §9.1.4"""
    made = configured(
        envFrom=[all_of_config_map("x", optional=True), all_of_secret("x", optional=True)],
        env=[
            of_config_map("A", "x", "k", optional=True),
            of_config_map("B", "settings", "k", optional=True),
            of_secret("C", "login", "k", optional=True),
            value("D", "before"),
            of_secret("D", "x", "k", optional=True),
            value("E", "$(A)"),
        ],
    )
    assert made == {"D": "before", "E": "$(A)"}


def of_file(name: str, key: str, path: str = "app.env", **more: Any) -> dict[str, Any]:
    ref = {"volumeName": "made", "path": path, "key": key, **more}
    return {"name": name, "valueFrom": {"fileKeyRef": ref}}


def from_files(*entries: dict[str, Any], **files: bytes | OSError) -> dict[str, str]:
    """What variables become when the volume has these files (with a dot for each underscore)."""
    held = {("made", name.replace("_", ".")): content for name, content in files.items()}
    pod = {"spec": {"volumes": [{"name": "made", "emptyDir": {}}]}}
    made, container = manifest(pod, env=list(entries))
    id = ContainerId(made.metadata.uid, "app", 0)
    given = launch_spec(made, container, id, ROOT, held).env
    return {k: v for k, v in given if k not in ("PATH", "HOME", "HOSTNAME")}


def test_a_variable_has_what_a_file_of_a_volume_says():
    """H17: §9.1.3"""
    made = from_files(
        of_file("A", "CONFIG_1"),
        of_file("B", "CONFIG_2", "./app.env"),
        {"name": "C", "value": "<$(A)>"},
        app_env=b"CONFIG_1='value1'\nCONFIG_2='$(A) $$'\n",
    )
    assert made == {"A": "value1", "B": "$(A) $$", "C": "<value1>"}


MADE = '"/state/pods/u-1/volumes/kubernetes.io~empty-dir/made/app.env"'
MISSING = FileNotFoundError(errno.ENOENT, "No such file or directory")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (b"OTHER='1'\n", f'environment variable key "K" not found in file {MADE}'),
        (b"K=''\n", f'environment variable key "K" not found in file {MADE}'),
        (
            b"K=1\n",
            f"couldn't parse env file: {MADE}: invalid environment variable format at line 1: "
            "value must be enclosed in single quotes",
        ),
        (
            MISSING,
            f"couldn't parse env file: failed to open environment variable file {MADE}: "
            "no such file or directory",
        ),
        (
            OSError("not a regular file"),
            f"couldn't parse env file: failed to open environment variable file {MADE}: "
            "not a regular file",
        ),
        (b"K='\xff'\n", f"key K in file {MADE} is not UTF-8: it cannot become a variable"),
        (b"K='a\0b'\n", "environment variable A contains a NUL character"),
    ],
)
def test_what_a_file_does_not_say_keeps_the_container_waiting(
    held: bytes | OSError, message: str
) -> None:
    """§9.1.3, §9.1.4"""
    with pytest.raises(StartError) as caught:
        from_files(of_file("A", "K"), app_env=held)
    assert caught.value.reason == "CreateContainerConfigError"
    assert caught.value.message == message


@pytest.mark.parametrize("held", [b"", b"K=''\n", b"K= 'x'\n", MISSING])
def test_an_optional_key_that_no_file_has_leaves_the_variable_as_it_was(held: bytes | OSError):
    """§9.1.4"""
    entries = (value("A", "before"), of_file("A", "K", optional=True))
    assert from_files(*entries, app_env=held) == {"A": "before"}


@pytest.mark.parametrize("held", [b"K=1\n", PermissionError(errno.EACCES, "Permission denied")])
def test_an_optional_key_does_not_excuse_a_file_that_is_wrong(held: bytes | OSError):
    """§9.1.4"""
    with pytest.raises(StartError, match="couldn't parse env file"):
        from_files(of_file("A", "K", optional=True), app_env=held)


def test_a_file_that_nobody_has_read_is_no_source():
    message = "environment variable A: its source cannot be read here"
    assert refusal(env=[of_file("A", "K", optional=True)]) == message


def test_binary_data_of_a_config_map_is_never_a_variable():
    """§9.1.5: also if it could be text."""
    assert configured(envFrom=[all_of_config_map("more")]) == {"COLOR": "red"}


def test_values_are_read_when_the_container_starts():
    """§9.1.7"""
    given = {"env": [of_config_map("A", "settings", "COLOR")]}
    assert configured(**given) == {"A": "blue"}
    changed = Configuration(config_maps={("default", "settings"): {"COLOR": b"pink"}})
    later = msgspec.structs.replace(CONFIGURED, configuration=changed)
    assert configured(later, **given) == {"A": "pink"}


def test_what_is_missing_is_known_beforehand_with_its_place():
    """§9.1.4"""
    pod, _ = manifest(
        envFrom=[all_of_secret("login"), all_of_secret("x"), all_of_config_map("y", optional=True)],
        env=[
            of_config_map("A", "settings", "COLOR"),
            of_config_map("B", "settings", "k"),
            of_secret("C", "x", "k"),
            of_secret("D", "x", "k", optional=True),
            field("E", "metadata.name"),
            of_config_map("F", "more", "logo"),
        ],
        pod={"spec": {"initContainers": [{"name": "i", "envFrom": [all_of_config_map("z")]}]}},
    )
    assert [str(finding) for finding in missing_configuration(pod, HELD)] == [
        'spec.containers[0].envFrom[1].secretRef.name: Not found: "x": Secret default/x is not '
        "among the documents",
        'spec.containers[0].env[1].valueFrom.configMapKeyRef.key: Not found: "k": ConfigMap '
        "default/settings does not have it",
        'spec.containers[0].env[2].valueFrom.secretKeyRef.name: Not found: "x": Secret default/x '
        "is not among the documents",
        'spec.containers[0].env[5].valueFrom.configMapKeyRef.key: Not found: "logo": ConfigMap '
        "default/more does not have it",
        'spec.initContainers[0].envFrom[0].configMapRef.name: Not found: "z": ConfigMap default/z '
        "is not among the documents",
    ]


def test_secrets_in_the_words_of_a_command_are_known_and_no_others():
    given = {
        "envFrom": [all_of_config_map("settings")],
        "env": [
            of_secret("PASSWORD", "login", "PASSWORD"),
            of_secret("E", "login", "EMPTY"),
            of_secret("WHO", "login", "USER"),
            value("URL", "db://$(PASSWORD)@$(COLOR)"),
        ],
    }
    assert spec(CONFIGURED, **given).veiled == ()
    made = spec(CONFIGURED, **given, args=["--url=$(URL)", "$(E)"])
    assert made.argv[1] == "--url=db://s3cr3t/wörd@blue"
    assert made.veiled == ("s3cr3t/wörd",)
    held = Configuration(secrets={("default", "s"): {"A": b"abc", "B": b"xabcx"}})
    node = msgspec.structs.replace(ROOT, configuration=held)
    made = spec(node, envFrom=[all_of_secret("s")], args=["$(A)$(B)"])
    assert made.veiled == ("xabcx", "abc")
    assert veil("exec abcxabcx", made.veiled) == "exec ******"


def test_nothing_that_is_printed_shows_what_a_secret_holds():
    made = spec(CONFIGURED, envFrom=[all_of_secret("login")], args=["$(PASSWORD)"])
    document = v1.Secret(metadata=v1.ObjectMeta(name="s"), string_data={"A": "s3cr3t"})
    for printed in (made, CONFIGURED, HELD, document, ("x", made), [CONFIGURED], {"a": HELD}):
        assert "s3cr3t" not in f"{printed} {printed!r}"
        assert "alice" not in f"{printed} {printed!r}"


def test_no_text_about_a_container_shows_what_a_secret_holds():
    held = Configuration(
        secrets={
            ("default", "s"): {"A": b"top\0secret", "B": b"/proc/1/topsecret", "C": b"1/topse"}
        }
    )
    node = msgspec.structs.replace(GROUP, configuration=held)
    for fields in (
        {"env": [of_secret("A", "s", "A")]},
        {"env": [of_secret("A", "s", "B")]},
        {"env": [of_secret("A", "s", "C"), value("D", "/proc/$(A)")]},
        {"env": [of_secret("A", "s", "C")], "args": ["/proc/$(A)"]},
    ):
        message = refusal(node, **fields)
        assert "NUL" in message or message.startswith("/proc/1/ is not this container")
        assert "top" not in message


def test_its_own_variables_win():
    """§9.1.1"""
    entries = [value("PATH", "/p"), value("HOME", "/h"), value("HOSTNAME", "n"), value("USER", "u")]
    security = {"runAsUser": 1000}
    assert dict(spec(env=entries, securityContext=security).env) == {
        "PATH": "/p",
        "HOME": "/h",
        "HOSTNAME": "n",
        "USER": "u",
    }


def test_path_and_home_have_defaults():
    """§9.1.9"""
    bare = msgspec.structs.replace(ROOT, environ=())
    assert dict(spec(bare).env) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "HOSTNAME": "web",
    }


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        ({"metadata": {"name": "web"}}, "web"),
        ({"spec": {"hostname": "db"}}, "db"),
        ({"metadata": {"name": "a" * 62 + ".-b"}}, "a" * 62),
        ({"metadata": {"name": "a" * 63}}, "a" * 63),
    ],
)
def test_the_host_name_is_the_pods_cut_to_63_characters(pod: dict[str, Any], told: str):
    """§9.1.9"""
    assert hostname(manifest(pod)[0]) == told


# --- words, folders, files ---------------------------------------------------------------------


def test_command_and_args_make_the_words():
    """§9.2"""
    assert spec(command=["sh", "-c"], args=["echo", ""]).argv == ("sh", "-c", "echo", "")


def test_a_container_without_a_command_is_refused():
    """§9.2"""
    assert refusal(command=[], args=["x"]) == (
        "no command specified: there is no image to take one from"
    )


@pytest.mark.parametrize(
    ("given", "cwd"),
    [("", "/project"), ("/srv/./x", "/srv/x"), ("sub", "/project/sub"), ("../y", "/y")],
)
def test_the_working_directory_is_the_containers_or_the_default(given: str, cwd: str):
    """§9.2: a relative one starts at the default."""
    assert spec(workingDir=given).cwd == cwd


def test_logs_and_last_words_have_their_own_places():
    """§8.1"""
    made = spec()
    assert made.log_path == "/state/logs/default_web_u-1/app/2.log"
    assert made.termination_file == "/state/pods/u-1/containers/app/2/termination"
    assert made.termination_path == "/dev/termination-log"
    assert made.id == ContainerId("u-1", "app", 2)


def test_names_too_long_for_a_folder_are_cut_and_told_apart_by_a_hash():
    id = ContainerId("8f14e45f-ceea-467f-9a05-2f1c9b1f3c11", "app", 0)

    def folder(name: str) -> str:
        return posixpath.basename(posixpath.dirname(posixpath.dirname(path(name))))

    def path(name: str) -> str:
        return log_path("/state", "default", name, id)

    fits = "a" * (255 - len(f"default__{id.pod_uid}"))
    assert folder(fits) == f"default_{fits}_{id.pod_uid}"
    assert len(folder(fits)) == 255
    long, other = fits + "a", fits + "b"
    assert len(folder(long)) == 255
    assert folder(long).startswith("default_aaaa")
    assert folder(long) == folder(long) != folder(other)
    assert path(long).endswith("/app/0.log")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"command": ["a\0b"]}, "command contains a NUL character"),
        ({"env": [value("A", "\0")]}, "environment variable A contains a NUL character"),
        ({"workingDir": "/\0"}, "workingDir contains a NUL character"),
        ({"args": ["\ud800"]}, "command contains half a surrogate pair, which is no text"),
    ],
)
def test_what_no_process_can_be_given_is_refused(given: dict[str, Any], message: str):
    assert refusal(**given) == message


def test_bytes_of_the_hosts_environment_that_are_no_text_are_kept():
    node = msgspec.structs.replace(ROOT, environ=(("LC_X", "\udcff"), *ROOT.environ))
    assert dict(spec(node).env)["LC_X"] == "\udcff"


# --- users -------------------------------------------------------------------------------------


def ids(made: LaunchSpec) -> tuple[int | None, int | None, tuple[int, ...] | None]:
    return made.uid, made.gid, made.groups


def test_without_a_word_about_users_everything_is_as_the_nodes():
    assert ids(spec()) == (None, None, None)
    assert ids(spec(ALICE)) == (None, None, None)


@pytest.mark.parametrize(
    ("of_pod", "own", "expected"),
    [
        ({"runAsUser": 1000}, {}, (1000, 0, ())),
        ({"runAsUser": 1000}, {"runAsUser": 1001}, (1001, 0, ())),
        ({"runAsUser": 1000}, {"runAsUser": 0}, (0, 0, ())),
        ({"runAsUser": 1000, "runAsGroup": 5}, {"runAsGroup": 6}, (1000, 6, ())),
        ({"runAsGroup": 5}, {}, (None, 5, ())),
        ({"supplementalGroups": [7, 8, 7]}, {}, (None, None, (7, 8))),
        ({"supplementalGroups": [7]}, {"runAsUser": 1000}, (1000, 0, (7,))),
    ],
)
def test_root_gives_a_container_the_ids_it_asks_for(
    of_pod: dict[str, Any], own: dict[str, Any], expected: tuple[Any, ...]
):
    """§9.4.1: the container's word counts before the pod's."""
    made = spec(pod={"spec": {"securityContext": of_pod}}, securityContext=own)
    assert ids(made) == expected


def test_home_and_user_follow_the_user():
    assert dict(spec(securityContext={"runAsUser": 1000}).env) == {
        "PATH": "/bin",
        "HOME": "/home/alice",
        "USER": "alice",
        "HOSTNAME": "web",
    }


def test_a_user_that_the_host_does_not_know_has_no_name_and_lives_in_the_root():
    node = msgspec.structs.replace(ROOT, environ=(*ROOT.environ, ("USER", "root")))
    made = dict(spec(node, securityContext={"runAsUser": 4711}).env)
    assert made == {"PATH": "/bin", "HOME": "/", "HOSTNAME": "web"}


def test_own_ids_are_honoured_without_privilege():
    pod = {"spec": {"securityContext": {"runAsGroup": 1000, "supplementalGroups": [27]}}}
    made = spec(ALICE, pod=pod, securityContext={"runAsUser": 1000, "runAsNonRoot": True})
    assert ids(made) == (None, None, None)
    assert dict(made.env)["USER"] == "alice"


def foreign(what: str, why: str) -> str:
    return (
        f"{what} is not possible: podvisor is {why} and not privileged, so it can use "
        f"only its own ids; leave {what.split()[0]} out, or run podvisor as root"
    )


@pytest.mark.parametrize(
    ("security", "message"),
    [
        ({"runAsUser": 0}, foreign("runAsUser 0", "running as user 1000")),
        ({"runAsGroup": 27}, foreign("runAsGroup 27", "running as group 1000")),
        ({"supplementalGroups": [27, 28]}, foreign("supplementalGroups 28", "not a member of it")),
    ],
)
def test_foreign_ids_without_privilege_are_refused_with_the_remedy(
    security: dict[str, Any], message: str
):
    pod = {"spec": {"securityContext": security}}
    assert refusal(ALICE, pod=pod) == message


def test_root_in_a_user_namespace_of_its_own_has_only_its_own_ids():
    node = msgspec.structs.replace(ROOT, isolation=Isolation.PIDNS_ROOTLESS)
    assert "runAsUser 1000 is not possible" in refusal(node, securityContext={"runAsUser": 1000})


OF_WEB = ' (pod: "web_default(u-1)", container: app)'


@pytest.mark.parametrize(
    ("node", "of_pod", "own", "message"),
    [
        (
            ROOT,
            {"runAsNonRoot": True},
            {},
            "container has runAsNonRoot and image will run as root" + OF_WEB,
        ),
        (
            ROOT,
            {"runAsUser": 1000},
            {"runAsNonRoot": True, "runAsUser": 0},
            "container's runAsUser breaks non-root policy" + OF_WEB,
        ),
        (ROOT, {"runAsNonRoot": True}, {"runAsUser": 1000}, None),
        (ROOT, {"runAsNonRoot": True}, {"runAsNonRoot": False}, None),
        (ALICE, {"runAsNonRoot": True}, {}, None),
    ],
)
def test_run_as_non_root_is_kept(
    node: NodeInfo, of_pod: dict[str, Any], own: dict[str, Any], message: str | None
):
    """§9.4.1"""
    pod = {"spec": {"securityContext": of_pod}}
    if message is None:
        spec(node, pod=pod, securityContext=own)
    else:
        assert refusal(node, pod=pod, securityContext=own) == message


def image_user(name: str, uid: int, gid: int = 0) -> ImageUser:
    return ImageUser(name, uid, gid)


@pytest.mark.parametrize(
    ("user", "security", "expected"),
    [
        (image_user("1000", 1000, 1000), {}, (1000, 1000, ())),
        (image_user("alice", 1000, 1000), {}, (1000, 1000, ())),
        (image_user("4711", 4711), {"runAsGroup": 5}, (4711, 5, ())),
        (image_user("alice", 1000, 1000), {"runAsUser": 7}, (7, 0, ())),
        (image_user("0", 0), {}, (0, 0, ())),
    ],
)
def test_the_images_user_is_taken_unless_the_manifest_names_one(
    user: ImageUser, security: dict[str, Any], expected: tuple[Any, ...]
):
    """§9.4.1"""
    made = spec(of_image(user=user), image="web", securityContext=security)
    assert ids(made) == expected


def test_the_images_user_can_only_be_ones_own_without_privilege():
    alice = spec(of_image(ALICE, user=image_user("alice", 1000, 1000)), image="web")
    assert ids(alice) == (None, None, None)
    assert dict(alice.env)["USER"] == "alice"
    message = refusal(of_image(ALICE, user=image_user("bob", 1001)), image="web")
    assert message.startswith("the image's user 1001 is not possible: podvisor is running as ")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (image_user("0", 0), "container has runAsNonRoot and image will run as root"),
        (
            image_user("alice", 1000),
            "container has runAsNonRoot and image has non-numeric user (alice), "
            "cannot verify user is non-root",
        ),
        (image_user("1000", 1000), None),
    ],
)
def test_run_as_non_root_looks_at_the_images_user_as_well(user: ImageUser, message: str | None):
    """§9.4.1: the three texts"""
    node = of_image(user=user)
    pod = {"spec": {"securityContext": {"runAsNonRoot": True}}}
    if message is None:
        assert ids(spec(node, pod=pod, image="web"))[0] == user.uid
    else:
        assert refusal(node, pod=pod, image="web") == message + OF_WEB
    # Whom the manifest names is looked at instead.
    assert ids(spec(node, pod=pod, image="web", securityContext={"runAsUser": 7}))[0] == 7


# --- images ------------------------------------------------------------------------------------


def of_image(node: NodeInfo = ROOT, **entry: Any) -> NodeInfo:
    """A node on which `web` stands for something."""
    entry = {"entrypoint": ("serve", "$(X)")} | entry
    return msgspec.structs.replace(node, images=Images((("web", Image(**entry)),)))


def test_an_images_words_are_run_as_they_are_and_the_manifests_expanded():
    """§9.2; H14"""
    fields: dict[str, Any] = {"image": "web:1", "command": [], "env": [value("X", "1")]}
    assert spec(of_image(), **fields).argv == ("serve", "$(X)")
    assert spec(of_image(), **fields, args=["a$(X)"]).argv == ("serve", "$(X)", "a1")
    assert spec(of_image(), **fields | {"command": ["c$(X)"]}).argv == ("c1",)
    assert 'add the lines `[images."other"]`' in refusal(**fields | {"image": "other"})


def test_an_images_variables_come_before_the_manifests():
    """§9.1.9: and cannot be referred to"""
    node = of_image(env=(("PATH", "bin:/bin"), ("MODE", "image"), ("KEPT", "$(X)")))
    entries = [value("X", "1"), value("MODE", "mine"), value("SAID", "$(KEPT)")]
    assert dict(spec(node, image="web", env=entries).env) == {
        "PATH": "bin:/bin",
        "HOME": "/root",
        "HOSTNAME": "web",
        "X": "1",
        "MODE": "mine",
        "KEPT": "$(X)",
        "SAID": "$(KEPT)",
    }


def test_a_container_begins_in_its_own_folder_or_its_images():
    node = of_image(working_dir="/project/src")
    assert spec(node, image="web").cwd == "/project/src"
    assert spec(node, image="web", workingDir="/own").cwd == "/own"
    assert spec(node, image="other").cwd == "/project"


def test_an_images_paths_are_mounted_and_its_signal_is_handed_on():
    node = of_image(paths=(("/srv/a/b", "/x"), ("/srv/a", "/y")), stop_signal="SIGQUIT")
    made = spec(node, image="web")
    assert made.mounts[1:] == (Mount("/y", "/srv/a"), Mount("/x", "/srv/a/b"))
    assert made.stop_signal == "SIGQUIT"
    assert [mount.target for mount in spec(node, image="other").mounts] == ["/etc/hosts"]


def test_in_group_mode_paths_are_refused_by_name():
    node = of_image(GROUP, paths=(("/app", "/x"),))
    problem = (
        "paths of its image cannot be had: /app; in isolation mode group there are no mounts; "
        "podvisor doctor shows how to get another mode"
    )
    assert refusal(node, image="web") == problem
    assert group_problem(manifest(image="web")[1], node.images) == problem


@pytest.mark.parametrize(
    "entry",
    [{"entrypoint": ("tee", "/proc/1/fd/1")}, {"env": (("LOG", "/proc/1/fd/1"),)}],
)
def test_in_group_mode_an_images_words_with_proc_1_are_refused(entry: dict[str, Any]):
    node = of_image(GROUP, **entry)
    assert refusal(node, image="web", command=[]) == PROC_ONE
    assert group_problem(manifest(image="web", command=[])[1], node.images) == PROC_ONE


# --- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grace", "stop", "farewell"),
    [
        (None, {}, (signal.SIGQUIT, 30)),
        (90, {"lifecycle": {"stopSignal": "SIGUSR1"}}, (signal.SIGUSR1, 90)),
        (0, {"image": ""}, (signal.SIGTERM, 1)),
    ],
)
def test_who_ends_it_without_a_node_knows_its_signal_and_its_grace(
    grace: int | None, stop: dict[str, Any], farewell: tuple[int, int]
):
    """§6.5, §7.1"""
    pod = {"spec": {} if grace is None else {"terminationGracePeriodSeconds": grace}}
    if stop:
        found, container = manifest(pod, **stop)
        assert bare_spec(found, container, ContainerId("u-1", "app", 0), ROOT).farewell == farewell
    node = of_image(stop_signal="SIGQUIT")
    assert spec(node, pod=pod, **({"image": "web"} | stop)).farewell == farewell


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", signal.SIGTERM),
        ("SIGUSR1", signal.SIGUSR1),
        ("SIGCLD", signal.SIGCHLD),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX-14", signal.SIGRTMAX - 14),
        ("SIGRTMAX", signal.SIGRTMAX),
    ],
)
def test_the_number_of_a_signal(name: str, number: int):
    """§6.5"""
    assert signal_number(name) == number


def test_every_stop_signal_that_validation_accepts_has_a_number():
    """§6.5"""
    numbers = {name: signal_number(name) for name in validation.STOP_SIGNALS}
    assert len(numbers) == 65
    assert set(numbers.values()) <= set(signal.valid_signals())


@pytest.mark.parametrize("name", ["TERM", "SIGNOTHING", "SIGRTMIN+", "SIGRTMIN+1x", ""])
def test_what_is_no_signal_has_no_number(name: str):
    with pytest.raises(ValueError, match="there is no signal"):
        signal_number(name)


# --- group mode --------------------------------------------------------------------------------

PROC_ONE = (
    "/proc/1/fd/1 is not this container: in isolation mode group, without pid namespaces, "
    "/proc/1/ belongs to the host's init; use /proc/$PODVISOR_MAIN_PID/fd/1, "
    "or a mode that podvisor doctor shows how to get"
)


@pytest.mark.parametrize(
    "given",
    [
        {"command": ["sh", "-c", "echo x >/proc/1/fd/1; exit"]},
        {"args": ["/proc/1/fd/1"]},
        {"env": [value("LOG", "/proc/1/fd/1")]},
        {"livenessProbe": {"exec": {"command": ["sh", "-c", "date >/proc/1/fd/1"]}}},
        {"readinessProbe": {"exec": {"command": ["tee", "/proc/1/fd/1"]}}},
        {"startupProbe": {"exec": {"command": ["tee", "/proc/1/fd/1"]}}},
        {"lifecycle": {"postStart": {"exec": {"command": ["tee", "/proc/1/fd/1"]}}}},
        {"lifecycle": {"preStop": {"exec": {"command": ["tee", "/proc/1/fd/1"]}}}},
    ],
)
def test_in_group_mode_words_with_proc_1_are_refused(given: dict[str, Any]):
    assert refusal(GROUP, **given) == PROC_ONE
    assert group_problem(manifest(**given)[1], Images()) == PROC_ONE
    spec(ROOT, **given)


def test_in_group_mode_words_that_become_proc_1_are_refused_too():
    assert refusal(GROUP, args=["/proc/$(N)/fd/1"], env=[value("N", "1")]) == PROC_ONE


def test_other_processes_below_proc_are_left_alone():
    made = spec(GROUP, args=["/proc/11/fd/1 /proc/$PODVISOR_MAIN_PID/fd/1 /proc/1"])
    assert group_problem(manifest()[1], Images()) is None
    assert made.argv[0] == "true"
