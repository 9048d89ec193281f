"""The rules of the pod lifecycle, and the check that each is tested or deliberately different.

`RULES` numbers the rules of Kubernetes' behaviour that podvisor follows, section by section as far
as it is built. A rule is accounted for when the docstring of a test under tests/ names it (`§` and
its number) or when a row of a table in ARCHITECTURE.md does. `make check` runs this module as a
script; tests/test_rules.py runs it with the tests.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

RULES = {
    # 1.1 the phase
    "1.1.1": "what regular init containers contribute",
    "1.1.2": "what sidecars contribute",
    "1.1.3": "what app containers contribute",
    "1.1.4": "the first match decides",
    "1.1.5": "crash loops, half-failed pods, sidecars at the end",
    "1.1.6": "restarting sidecars do not make it Pending",
    "1.1.7": "terminal phases are sticky",
    "1.1.8": "reason and message belong to the phase",
    "1.1.9": "a terminal phase only when nothing runs",
    "1.1.10": "deletion and the phase",
    "1.1.11": "containers without a trace at the end",
    "1.1.12": "when the object goes",
    "1.1.13": "Unknown is never written",
    # 1.2 conditions
    "1.2.1": "their order",
    "1.2.2": "transition times",
    "1.2.3": "PodScheduled",
    "1.2.4": "PodReadyToStartContainers",
    "1.2.5": "Initialized",
    "1.2.6": "ContainersReady",
    "1.2.7": "Ready",
    "1.2.8": "readiness gates are set from outside",
    "1.2.9": "DisruptionTarget",
    "1.2.10": "AllContainersRestarting",
    "1.2.11": "observedGeneration",
    "1.2.12": "changes by probes are published at once",
    "1.3": "the STATUS column",
    # 2 container status
    "2.1.1": "one of three states, and the one before",
    "2.1.2": "waiting before anything is known",
    "2.1.3": "created but not started",
    "2.1.4": "terminated until it waits to run again",
    "2.1.5": "a lost container",
    "2.1.6": "lost records of init containers",
    "2.1.7": "the order of the lists",
    "2.1.8": "no way back from terminated",
    "2.2": "reasons of waiting",
    "2.3": "reasons of an end",
    "2.3.1": "128 + n",
    "2.3.2": "times and id of an end",
    "2.4.1": "restartCount",
    "2.4.2": "started",
    "2.4.3": "while postStart runs",
    "2.4.4": "ready: apps and sidecars",
    "2.4.5": "ready: regular init containers",
    "2.4.6": "ready: ephemeral containers",
    "2.4.7": "after a restart of the agent",
    "2.5.1": "termination message: path and policy",
    "2.5.2": "a fresh file for each instance",
    "2.5.3": "the last 4096 bytes",
    "2.5.4": "fallback to the log",
    "2.5.5": "what the runtime says comes first",
    "2.5.6": "the budget of a pod",
    "2.5.7": "newlines stay",
    # 3 restart
    "3.1.1": "who may run again",
    "3.1.2": "a container's own rules and policy",
    "3.1.3": "the pod's policy",
    "3.1.4": "what rules may say",
    "3.1.5": "Never on an init container",
    "3.1.6": "sidecars always",
    "3.1.7": "Always on init containers is OnFailure",
    "3.2.1": "0, 10, 20 ... 300 s",
    "3.2.2": "counted from the end",
    "3.2.3": "whose the waits are",
    "3.2.4": "reset after 600 s",
    "3.2.5": "the exit code does not matter",
    "3.2.6": "each container for itself",
    "3.2.7": "the BackOff event",
    "3.2.8": "when exactly",
    "3.2.9": "configured delays",
    "3.2.10": "killed by a probe or hook",
    "3.2.11": "other times of trying again",
    "3.3": "what blocks what",
    "3.4.1": "RestartAllContainers: trigger",
    "3.4.2": "RestartAllContainers: kill and remove",
    "3.4.3": "RestartAllContainers: condition and start",
    "3.4.4": "RestartAllContainers: counts",
    # 4 init containers and sidecars
    "4.1.1": "one by one",
    "4.1.2": "apps after the last one, in order",
    "4.1.3": "ephemeral containers at any time",
    "4.1.4": "postStart of a sidecar fails",
    "4.2.1": "a regular one fails",
    "4.2.2": "a sidecar fails before it has started",
    "4.2.3": "probes of sidecars fail",
    "4.2.4": "sidecars beside a failing init container",
    "4.3.1": "apps restart alone",
    "4.3.2": "an app says that init is done",
    "4.3.3": "a lost sandbox",
    "4.3.4": "the machine restarts, or only the agent",
    "4.3.5": "sidecars end with the apps",
    "4.3.6": "effective requests",
    "4.3.7": "no probes or hooks on regular ones",
    # 5 probes
    "5.1": "fields, defaults, what is refused",
    "5.2.1": "one prober for each probe of a container",
    "5.2.2": "the rhythm",
    "5.2.3": "nothing to probe yet, or any more",
    "5.2.4": "a new instance begins anew",
    "5.2.5": "what does not run is not probed",
    "5.2.6": "deletion stops liveness and startup",
    "5.2.7": "the initial delay",
    "5.2.8": "startup comes before the others",
    "5.2.9": "errors are tried again, then forgotten",
    "5.2.10": "counting in a row",
    "5.2.11": "thresholds, and on hold",
    "5.2.12": "counters over a restart",
    "5.2.13": "only changes are news",
    "5.2.14": "readiness out of turn",
    "5.2.15": "how long a start may take",
    "5.2.16": "a failure and the restart policy",
    "5.2.17": "no two at once of one kind",
    "5.2.18": "without a probe",
    "5.3": "results and their events",
    "5.4.1": "HTTP: what is asked, and for how long",
    "5.4.2": "HTTP: which answers are a success",
    "5.4.3": "HTTP: redirects",
    "5.4.4": "HTTP: how much is read",
    "5.4.5": "HTTP: headers",
    "5.4.6": "HTTP: connections",
    "5.4.7": "HTTP: paths",
    "5.4.8": "HTTP: other protocols",
    "5.5": "TCP",
    "5.6.1": "gRPC: the call",
    "5.6.2": "gRPC: answers",
    "5.6.3": "gRPC: failures",
    "5.7.1": "exec: where it runs",
    "5.7.2": "exec: its end",
    "5.7.3": "exec: out of time",
    "5.7.4": "exec: what it leaves behind",
    "5.8": "a probe's own grace",
    # 6 hooks
    "6.1.1": "postStart beside the main",
    "6.1.2": "what waits for a postStart",
    "6.1.3": "a postStart that fails",
    "6.1.4": "a postStart for each instance",
    "6.1.5": "the main ends during its postStart",
    "6.1.6": "deletion during a postStart",
    "6.2.1": "when preStop runs",
    "6.2.2": "when it does not",
    "6.2.3": "the main ends during its preStop",
    "6.2.4": "its time counts against the grace",
    "6.2.5": "two seconds are left at least",
    "6.2.6": "a preStop that fails",
    "6.2.7": "all at once",
    "6.2.8": "the signal follows at once",
    "6.3.1": "exec",
    "6.3.2": "HTTP",
    "6.3.3": "TCP always fails",
    "6.3.4": "sleep",
    "6.3.5": "one handler",
    "6.4.1": "at least once",
    "6.4.2": "after a restart of the agent",
    "6.4.3": "parameters and output",
    "6.5": "the stop signal",
    # 7 termination
    "7.1.1": "the grace of a deletion",
    "7.1.2": "negative grace in the spec",
    "7.1.3": "a second deletion",
    "7.1.4": "what kubectl sends",
    "7.1.5": "forced deletion",
    "7.1.6": "finalizers",
    "7.2.1": "the effective grace only falls",
    "7.2.2": "two seconds before SIGKILL",
    "7.2.3": "never back",
    "7.2.4": "shortening what runs",
    "7.3.1": "the status goes on, probes stop",
    "7.3.2": "all at once",
    "7.3.3": "what comes after the containers",
    "7.3.4": "ready until it ends",
    "7.3.5": "traffic meanwhile",
    "7.4.1": "sidecars in reverse order",
    "7.4.2": "the wait for a turn is bounded",
    "7.4.3": "regular init containers wait for nobody",
    "7.4.4": "the last call of sidecars",
    "7.4.5": "sidecars stay down",
    "7.5": "the natural end",
    "7.6.1": "one container: grace",
    "7.6.2": "one container: texts",
    "7.6.3": "one container: preStop and blocking",
    "7.7": "activeDeadlineSeconds",
    "7.8": "the node shuts down",
    "7.9": "processes and signals",
    # 9 what else a pod may ask for
    "9.5": "ephemeral containers",
    # 10 endpoints
    "10.2": "ready, serving, terminating",
    "10.3": "publishNotReadyAddresses",
    "10.4": "readiness gates hold a pod out",
    "10.5": "a pod whose containers have stopped",
    # 11 events
    "11.1": "fields",
    "11.2": "reasons and texts",
    "11.3.1": "the same again counts up",
    "11.3.2": "many similar ones are one",
    "11.3.3": "the rate",
    "11.3.4": "the queue",
}

_NAMED = re.compile(r"§(\d+(?:\.\d+)*)")


def named_by_tests(tests: Path) -> set[str]:
    """The numbers that docstrings of tests name."""
    found: set[str] = set()
    for path in tests.rglob("test_*.py"):
        for docstring in _test_docstrings(ast.parse(path.read_text("utf-8"))):
            found.update(_NAMED.findall(docstring))
    return found


def _test_docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and node.name.startswith("test_"):
            yield ast.get_docstring(node) or ""


def named_in_tables(document: Path) -> set[str]:
    """The numbers that rows of tables name."""
    if not document.exists():
        return set()
    rows = [line for line in document.read_text("utf-8").splitlines() if line.startswith("|")]
    return set(_NAMED.findall("\n".join(rows)))


def unaccounted(root: Path = ROOT) -> list[str]:
    """The rules with neither a test nor a row."""
    known = named_by_tests(root / "tests") | named_in_tables(root / "ARCHITECTURE.md")
    return [f"§{number} {words}" for number, words in RULES.items() if number not in known]


def main() -> int:
    missing = unaccounted()
    for line in missing:
        print(f"neither a test nor a row of differences in ARCHITECTURE.md: {line}")
    if not missing:
        print(f"{len(RULES)} rules are accounted for")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
