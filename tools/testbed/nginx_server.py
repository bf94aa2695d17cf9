"""nginx on loopback: files of a folder by ranges, quick, with a delay by its Lua module.

    with NginxServer(folder, work) as server:
        url = server.url("late")  # each answer comes 30 ms later; "now": at once

Debian and Ubuntu: `apt-get install nginx-light libnginx-mod-http-lua`.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Self

from storage.errors import StoreError

MODULES = Path("/usr/lib/nginx/modules")
NEEDED = ("ndk_http_module.so", "ngx_http_lua_module.so")
INSTALL = "apt-get install nginx-light libnginx-mod-http-lua"
DELAY_S = 0.03
START_S = 10.0
CONFIG = """
{modules}
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log;
{user}
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  open_file_cache max=10000;
  client_body_temp_path {work}/body;
  proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi;
  scgi_temp_path {work}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /now/ {{ alias {folder}/; }}
    location /late/ {{ access_by_lua_block {{ ngx.sleep({delay_s}) }} alias {folder}/; }}
  }}
}}
"""


def nginx_problem() -> str:
    """Returns what is missing for the server, and the command that installs it; empty: nothing."""
    if shutil.which("nginx") is None or not all((MODULES / name).exists() for name in NEEDED):
        return f"nginx with its Lua module is not installed: {INSTALL}"
    return ""


class NginxServer:
    """The files below `folder`, while the context lasts; `work` takes its own files."""

    def __init__(self, folder: Path, work: Path) -> None:
        self._folder = folder.resolve()
        self._work = work.resolve()
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, place: str) -> str:
        """URL of the folder: `now` answers at once, `late` after `DELAY_S`."""
        return f"http://127.0.0.1:{self._port}/{place}"

    def __enter__(self) -> Self:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._work.mkdir(parents=True, exist_ok=True)
        config = self._work / "nginx.conf"
        config.write_text(self._config(), encoding="utf-8")
        self._process = subprocess.Popen(
            ["nginx", "-p", str(self._work), "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends:
                self.__exit__()
                raise StoreError(f"nginx does not start: {self._work / 'error.log'} says why")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _answers(self) -> bool:
        with closing(socket.socket()) as asking:
            return asking.connect_ex(("127.0.0.1", self._port)) == 0

    def _config(self) -> str:
        return CONFIG.format(
            modules="\n".join(f"load_module {MODULES / name};" for name in NEEDED),
            user="user root;"
            if os.getuid() == 0
            else "",  # else nobody, who cannot read the folder
            work=self._work,
            folder=self._folder,
            port=self._port,
            delay_s=DELAY_S,
        )
