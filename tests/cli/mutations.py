"""Manifests as people have them, and what can become of them on the way: 500 broken twins.

`twins(name)` gives the texts that one way of breaking makes of the seeds, always the same ones.
"""

from __future__ import annotations

import base64
import json
import random
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import yaml

MIB = 1024**2
HIDDEN = "correct-horse-battery-staple"  # the Secret's value: nothing may repeat it
ENCODED = base64.b64encode(HIDDEN.encode()).decode()

RENDERED = f"""\
---
# Source: shop/templates/secret.yaml
apiVersion: v1
kind: Secret
metadata:
  name: shop-database
  labels: &labels
    app.kubernetes.io/name: shop
    app.kubernetes.io/managed-by: Helm
type: Opaque
data:
  password: {ENCODED}
stringData:
  url: "postgres://shop:{HIDDEN}@localhost/shop"
---
# Source: shop/templates/configmap.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: shop-settings
data:
  LOG_LEVEL: info
  settings.yaml: |
    listen: 127.0.0.1:8080
    features: [search, basket]
---
# Source: shop/templates/service.yaml
apiVersion: v1
kind: Service
metadata:
  name: shop
spec:
  type: ClusterIP
  ports:
    - port: 80
      targetPort: http
  selector:
    app.kubernetes.io/name: shop
---
# Source: shop/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  replicas: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: shop
  template:
    metadata:
      annotations:
        checksum/config: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
      labels:
        app.kubernetes.io/name: shop
    spec:
      serviceAccountName: shop
      containers:
        - name: shop
          image: "registry.example/shop:1.16.0"
          imagePullPolicy: IfNotPresent
          env:
            - name: DATABASE_PASSWORD
              valueFrom:
                secretKeyRef:
                  name: shop-database
                  key: password
            - name: POD_IP
              valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}
          envFrom:
            - configMapRef: {{name: shop-settings}}
          ports:
            - name: http
              containerPort: 8080
              protocol: TCP
          livenessProbe:
            httpGet: {{path: /healthz, port: http}}
          resources:
            limits: {{cpu: 100m, memory: 128Mi}}
          volumeMounts:
            - name: settings
              mountPath: /etc/shop
      volumes:
        - name: settings
          configMap:
            name: shop-settings
"""

POD = f"""\
apiVersion: v1
kind: Pod
metadata:
  name: everything
  labels: {{app: everything}}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 20
  activeDeadlineSeconds: 600
  securityContext: {{fsGroup: 0, runAsUser: 0, supplementalGroups: [0]}}
  hostAliases:
  - ip: 127.0.0.1
    hostnames: [database, cache.local]
  initContainers:
  - name: migrate
    command: [sh, -c, "echo migrated"]
  - name: proxy
    restartPolicy: Always
    command: ["sleep", "1000"]
    startupProbe:
      tcpSocket: {{port: 9000}}
      periodSeconds: 1
  containers:
  - name: main
    command: [sh, -c]
    args:
    - |
      set -e
      exec sleep 1000
    workingDir: /tmp
    stdin: false
    env:
    - {{name: CPUS, valueFrom: {{resourceFieldRef: {{resource: limits.cpu, divisor: 1m}}}}}}
    - {{name: GREETING, value: "hello $(CPUS)"}}
    resources:
      requests: {{cpu: 0.5, memory: 64Mi}}
      limits: {{cpu: "1", memory: 1Gi}}
    readinessProbe:
      exec: {{command: ["true"]}}
      initialDelaySeconds: 1
      failureThreshold: 3
    livenessProbe:
      grpc: {{port: 9090, service: main}}
    lifecycle:
      postStart: {{exec: {{command: [sh, -c, "echo up"]}}}}
      preStop: {{sleep: {{seconds: 2}}}}
    volumeMounts: &mounts
    - {{name: scratch, mountPath: /scratch}}
    - {{name: host, mountPath: /host, readOnly: true}}
    - {{name: settings, mountPath: /settings/one, subPath: LOG_LEVEL}}
    - {{name: secret, mountPath: /secret}}
    - {{name: about, mountPath: /about}}
    - {{name: all, mountPath: /all}}
  - name: side
    command: ["sleep", "1000"]
    volumeMounts: *mounts
  volumes:
  - name: scratch
    emptyDir: {{sizeLimit: 10Mi}}
  - name: host
    hostPath: {{path: /tmp, type: Directory}}
  - name: settings
    configMap:
      name: settings
      optional: true
      defaultMode: 0440
      items: [{{key: LOG_LEVEL, path: LOG_LEVEL, mode: 256}}]
  - name: secret
    secret: {{secretName: token, defaultMode: 0400}}
  - name: about
    downwardAPI:
      items:
      - {{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}
  - name: all
    projected:
      sources:
      - configMap: {{name: settings, optional: true}}
      - secret: {{name: token}}
---
apiVersion: v1
kind: Secret
metadata: {{name: token}}
stringData:
  token: {HIDDEN}
"""

WORKLOADS = f"""\
apiVersion: batch/v1
kind: Job
metadata:
  name: import
spec:
  backoffLimit: 4
  completions: 1
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: import
        image: python:3.12
        command: [python3, -c, "print('done')"]
        restartPolicy: Never
        restartPolicyRules:
        - action: Restart
          exitCodes: {{operator: In, values: [42]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: store
spec:
  serviceName: store
  replicas: 1
  selector:
    matchExpressions:
    - {{key: app, operator: In, values: [store, depot]}}
  template:
    metadata:
      labels: {{app: store}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: store
        command: ["sleep", "1000"]
        ports: [{{containerPort: 6379, name: store}}]
        env:
        - name: PASSWORD
          valueFrom: {{secretKeyRef: {{name: store, key: password}}}}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {{name: store}}
  data: {{password: {ENCODED}}}
- apiVersion: v1
  kind: ConfigMap
  metadata: {{name: store}}
  binaryData: {{logo: iVBORw0KGgo=}}
"""

SEEDS = (RENDERED, POD, WORKLOADS)

PROJECT = """\
pass-env = ["HTTP_PROXY", "LANG"]
env-file = ["service.env"]
backoff-initial = "500ms"
backoff-max = 30
private-tmp = true

[images."registry.example/shop"]
entrypoint = ["python3", "-m", "shop"]
command = ["--port", "8080"]
working-dir = "."
env = { PORT = "8080", GREETING = "hello" }
stop-signal = "SIGQUIT"

[images."python:*"]
entrypoint = ["python3"]
paths = { "/app" = "." }
user = 0
"""

VARIABLES = f"""\
# of the service
DATABASE_URL=postgres://shop:{HIDDEN}@localhost/shop
LANG
 GREETING = hello
export TOKEN={HIDDEN}
EMPTY=
"""

Data = list[Any]  # of one text: its documents
_Spot = tuple[Any, str | int]  # a dict or a list, and a key of it


def _spots(data: Any) -> Iterator[_Spot]:
    entries = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(entries):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from _spots(value)


def _spot(dice: random.Random, documents: Data, kind: type | tuple[type, ...] = object) -> _Spot:
    return dice.choice([(at, key) for at, key in _spots(documents) if isinstance(at[key], kind)])


# --- in the data ----------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3.5, "", "text", [], {}, [[]], [None], {"a": None}, ["a", 1],
    [{"name": "a"}], {"name": ["a"]}, "null", "1", "true", 2**31, 10**30,
)  # fmt: skip
_NUMBERS = (
    "-1", "0", "-0", "2147483648", "9223372036854775808", "-9223372036854775809", "1" * 60,
    "9" * 5000, "1e400", "-1e400", "1e-400", "1.5", ".inf", "-.inf", ".nan", "0777", "0o777",
    "0x7fffffffffffffff", "0b101", "190:20:30", "1_000", "+12", "1e3", "1e999999999", "0888",
    "12e", "1.2.3", "-", "+", ".", "~", "2001-12-14", "=",
)  # fmt: skip
_TEXTS = (
    "\u202eright to left", "\ufeff", "e\u0301", "\U0001f600" * 30, "\u2028\u2029\x85", "a\x00b",
    "\x1b[2J\x1b]0;title\x07", "\r", "\ud83d", "\x7f", "\u00a0", "a" * 300, "../..", "$(HOME)",
    "-" * 64, "*a", "&a", "!!str", "%", "@", "`", "{{ .Values.name }}", "\t", " ", "名前",
    "ß" * 127, "\U0010ffff", "\ue000", "\ufffe",
)  # fmt: skip


def a_type_replaced(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents)
    at[key] = dice.choice(_VALUES)


def several_types_replaced(dice: random.Random, documents: Data) -> None:
    for _ in range(12):
        a_type_replaced(dice, documents)


def a_key_removed(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents)
    del at[key]


def a_key_misspelt(dice: random.Random, documents: Data) -> None:
    at, key = dice.choice([(at, key) for at, key in _spots(documents) if isinstance(key, str)])
    cut = dice.randrange(len(key))
    twin = dice.choice([key[:cut] + key[cut + 1 :], key + "s", key.upper(), key[::-1], f" {key}"])
    at[twin] = at.pop(key)


def wrapped_once_more(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents)
    at[key] = dice.choice([[at[key]], {"spec": at[key]}, {"": at[key]}])


def nested_deeply(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents)
    for _ in range(dice.choice([20, 90, 99, 101, 150])):
        at[key] = dice.choice([[at[key]], {"a": at[key]}])


def moved_elsewhere(dice: random.Random, documents: Data) -> None:
    value = HIDDEN
    while HIDDEN in (text := json.dumps(value)) or ENCODED in text:  # that would be no Secret's
        at, key = _spot(dice, documents)
        value = at[key]
    to, name = _spot(dice, documents)
    to[name] = json.loads(text)


def an_odd_text(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents, str)
    at[key] = dice.choice(_TEXTS)


def an_odd_key(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents, dict)
    at[key][dice.choice(_TEXTS)] = dice.choice(_VALUES)


def repeated(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents, list)
    at[key] = at[key] * dice.choice([2, 30])


def emptied(dice: random.Random, documents: Data) -> None:
    at, key = _spot(dice, documents, (dict, list, str))
    at[key] = type(at[key])()


# --- in the text ----------------------------------------------------------------------------------


def _line(dice: random.Random, text: str) -> tuple[list[str], int]:
    lines = text.split("\n")
    wanted = [n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    return lines, dice.choice(wanted)


def a_line_doubled(dice: random.Random, text: str) -> str:
    lines, at = _line(dice, text)
    return "\n".join([*lines[: at + 1], *lines[at:]])


def a_line_missing(dice: random.Random, text: str) -> str:
    lines, at = _line(dice, text)
    return "\n".join(lines[:at] + lines[at + 1 :])


def a_line_indented_otherwise(dice: random.Random, text: str) -> str:
    lines, at = _line(dice, text)
    bare = lines[at].lstrip()
    lines[at] = dice.choice(["", " ", "  ", "\t", "   ", "        ", "  \t"]) + bare
    return "\n".join(lines)


def a_scalar_rewritten(dice: random.Random, text: str, values: tuple[str, ...]) -> str:
    lines = text.split("\n")
    ends = {n: max(line.rfind(": ") + 2, line.rfind("=") + 1) for n, line in enumerate(lines)}
    at = dice.choice([n for n, end in ends.items() if end > 1])
    lines[at] = lines[at][: ends[at]] + dice.choice(values)
    return "\n".join(lines)


def an_odd_number(dice: random.Random, text: str) -> str:
    return a_scalar_rewritten(dice, text, _NUMBERS)


def a_tag(dice: random.Random, text: str) -> str:
    tags = (
        "!!python/object:os.system {}", "!!python/object/apply:os.system [ls]", "!!binary aGk=",
        "!!set {a, b}", "!!omap [a: 1]", "!local x", "!!int x", "!!str 1", "!!float 1", "!!null ''",
        "! 1", "!<tag:yaml.org,2002:str> 1", "!!timestamp 2001-12-14", "!!map []", "!!seq {}",
        "!!bool yes", "!e!x y",
    )  # fmt: skip
    return a_scalar_rewritten(dice, text, tags)


def an_anchor(dice: random.Random, text: str) -> str:
    anchors = (
        "*missing", "&a", "&a *a", "&a [*a]", "&a {<<: *a}", "{<<: 1}", "{<<: [1]}", "{<<: {a: b}}",
        "{<<: [{a: b}, {a: c}]}", "{? {a: b} : c}", "{? [a] : b}", "{1: a, 1: b}", "{~: a}",
        "{<<: {name: x}, name: y}", "&a &b c", "*", "&", "{<<: *labels}", "*labels", "*mounts",
        "{.inf: a, 1.5: b, true: c}", "{a: &x {b: *x}}",
    )  # fmt: skip
    return a_scalar_rewritten(dice, text, anchors)


def a_block(dice: random.Random, text: str) -> str:
    blocks = (
        "|", ">", "|-\n", "|9\n  a", "|0", ">+\n\n\n", '"never closed', "'never closed", "|\n\ta",
        '"\\ud83d"', '"\\x00"', '"\\q"', '"a\n\n  b"', "a\n    : b", "[a, b", "{a: b", "[a]]", "}",
        "a: b", "- a", "? a", "%YAML 9.9", "---", "...", "@a", "`a`", "'a' 'b'", ",", "[,]",
    )  # fmt: skip
    return a_scalar_rewritten(dice, text, blocks)


def a_character_changed(dice: random.Random, text: str) -> str:
    at = dice.randrange(len(text))
    odd = "\t\r\n\x00\x85\ufeff\u2028:-?[]{},&*#|>!%@`'\"\\\U0001f600"
    return text[:at] + dice.choice(odd) + text[at + dice.choice([0, 1]) :]


def other_line_ends(dice: random.Random, text: str) -> str:
    end = dice.choice(["\r\n", "\r", "\n\r", "\x85", "\u2028"])
    return a_scalar_rewritten(dice, text, ("1", "'", "[]")).replace("\n", end)


def tabs(dice: random.Random, text: str) -> str:
    return a_line_doubled(dice, text).replace(dice.choice(["    ", "  ", ": "]), "\t")


# --- in the bytes ---------------------------------------------------------------------------------


def cut_off(dice: random.Random, text: str) -> bytes:
    content = an_odd_number(dice, text).replace("shop", "sh\U0001f600p").encode()
    return content[: dice.randrange(1, len(content))]


def bytes_that_are_no_text(dice: random.Random, text: str) -> bytes:
    content = bytearray(text.replace("name", "näme").encode())
    for _ in range(dice.choice([1, 20])):
        content[dice.randrange(len(content))] = dice.randrange(128, 256)
    return bytes(content)


def another_encoding(dice: random.Random, text: str) -> bytes:
    text = a_character_changed(dice, text)
    encoding = dice.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7"])
    return text.encode(encoding, "surrogatepass")


def far_too_much(dice: random.Random, text: str) -> bytes:
    size = 10 * MIB
    more = (
        f'big: "{"x" * size}"\n', "---\na: 1\n" * (size // 9), "# nothing\n" * (size // 10),
        "".join(f"key{n}: {n}\n" for n in range(size // 18)), " " * size, "[" * size, "\x00" * size,
    )  # fmt: skip
    much = dice.choice(more)
    return dice.choice([text + much, much + text]).encode()


Breaking = Callable[[random.Random, Any], Any]

IN_DATA: tuple[Breaking, ...] = (
    a_type_replaced, several_types_replaced, a_key_removed, a_key_misspelt, wrapped_once_more,
    nested_deeply, moved_elsewhere, an_odd_text, an_odd_key, repeated, emptied,
)  # fmt: skip
IN_TEXT: tuple[Breaking, ...] = (
    a_line_doubled, a_line_missing, a_line_indented_otherwise, an_odd_number, a_tag, an_anchor,
    a_block, a_character_changed, other_line_ends, tabs, cut_off, bytes_that_are_no_text,
    another_encoding, far_too_much,
)  # fmt: skip
ROUNDS = 20  # of each: 500 in all


def twins(how: Breaking, seeds: tuple[str, ...] = SEEDS, rounds: int = ROUNDS) -> Iterator[bytes]:
    for number in range(rounds):
        dice = random.Random(f"{how.__name__} {number}")
        seed = seeds[number % len(seeds)]
        if how in IN_TEXT:
            content = how(dice, seed)
        else:
            documents = list(yaml.safe_load_all(seed))
            how(dice, documents)
            content = _written(dice, documents)
        yield content if isinstance(content, bytes) else content.encode()


def _written(dice: random.Random, documents: Data) -> str:
    """As YAML, or as its JSON twin: one document after the other, or a List."""
    form = dice.choice(["yaml", "yaml", "json", "list"])
    if form == "yaml":
        # What is half of a surrogate pair can be written in JSON only.
        text: str = yaml.safe_dump_all(documents, allow_unicode=True, sort_keys=dice.choice([0, 1]))
        return text.encode(errors="replace").decode()
    if form == "json":
        return "\n".join(json.dumps(each, indent=dice.choice([None, 2])) for each in documents)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent="\t")


# --- bombs ----------------------------------------------------------------------------------------

_POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec:\n"


def _laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    return _POD.replace("NAME", "laughs") + textwrap.indent("\n".join(lines), "  ")


def _merges() -> str:
    keys = ", ".join(f"k{n}: v" for n in range(1000))
    return f"a: &a {{{keys}}}\nb:\n" + "- {<<: [*a, *a, *a, *a]}\n" * 100_000


def _valid_by_aliases() -> str:
    """Documents that each hold as many values as a text may hold, and nothing is wrong."""
    variables = "".join(f"    - {{name: V{n}, value: v}}\n" for n in range(400))
    first = f"  - &c0\n    name: c0\n    command: ['true']\n    env: &env\n{variables}"
    more = "".join(f"  - {{name: c{n}, command: ['true'], env: *env}}\n" for n in range(1, 60))
    pod = _POD + "  containers:\n" + first + more
    return "---\n".join(pod.replace("NAME", f"p{n}") for n in range(49))


def _wrong_keys(kind: str, field: str) -> str:
    """Almost as many wrong values as are said, and keys without end."""
    keys = [f"  'wrong key {n}': {n if n < 990 else 'text'}" for n in range(60_000)]
    head = f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n{field}:\n"
    return head + "\n".join(keys)


def _lines_before_objects() -> str:
    return '{"kind": "Pod",' + "\n" * 2_900_000 + '"a": 1}' + '{"kind": "Pod"}' * 3000


def _missing_configuration() -> str:
    ref = "valueFrom: {configMapKeyRef: {name: gone, key: a}}"
    variables = "".join(f"    - {{name: V{n}, {ref}}}\n" for n in range(11_000))
    pod = _POD.replace("NAME", "a") + "  containers:\n  - name: a\n    command: ['true']\n"
    return f"{pod}    env:\n{variables}"


BOMBS: dict[str, Callable[[], str]] = {
    "a billion laughs": _laughs,
    "merge keys": _merges,
    "valid pods by aliases": _valid_by_aliases,
    "a ConfigMap of wrong keys": lambda: _wrong_keys("ConfigMap", "data"),
    "a Secret of wrong keys": lambda: _wrong_keys("Secret", "stringData"),
    "lines before many objects": _lines_before_objects,
    "variables of nothing": _missing_configuration,
    "a string of 10 MB": lambda: RENDERED + f'big: "{"x" * 10 * MIB}"\n',
    "a string of almost 3 MiB": lambda: f"{RENDERED}  args: ['{'x' * 3_000_000}']\n",
    "many keys": lambda: "".join(f"key{n}: {n}\n" for n in range(124_000)),
    "many documents": lambda: "---\nkind: Pod\n" * 120_000,
    "brackets": lambda: "[" * 3_000_000,
    "a number of a million digits": lambda: _POD.replace("NAME", "1" * 1_000_000),
    "one comment": lambda: "#" * 3_000_000,
}
