"""`podvisor apply`: objects as manifests say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli import options
from supervisor.cli.options import DryRun
from supervisor.errors import UsageError

if TYPE_CHECKING:
    from supervisor.api.codec import Document
    from supervisor.api.problems import Finding, Problem
    from supervisor.client import Client
    from supervisor.errors import StatusError

NO_ARGS_IS_HELP = True


_SAID = {DryRun.NONE: "", DryRun.CLIENT: " (dry run)", DryRun.SERVER: " (server dry run)"}


def command(
    filename: options.Filename = None,
    recursive: options.Recursive = False,
    dry_run: Annotated[
        DryRun,
        typer.Option(help="Say what would happen: by what is there, or by asking the node."),
    ] = DryRun.NONE,
    force_conflicts: Annotated[
        bool,
        typer.Option("--force-conflicts", help="Take over fields that others have set."),
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NAME", help="Of what names none.")
    ] = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Create or change objects of a running node as manifests say, field by field (server-side
    apply): fields that others have set stay.

    A pod can be changed only where Kubernetes allows it; `up` replaces it where not, starts a node
    if none runs, and makes pods of Deployments and other workloads.

    Examples:

      podvisor apply -f pod.yaml

      kustomize build overlays/dev | podvisor apply -f -

      podvisor apply -R -f deploy/ --dry-run=server
    """
    if not filename:
        raise UsageError("cannot apply nothing: name a file, a folder or - with -f")

    from supervisor.cli import complain, written
    from supervisor.cli.asking import client
    from supervisor.errors import ExitCode, StatusError

    documents = written.read(filename, recursive=recursive)
    node = client(state_dir)
    code = ExitCode.OK
    for document in documents:
        try:
            done = _apply(node, document, namespace, dry_run, force=force_conflicts)
        except StatusError as error:
            lines = [str(problem) for problem in _problems(error, document)]
            for line in lines or [f"{document.source}: {_told(error)}"]:
                complain(line)
            refused = error.reason in ("Invalid", "BadRequest")
            code = max(code, ExitCode.REFUSED if refused else error.code)
        except UsageError as error:
            complain(f"{document.source}: error: {error}{_hint(document.data)}")
            code = ExitCode.REFUSED
        else:
            print(f"{done}{_SAID[dry_run]}", flush=True)
    if code:
        raise typer.Exit(code)


def _apply(
    node: Client, document: Document, namespace: str, dry_run: DryRun, *, force: bool
) -> str:
    """What was done, in kubectl's words. Raises StatusError, UsageError, NodeError."""
    from supervisor.cli.sources import CONFIG_SOURCE, FROM_API, SOURCE
    from supervisor.client import PODS
    from supervisor.errors import StatusError
    from supervisor.project.manifests import STDIN

    kind = node.kind_of(document.data)
    meta = dict(document.data["metadata"])
    name = meta.get("name")
    if not name:
        raise UsageError("cannot apply what has only a generateName: it needs a name")
    if kind is PODS and document.source != STDIN:
        # So that the podvisor.toml beside the file counts, as it does for `up`.
        source = {SOURCE: os.path.abspath(document.source), CONFIG_SOURCE: FROM_API}
        meta["annotations"] = source | (meta.get("annotations") or {})
    where = str(meta.get("namespace") or namespace) if kind.namespaced else ""
    before = node.find(kind, where, name)
    if dry_run is DryRun.CLIENT:
        return f"{kind.named(name)} {'created' if before is None else 'configured'}"
    body, asks = {**document.data, "metadata": meta}, dry_run is DryRun.SERVER
    try:
        after, _ = node.apply(kind, where, name, body, force=force, dry_run=asks)
    except StatusError as error:
        if not _is_with_us(error):
            raise
        # `up` and `restart` create their pods; what they have set is not another's.
        after, _ = node.apply(kind, where, name, body, force=True, dry_run=asks)
    return f"{kind.named(name)} {_outcome(before, after, dry=asks)}"


def _outcome(before: dict[str, Any] | None, after: dict[str, Any], *, dry: bool) -> str:
    from supervisor.cli.bringing import outcome

    if before is None or not dry:
        return outcome(before, after)
    # Nothing was stored, so no version tells them apart; who wrote what does not matter.
    left, right = (
        {**each, "metadata": {k: v for k, v in each["metadata"].items() if k not in _VOLATILE}}
        for each in (before, after)
    )
    return "unchanged" if left == right else "configured"


_VOLATILE = ("managedFields", "resourceVersion", "generation")


def _conflicts(error: StatusError) -> list[str]:
    """With whom, and about which field: empty where it is another refusal."""
    causes = error.details.get("causes") or ()
    return [
        str(cause.get("message"))
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
    ]


def _is_with_us(error: StatusError) -> bool:
    from supervisor.client import MANAGER

    told = _conflicts(error)
    return bool(told) and all(each.startswith(f'conflict with "{MANAGER}" ') for each in told)


def _told(error: StatusError) -> str:
    text = str(error)
    if _conflicts(error):
        text = f"error: {error.status['message']}; --force-conflicts takes these fields over"
    return text


def _problems(error: StatusError, document: Document) -> list[Problem]:
    """What is wrong and where that stands, as `validate` says it; empty where the file is not at
    fault, or only the node can say why."""
    from supervisor.api import codec, problems, v1, validation

    found: list[Finding] = []
    if error.reason == "Invalid":
        causes = error.details.get("causes") or ()
        if all(cause.get("field") and "\n" not in str(cause.get("message")) for cause in causes):
            found = [problems.of_cause(str(c["field"]), str(c.get("message"))) for c in causes]
    elif error.reason == "BadRequest":
        # Who cannot read a body says nothing of what it would mean.
        data = document.data
        match data.get("kind"):
            case "Pod" if codec.decode(data, v1.Pod)[1]:
                _, found = validation.admit(data)
            case "ConfigMap" if codec.decode(data, v1.ConfigMap)[1]:
                _, found = validation.admit_config_map(data)
            case "Secret" if codec.decode(data, v1.Secret)[1]:
                _, found = validation.admit_secret(data)
    told = [document.problem(each) for each in found if each.severity is problems.Severity.ERROR]
    return sorted(told, key=lambda problem: (problem.line, problem.col))


def _hint(data: dict[str, Any]) -> str:
    from supervisor.api import workloads

    return "; `podvisor up` makes a pod of it" if workloads.is_workload(data) else ""
