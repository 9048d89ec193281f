"""The hooks of one pod that run: kept equal to what the plan wants, a desired set.

`HookRunner.reconcile` is told after every commit which hooks should run; so when one begins, the
intent is stored. Each has one task, which has the hook run once and tells the worker how it ended.
It knows no deadline and no order: a hook that is no longer wanted is cancelled, and tells nothing
any more. One that has told how it ended is not begun again, though it may be wanted still: by a
decision that was made before that was heard, or because it was left to itself.

Programs run under the name of their hook, so that a node that comes back after a crash finds them
running, or finds what came of them, and does not run them twice. Requests and sleeps are our own
and die with us: they are run again. What fails on our side, because the launcher has died, is no
failure of the hook: it is owed as before. Nor is it one that the container has ended before us:
nothing is told then, and the news of that end closes the hook.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import anyio

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet import failpoints
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Execute, HookResult
from supervisor.lifecycle import hooks
from supervisor.lifecycle.facts import ContainerId, Fact, HookFinished, HookInterrupted, HookTarget
from supervisor.runtime.cri import ContainerGoneError, ExecInterruptedError, Runtime

HOOK_ID, HOOK_ATTEMPT = "PODVISOR_HOOK_ID", "PODVISOR_HOOK_ATTEMPT"  # for programs
_AGAIN = 0.1  # seconds after a failure on our side
ID_HEADER, ATTEMPT_HEADER = "Idempotency-Key", "Podvisor-Hook-Attempt"  # for requests


class RunHook(Protocol):
    """Runs one hook to its end (handlers.Handlers.run_hook)."""

    def __call__(
        self,
        handler: v1.LifecycleHandler,
        container: v1.Container,
        *,
        pod: str,
        host: str,
        execute: Execute,
        headers: Mapping[str, str],
    ) -> Awaitable[HookResult]: ...


class Host(Protocol):
    """What running hooks needs from the node."""

    clock: Clock
    runtime: Runtime

    @property
    def run_hook(self) -> RunHook: ...

    def report_bug(self, where: str, text: str) -> None: ...


class HookRunner:
    """Runs the hooks of one pod; `host_ip` is the pod's address."""

    def __init__(
        self,
        pod: v1.Pod,
        host_ip: str,
        host: Host,
        tell: Callable[[Fact], None],
        settled: Callable[[ContainerId], None],
    ) -> None:
        self._pod = pod
        self._host_ip = host_ip
        self._host = host
        self._tell = tell
        self._settled = settled  # no program of this instance is waited for any more
        self._running: dict[HookTarget, anyio.CancelScope] = {}
        self._answered: set[HookTarget] = set()  # a plan may be on its way that knows no better
        self._expected: frozenset[HookTarget] = frozenset()  # run already, not waited for yet
        self._resumed: frozenset[HookTarget] = frozenset()  # begun by an earlier life of the node

    def is_unsettled(self, id: ContainerId) -> bool:
        """Whether the answer of a program in this instance is on its way, if it has ended."""
        targets = (*self._running, *self._expected)
        return any(target.id == id and self._is_program(target) for target in targets)

    def expect(self, targets: Iterable[HookTarget]) -> None:
        """Programs that an earlier life of the node has begun: the next plan decides about them."""
        self._expected = frozenset(targets)
        self._resumed |= self._expected

    async def collect(self, target: HookTarget) -> Fact | None:
        """What came of a program that an earlier life of the node has begun, and that has ended."""
        self._resumed |= {target}
        return await self._finish(target)

    def heard(self, answer: HookFinished | HookInterrupted) -> None:
        """What this hook has told is committed."""
        id, which = answer.id, answer.which
        self._answered = {t for t in self._answered if (t.id, t.which) != (id, which)}

    def reconcile(self, wanted: Iterable[HookTarget], start_soon: Callable[..., object]) -> None:
        """Make what runs equal to `wanted`; new tasks are started with `start_soon`."""
        wanted = set(wanted)
        for target, scope in self._running.items():
            if target not in wanted:
                scope.cancel()
        for target in wanted - self._running.keys() - self._answered:
            scope = self._running[target] = anyio.CancelScope()
            start_soon(self._run, target, scope)
        expected, self._expected = self._expected, frozenset()
        for target in expected - wanted:
            self._host.runtime.forget_exec(target.id, str(target.which))
            self._settled(target.id)

    async def _run(self, target: HookTarget, scope: anyio.CancelScope) -> None:
        fact: HookFinished | HookInterrupted | None = None
        cancelled = True
        try:
            with scope:
                failpoints.hit("during-hook", (target.which,))
                fact = await self._finish(target)
                cancelled = False
        finally:
            del self._running[target]
        if fact is not None:
            self._answered.add(target)
            self._tell(fact)
        if cancelled and scope.cancel_called:
            # Nobody wants to know what came of it.
            self._host.runtime.forget_exec(target.id, str(target.which))
        if not self.is_unsettled(target.id):
            self._settled(target.id)

    async def _finish(self, target: HookTarget) -> HookFinished | HookInterrupted | None:
        id, which = target.id, target.which
        container = self._container(id.name)
        handler = hooks.handler_of(container, which)
        assert handler is not None, f"{target} names no hook"
        meta = self._pod.metadata
        name, run = f"{id}/{which}", str(target.run)
        execute = functools.partial(
            self._host.runtime.exec,
            id,
            env=((HOOK_ID, name), (HOOK_ATTEMPT, run)),
            key=str(which),
            resume=target in self._resumed,
        )
        try:
            result = await self._host.run_hook(
                handler,
                container,
                pod=f"{meta.name}_{meta.namespace}({meta.uid})",
                host=self._host_ip,
                execute=execute,
                headers={ID_HEADER: name, ATTEMPT_HEADER: run},
            )
        except ContainerGoneError:
            return None
        except (NodeError, ExecInterruptedError):
            # The launcher has died. Others say so too; what they say decides how this goes on.
            await self._host.clock.sleep(_AGAIN)
            return HookInterrupted(at=self._host.clock.now(), id=id, which=which)
        except Exception as error:
            self._host.report_bug(f"{which} hook of {id}", traceback.format_exc())
            result = HookResult(False, f"a bug of podvisor's own: {error!r}")
        return HookFinished(
            at=self._host.clock.now(),
            id=id,
            which=which,
            ok=result.ok,
            message=result.message,
            output=result.output,
            fallback=result.fallback,
        )

    def _is_program(self, target: HookTarget) -> bool:
        handler = hooks.handler_of(self._container(target.id.name), target.which)
        return handler is not None and handler.exec is not None

    def _container(self, name: str) -> v1.Container:
        spec = self._pod.spec
        return next(c for c in v1.containers(spec) if c.name == name)
