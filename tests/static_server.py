"""An ordinary static web server on loopback: files of a folder, ranges, no listing.

with StaticServer(folder) as server:
    open_shards(f"{server.endpoint}/shards")
"""

import asyncio
import threading
from pathlib import Path
from typing import Self

from aiohttp import web


class StaticServer:
    """The files below a folder, at `endpoint`."""

    def __init__(self, folder: Path) -> None:
        application = web.Application()
        application.router.add_static("/", folder)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = "http://{}:{}".format(*self._runner.addresses[0])

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
