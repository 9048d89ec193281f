"""Deleting objects and waiting for their end, as `podvisor delete` and `podvisor down` do it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from supervisor.client import Client, Json, Kind
from supervisor.errors import PodTimeout, StatusError


class Target(NamedTuple):
    kind: Kind
    namespace: str
    name: str
    uid: str = ""  # whose end is waited for; empty: that of whichever has the name then

    @property
    def shown(self) -> str:
        group = f".{self.kind.group}" if self.kind.group else ""
        return f'{self.kind.singular}{group} "{self.name}"'


def target(kind: Kind, object: Json) -> Target:
    meta = object["metadata"]
    return Target(kind, meta.get("namespace", ""), meta["name"], meta.get("uid", ""))


def remove(
    client: Client,
    targets: Iterable[Target],
    *,
    grace: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    ignore_missing: bool = False,
    wait: bool = True,
    timeout: float | None = None,
    propagation: str = "Background",
    names_only: bool = False,
) -> list[StatusError]:
    """Delete them all, then wait until all are gone; what was refused is returned.

    Raises PodTimeout where they are not gone in time.
    """
    going: list[Target] = []
    refused: list[StatusError] = []
    how = "force deleted" if force else "deleted"
    for each in dict.fromkeys(targets):
        try:
            answer = client.delete(
                each.kind,
                each.namespace,
                each.name,
                grace=grace,
                propagation=propagation,
                dry_run=dry_run,
            )
        except StatusError as error:
            if error.reason != "NotFound" or not ignore_missing:
                refused.append(error)
            continue
        if names_only:
            print(each.kind.named(each.name), flush=True)
        else:
            print(f"{each.shown} {how}{' (server dry run)' if dry_run else ''}", flush=True)
        # Of a Pod the answer is the pod, of other kinds a Status.
        meta = answer["metadata"] if answer.get("kind") == each.kind.kind else {}
        uid = meta.get("uid") or answer.get("details", {}).get("uid", "")
        going.append(each._replace(uid=uid or each.uid))
    if wait and not dry_run:
        end = None if timeout is None else time.monotonic() + timeout
        for each in going:
            await_end(client, each, end)
    return refused


def await_end(client: Client, each: Target, end: float | None = None) -> None:
    """Until an object is gone, or there is another one of its name. `end` is of the monotonic
    clock. Raises PodTimeout."""
    left = None if end is None else end - time.monotonic()
    for object in client.states(each.kind, each.namespace, each.name, timeout=left):
        if object is None or (each.uid and object["metadata"]["uid"] != each.uid):
            return
    raise PodTimeout(f"timed out waiting for the condition on {each.kind.plural}/{each.name}")
