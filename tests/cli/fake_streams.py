"""A stand-in for a node that streams: WebSockets on its unix socket, spoken by aiohttp."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web

Json = dict[str, Any]
Handler = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]

PODS = "/api/v1/namespaces/default/pods"


class FakeStreams:
    """One pod, `web`; `handler` speaks on each stream that is asked for."""

    def __init__(self, state_dir: str, pod: Json, handler: Handler) -> None:
        self.asked: list[web.Request] = []
        self.failed: list[BaseException] = []
        self._path = os.path.join(state_dir, "api.sock")
        self._pod = pod
        self._handler = handler
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()
        assert self.failed == []

    async def _run(self) -> None:
        app = web.Application()
        app.router.add_get(f"{PODS}/web", self._object)
        app.router.add_get(PODS + "/web/{what}", self._stream)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.UnixSite(runner, self._path).start()
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _object(self, request: web.Request) -> web.Response:
        return web.json_response(self._pod)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if "refused" in request.query.getall("command", []):
            status = {"kind": "Status", "reason": "BadRequest", "message": "no", "code": 400}
            return web.json_response(status, status=400)
        socket = web.WebSocketResponse(
            protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"), max_msg_size=0
        )
        await socket.prepare(request)
        try:
            await self._handler(socket, request)
        except ConnectionError:
            pass
        except asyncio.CancelledError:  # who has asked is gone
            raise
        except BaseException as error:
            self.failed.append(error)
            raise
        await socket.close()
        return socket


def status(code: int) -> bytes:
    """What the channel for it says of an exit code."""
    if code == 0:
        return b'\x03{"metadata":{},"status":"Success"}'
    causes = [{"reason": "ExitCode", "message": str(code)}]
    failure = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    return b"\x03" + json.dumps(failure | {"message": "command terminated"}).encode()
