"""What the commands that ask a node have in common: which node, what is asked for, who answers.

Objects are named as kubectl has it: `pods`, `pods web db`, `pod/web svc/db`, `pods,services`. The
node answers. Commands that only read go by `ask`: where no node runs, what it has stored answers
(stored.py), and the command ends with the exit code of a node that cannot be reached, after it has
shown what there is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from supervisor.cli import complain
from supervisor.client import Client, Kind, NotRunningError, find_state_dir
from supervisor.errors import NodeError, PodvisorError, StatusError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from supervisor.api.codec import Document

Json = dict[str, Any]

Kinds = list[Kind]

DEFAULT = "default"  # the namespace
_GROUPS = ("initContainers", "containers", "ephemeralContainers")
_CHOICES = (("containers", ""), ("ephemeralContainers", " (ephem)"), ("initContainers", " (init)"))
_CHOICE = "kubectl.kubernetes.io/default-container"  # an annotation: which container is meant


class Target(NamedTuple):
    """Objects of one kind: one by name, or all when the name is empty."""

    kind: Kind
    name: str
    namespace: str = ""  # its own, which no option names; empty: it has none


class Log(Protocol):
    """What a container has written."""

    def chunks(self) -> Iterator[bytes]: ...

    def lines(self) -> Iterator[bytes]: ...


class Reader(Protocol):
    """Who answers: a node, or what it has stored."""

    def kind(self, word: str) -> Kind: ...

    def kind_of(self, manifest: Json) -> Kind: ...

    def kinds(self) -> Kinds: ...

    def get(self, kind: Kind, namespace: str, name: str, *, table: bool = False) -> Json: ...

    def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        table: bool = False,
        query: Mapping[str, object] | None = None,
    ) -> Json: ...

    def log(
        self, namespace: str, name: str, query: Mapping[str, object] | None = None
    ) -> AbstractContextManager[Log]: ...

    def json(self, method: str, path: str) -> Json:
        """The answer to any other request."""
        ...


def client(state_dir: str | None) -> Client:
    """Of the node of the project that we are in, or of `--state-dir`. Whether it runs shows at the
    first request."""
    place = find_state_dir(os.getcwd(), state_dir)
    return Client(place, warn=lambda text: complain(f"Warning: {text}"))


def ask(state_dir: str | None, show: Callable[[Reader], Sequence[StatusError]]) -> None:
    """Show what a node has, or what it has stored when it does not run.

    `show` asks and prints, and returns what it did not find. Raises the last error of those, after
    the others are told; that no node runs is the last one.
    """
    errors: list[PodvisorError] = []
    try:
        errors += show(client(state_dir))
    except NotRunningError as error:
        from supervisor.cli import stored

        if not stored.is_there(error.state_dir):
            raise
        errors += show(stored.read(error.state_dir))
        errors.append(error)
    # What was shown stands before, also where both streams go into one pipe.
    sys.stdout.flush()
    for each in errors[:-1]:
        print(each, file=sys.stderr)
    if errors:
        raise errors[-1]


@contextmanager
def once_begun() -> Iterator[None]:
    """From here on what is stored is no answer any more, when the node ends: what it was has been
    shown."""
    try:
        yield
    except NotRunningError as error:
        raise NodeError(str(error)) from error


def nothing_found(namespace: str) -> None:
    """Say so as kubectl does. An empty namespace: not in any, or not in one."""
    sys.stdout.flush()
    where = f" in {namespace} namespace." if namespace else ""
    print(f"No resources found{where}", file=sys.stderr)


def targets(words: Sequence[str], reader: Reader) -> list[Target]:
    """What is meant by TYPE[,TYPE] [NAME…] or TYPE/NAME…. Raises UsageError."""
    if not words:
        raise UsageError("cannot tell which kind is meant: say one, as in `pods` or `pod/web`")
    if any("/" in word for word in words):
        found = []
        for word in words:
            kind, _, name = word.partition("/")
            if not kind or not name or "/" in name or "," in kind:
                raise UsageError(
                    f"cannot tell what {word} is: there is TYPE/NAME before it or after it, so "
                    "each has to be TYPE/NAME"
                )
            found.append(Target(reader.kind(kind), name))
        return found
    kinds: Kinds = []
    for word in words[0].split(","):
        if word.lower() == "all":
            kinds += [kind for kind in reader.kinds() if "all" in kind.categories]
        else:
            kinds.append(reader.kind(word))
    names = list(dict.fromkeys(words[1:])) or [""]
    return [Target(kind, name) for kind in dict.fromkeys(kinds) for name in names]


def described(
    paths: list[str] | None,
    *,
    recursive: bool,
    named: bool,
    selected: bool,
    everywhere: bool,
) -> list[Document]:
    """What the manifests of -f say; without it, nothing. Raises ManifestError, and UsageError where
    something else says which objects are meant, too."""
    if not paths:
        return []
    if named or selected or everywhere:
        raise UsageError("cannot use -f together with a TYPE, a selector or -A")
    from supervisor.cli import written

    return written.read(paths, recursive=recursive)


def targets_of(documents: Iterable[Document], reader: Reader) -> list[Target]:
    """The objects that manifests describe. Raises UsageError."""
    found = []
    for document in documents:
        meta, kind = document.data["metadata"], reader.kind_of(document.data)
        if not meta.get("name"):
            raise UsageError("cannot look for what has only a generateName: it needs a name")
        where = str(meta.get("namespace") or "") if kind.namespaced else ""
        found.append(Target(kind, str(meta["name"]), where))
    return found


def one(word: str, reader: Reader) -> Target:
    """The one object of TYPE/NAME. Raises UsageError."""
    kind, _, name = word.rpartition("/")
    if not name or not kind or "/" in kind:
        raise UsageError(f"cannot tell which object {word} is: say TYPE/NAME, as in pod/web")
    return Target(reader.kind(kind), name)


def pod(word: str) -> str:
    """The name in POD or pod/POD. Raises UsageError."""
    kind, _, name = word.rpartition("/")
    if not name or kind not in ("", "pod", "pods", "po"):
        raise UsageError(f"cannot tell which pod {word} is: say its name, or pod/NAME")
    return name


def containers(pod: Json) -> dict[str, Json]:
    """Those of the spec by name: init, app, ephemeral."""
    return {each["name"]: each for group in _GROUPS for each in pod["spec"].get(group) or ()}


def default_container(pod: Json, *, quiet: bool = False) -> str:
    """The one that is meant when none is named. That it was chosen is said if there are others."""
    known = containers(pod)
    chosen = str((pod["metadata"].get("annotations") or {}).get(_CHOICE) or "")
    if chosen in known:
        return chosen
    first: str = pod["spec"]["containers"][0]["name"]
    if len(known) > 1 and not quiet:
        others = [
            f"{each['name']}{kind}"
            for group, kind in _CHOICES
            for each in pod["spec"].get(group) or ()
        ]
        print(f'Defaulted container "{first}" out of: {", ".join(others)}', file=sys.stderr)
    return first
