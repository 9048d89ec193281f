"""A runtime that passes everything on: the base of what tests put between a node and its runtime.

The fake clock and the faults each need to see, delay or replace a few calls; all others must reach
the real runtime unchanged, whatever is added to the contract. mypy says when that is forgotten.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from supervisor.lifecycle.facts import ContainerId, Instant
from supervisor.runtime.cri import (
    AttachSession,
    ExecResult,
    ExecSession,
    Found,
    Isolation,
    LaunchSpec,
    News,
    Runtime,
)


class Between(Runtime):
    """Fulfils cri.Runtime by asking another one."""

    def __init__(self, inner: Runtime) -> None:
        self.inner = inner

    @property
    def isolation(self) -> Isolation:
        return self.inner.isolation

    async def create_sandbox(self, pod_uid: str, *, shares: bool = False) -> None:
        await self.inner.create_sandbox(pod_uid, shares=shares)

    async def adopt_sandbox(self, pod_uid: str) -> bool:
        return await self.inner.adopt_sandbox(pod_uid)

    async def remove_sandbox(self, pod_uid: str) -> None:
        await self.inner.remove_sandbox(pod_uid)

    async def remove_pod(self, namespace: str, name: str, uid: str) -> None:
        await self.inner.remove_pod(namespace, name, uid)

    async def remove_other_pods(self, known: frozenset[tuple[str, str, str]]) -> None:
        await self.inner.remove_other_pods(known)

    async def start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        return await self.inner.start(spec)

    async def adopt(self, spec: LaunchSpec) -> Found:
        return await self.inner.adopt(spec)

    async def end_strays(self, known: frozenset[ContainerId]) -> int:
        return await self.inner.end_strays(known)

    async def exec(
        self,
        id: ContainerId,
        argv: tuple[str, ...],
        *,
        timeout: float | None,
        limit: int,
        env: tuple[tuple[str, str], ...] = (),
        key: str = "",
        resume: bool = False,
    ) -> ExecResult:
        return await self.inner.exec(
            id, argv, timeout=timeout, limit=limit, env=env, key=key, resume=resume
        )

    async def open_exec(
        self,
        id: ContainerId,
        argv: tuple[str, ...],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> ExecSession:
        return await self.inner.open_exec(
            id, argv, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )

    async def open_attach(self, id: ContainerId) -> AttachSession:
        return await self.inner.open_attach(id)

    @property
    def kept_execs(self) -> frozenset[tuple[ContainerId, str]]:
        return self.inner.kept_execs

    @property
    def ended_execs(self) -> frozenset[tuple[ContainerId, str]]:
        return self.inner.ended_execs

    def forget_exec(self, id: ContainerId, key: str) -> None:
        self.inner.forget_exec(id, key)

    def signal(self, id: ContainerId, signum: int) -> bool:
        return self.inner.signal(id, signum)

    def termination_message(self, spec: LaunchSpec, policy: str, exit_code: int) -> str:
        return self.inner.termination_message(spec, policy, exit_code)

    def acknowledge(self, id: ContainerId) -> None:
        self.inner.acknowledge(id)

    def news(self) -> AsyncIterator[News]:
        return self.inner.news()
