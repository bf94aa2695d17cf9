"""nginx on loopback: files of a folder by ranges, quick, with a delay by its Lua module.

    with NginxServer(folder, work) as server:
        url = server.url("late")  # each answer comes 30 ms later; "now": at once
        url = server.url("line")  # the same over one line of 125 MB/s, which answers share by turns
        url = server.url("late", "https")  # with a certificate that `server.environment` has

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
LINE_BYTES_S = 125e6
START_S = 10.0
CERTIFICATE, KEY = "certificate.pem", "key.pem"
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
  init_by_lua_block {{ line = {{ free_s = 0 }} }}
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {work}/certificate.pem;
    ssl_certificate_key {work}/key.pem;
    location /now/ {{ alias {folder}/; }}
    location /late/ {{ access_by_lua_block {{ ngx.sleep({delay_s}) }} alias {folder}/; }}
    location /line/ {{
      access_by_lua_block {{
        ngx.sleep({delay_s})
        if ngx.req.get_method() == "GET" then return ngx.exec("/-" .. ngx.var.uri) end
      }}
      alias {folder}/;
    }}
    location /-/line/ {{ internal; content_by_lua_file {work}/line.lua; }}
  }}
}}
"""
# Blocks of all answers take turns on the line; `line` is shared, as there is one worker.
LINE = """
local file = io.open("{folder}/" .. ngx.var.uri:sub(9), "rb")
if not file then return ngx.exit(404) end
local size = file:seek("end")
local begin, last = 0, size - 1
local from, to = (ngx.var.http_range or ""):match("^bytes=(%d*)-(%d*)$")
if from == "" then begin = math.max(0, size - tonumber(to))
elseif from then begin, last = tonumber(from), math.min(tonumber(to) or last, last) end
if from then
  if begin > last then file:close() return ngx.exit(416) end
  ngx.status = 206
  ngx.header["Content-Range"] = string.format("bytes %d-%d/%d", begin, last, size)
end
ngx.header["Content-Length"] = last - begin + 1
ngx.header["Last-Modified"] = "Sun, 01 Jan 2023 00:00:00 GMT"
file:seek("set", begin)
local left = last - begin + 1
while left > 0 do
  local block = file:read(math.min(65536, left))
  left = left - #block
  ngx.update_time()
  local now_s = ngx.now()
  -- timers are late: up to 20 ms of the line are made up for
  line.free_s = math.max(now_s - 0.02, line.free_s) + #block / {line_bytes_s}
  if line.free_s - now_s >= 0.001 then ngx.sleep(line.free_s - now_s) end
  ngx.print(block)
  if not ngx.flush(true) then break end
end
file:close()
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
        self._ports = {"http": 0, "https": 0}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, place: str, scheme: str = "http") -> str:
        """URL of the folder: `now` answers at once, `late` after `DELAY_S`, `line` like a line."""
        return f"{scheme}://127.0.0.1:{self._ports[scheme]}/{place}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which Python, obstore and curl accept the certificate, which is new."""
        return dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(self._work / CERTIFICATE))

    def __enter__(self) -> Self:
        with closing(socket.socket()) as free, closing(socket.socket()) as other:
            for scheme, one in (("http", free), ("https", other)):
                one.bind(("127.0.0.1", 0))
                self._ports[scheme] = one.getsockname()[1]
        self._work.mkdir(parents=True, exist_ok=True)
        _make_certificate(self._work)
        script = LINE.format(folder=self._folder, line_bytes_s=LINE_BYTES_S)
        (self._work / "line.lua").write_text(script, encoding="utf-8")
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
            return asking.connect_ex(("127.0.0.1", self._ports["http"])) == 0

    def _config(self) -> str:
        return CONFIG.format(
            modules="\n".join(f"load_module {MODULES / name};" for name in NEEDED),
            user="user root;"
            if os.getuid() == 0
            else "",  # else nobody, who cannot read the folder
            work=self._work,
            folder=self._folder,
            port=self._ports["http"],
            tls_port=self._ports["https"],
            delay_s=DELAY_S,
        )


def _make_certificate(folder: Path) -> None:
    """Makes a certificate for 127.0.0.1, signed by itself, and its key."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", str(folder / KEY)]
    command += ["-out", str(folder / CERTIFICATE), "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            [*command, "-addext", "basicConstraints=critical,CA:FALSE"],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise StoreError(f"openssl makes no certificate: {error}") from error
