"""OpenStack Swift with its S3 API, all four of its servers in this one process, on loopback.

    PYTHON swift_process.py FOLDER PORT ACCESS_KEY SECRET_KEY

PYTHON is one that has Swift. Objects are below FOLDER, which another start finds again; port 0
takes any free one. Prints the port when ready, and ends with its standard input: nobody who is
killed leaves a server running. One process imports Swift once and takes some 80 MB.

There is no memcached: what Swift would ask it for, on each request, a dictionary answers.
"""

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventlet
from eventlet import patcher, wsgi
from swift.common import utils
from swift.common.ring import RingBuilder
from swift.common.wsgi import SwiftHttpProtocol, loadapp

App = Callable[[dict[str, Any], Any], Any]
STORAGE = ("account", "container", "object")
BIND_S = 10.0

COMMON_CONF = """[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_level = ERROR
"""
SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = melbank
"""
STORAGE_CONF = """
[app:main]
use = egg:swift#{kind}
"""
PROXY_CONF = """
[pipeline:main]
# Swift adds what it always needs: catch_errors, gatekeeper, listing_formats, copy ...
pipeline = s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# A busy process answers itself late: that is no reason to do without its one disk for a minute.
conn_timeout = 10
error_suppression_limit = 1000000
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {secret} .admin .reseller_admin
[filter:slo]
use = egg:swift#slo
"""


class Memory:
    """Part of memcached that Swift uses here, in a dictionary; entries expire."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, **_: Any) -> Any:
        """The value, or None."""
        value, ends_s = self.entries.get(key, (None, 0.0))
        return value if ends_s > time.time() else None

    def set(self, key: str, value: Any, **options: Any) -> None:
        """Keeps a value for `time` seconds."""
        self.entries[key] = (value, time.time() + options["time"])

    def delete(self, key: str, **_: Any) -> None:
        """Forgets a value."""
        self.entries.pop(key, None)


def with_memory(app: App) -> App:
    """The app, whose requests share one `Memory`."""
    memory = Memory()

    def answer(env: dict[str, Any], start_response: Any) -> Any:
        env["swift.cache"] = memory
        return app(env, start_response)

    return answer


def main(folder: str, port: str, access_key: str, secret_key: str) -> None:
    """Serves until standard input ends."""
    utils.monkey_patch()
    conf = Path(folder) / "conf"
    (conf / "devices" / "d1").mkdir(parents=True, exist_ok=True)
    end_with_standard_input()
    os.environ["TZ"] = "UTC+0"  # Swift reads the times of its own answers as UTC
    time.tzset()
    write_configs(conf, user=access_key.replace(":", "_"), secret=secret_key)
    utils.set_swift_dir(str(conf))
    sockets = {kind: listen() for kind in STORAGE}
    sockets["proxy"] = listen(int(port))
    for kind in STORAGE:
        write_ring(conf, kind, sockets[kind].getsockname()[1])
    apps = {kind: loadapp(str(conf / f"{kind}.conf"), {"log_name": kind}) for kind in sockets}
    print(sockets["proxy"].getsockname()[1], flush=True)
    for kind in STORAGE:
        eventlet.spawn(serve, sockets[kind], apps[kind])
    serve(sockets["proxy"], with_memory(apps["proxy"]))


def serve(listening: Any, app: App) -> None:
    """One of the four, in green threads."""
    wsgi.server(
        listening,
        app,
        utils.NullLogger(),
        protocol=SwiftHttpProtocol,
        capitalize_response_headers=False,  # clients of S3 want `ETag`, not `Etag`
        max_size=1024,
    )


def listen(port: int = 0) -> Any:
    """A socket; a given port's last owner, just killed, may hold it a moment longer."""
    ends = time.time() + BIND_S
    while True:
        try:
            listening = eventlet.listen(("127.0.0.1", port))
        except OSError:
            if time.time() > ends:
                raise
            time.sleep(0.05)
        else:
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or 40 ms an answer
            return listening


def write_ring(conf: Path, kind: str, port: int) -> None:
    """One device, one copy of everything: what Swift looks up to find an object's place."""
    builder = RingBuilder(4, 1, 0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port}
    builder.add_dev({**place, "device": "d1", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(str(conf / f"{kind}.ring.gz"))


def write_configs(conf: Path, **values: str) -> None:
    """The config file of each server."""
    (conf / "swift.conf").write_text(SWIFT_CONF)
    common = COMMON_CONF.format(folder=conf)
    for kind in STORAGE:
        (conf / f"{kind}.conf").write_text(common + STORAGE_CONF.format(kind=kind))
    (conf / "proxy.conf").write_text(common + PROXY_CONF.format(**values))


def end_with_standard_input() -> None:
    """Ends this process when the process that started it has gone, however that came about."""
    threading, system = patcher.original("threading"), patcher.original("os")

    def watch() -> None:
        while system.read(0, 1):
            pass
        system._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
