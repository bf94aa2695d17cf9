"""Direct requests take plain answers alone, keep connections, and give up everything else."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from storage.objects import keep_alive
from storage.objects.client import RemoteConfig
from storage.objects.direct import direct_target
from storage.objects.keep_alive import RangeRequest, RangeServer
from storage.objects.retry import POLICY
from storage.read.requests import locate

BODY = bytes(range(256)) * 400
LENGTH = 50_000
PLAIN = (
    "HTTP/1.1 206 Partial Content\r\nContent-Length: {n}\r\nContent-Range: bytes {b}-{e}/102400\r\n"
)


@dataclass
class Server:
    """Answers each GET of a range with `head` and what `body` makes of the range."""

    head: str = PLAIN
    body: Callable[[bytes], bytes] = bytes
    pieces: int = 1
    num_connections: int = 0
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while request := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.asked.append(request)
                begin, _, end = request.partition("bytes=")[2].partition("\r\n")[0].partition("-")
                cut = BODY[int(begin) : int(end) + 1]
                head = self.head.format(n=len(cut), b=begin, e=end)
                answer = f"{head}\r\n".encode() + self.body(cut)
                step = -(-len(answer) // self.pieces)
                for start in range(0, len(answer), step):
                    writer.write(answer[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(0.001)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


Work = Callable[[RangeServer], Awaitable[Any]]


def run(server: Server, work: Work, tls: ssl.SSLContext | None = None) -> Any:
    """Runs work with the connections to a server; all are closed afterwards."""

    async def main() -> Any:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
        port = listening.sockets[0].getsockname()[1]
        scheme = "http" if tls is None else "https"
        connections = RangeServer(scheme, "127.0.0.1", port, 2.0)
        try:
            return await work(connections)
        finally:
            connections.close()
            listening.close()
            await asyncio.sleep(0.02)

    return asyncio.run(main())


async def ask(connections: RangeServer, begin: int = 7, length: int = LENGTH) -> bytes | None:
    """Asks for a range; None where no plain answer comes."""
    answer: asyncio.Future[memoryview | None] = connections.loop.create_future()
    connections.ask(
        RangeRequest(target="/a.tar", begin=begin, end=begin + length, answer=answer.set_result)
    )
    body = await asyncio.wait_for(answer, 5)
    return None if body is None else bytes(body)


@pytest.mark.parametrize("pieces", [1, 3, 500])
def test_plain_answers_come_over_one_connection(pieces: int) -> None:
    server = Server(pieces=pieces)

    async def work(connections: RangeServer) -> None:
        for begin in (0, 7, 3000):
            assert await ask(connections, begin) == BODY[begin : begin + LENGTH]

    run(server, work)
    assert server.num_connections == 1
    assert "Accept-Encoding: identity" in server.asked[0]


def test_a_server_may_end_a_connection_with_its_answer() -> None:
    server = Server(head=PLAIN + "Connection: close\r\n")

    async def work(connections: RangeServer) -> list[bytes | None]:
        return [await ask(connections, begin, 99) for begin in (0, 7)]

    assert run(server, work) == [BODY[:99], BODY[7:106]]
    assert server.num_connections == 2


def test_many_at_once_have_a_connection_each() -> None:
    server = Server()

    async def work(connections: RangeServer) -> list[bytes | None]:
        return list(await asyncio.gather(*(ask(connections, n, 99) for n in range(20))))

    assert run(server, work) == [BODY[n : n + 99] for n in range(20)]
    assert server.num_connections == 20


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param("HTTP/1.1 500 Oh\r\nContent-Length: {n}\r\n", bytes, id="500"),
        pytest.param("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n", bytes, id="the whole object"),
        pytest.param(
            "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: {n}\r\n", bytes, id="302"
        ),
        pytest.param(PLAIN + "Content-Encoding: gzip\r\n", bytes, id="packed"),
        pytest.param(PLAIN + "X: " + "x" * 5000 + "\r\n", bytes, id="an endless head"),
        pytest.param(PLAIN.replace("{b}", "0"), bytes, id="another range"),
        pytest.param(PLAIN.replace("{n}", "5"), bytes, id="another length"),
        pytest.param(PLAIN, lambda body: body + b"more", id="too much"),
        pytest.param("no HTTP\r\n", bytes, id="no HTTP"),
    ],
)
def test_other_answers_are_none(head: str, body: Callable[[bytes], bytes]) -> None:
    server = Server(head=head, body=body)

    async def work(connections: RangeServer) -> None:
        assert await ask(connections) is None
        server.head, server.body = PLAIN, bytes
        assert await ask(connections) == BODY[7 : 7 + LENGTH]

    run(server, work)
    assert server.num_connections == 2  # the first was closed


def test_nothing_that_listens_is_none() -> None:
    async def work(connections: RangeServer) -> None:
        assert await ask(RangeServer("http", "127.0.0.1", 9, 1.0)) is None
        assert await ask(RangeServer("https", *connections._address, 1.0)) is None  # no TLS there

    run(Server(), work)


def test_after_failures_in_a_row_a_server_is_left_alone_for_a_while() -> None:
    async def work(connections: RangeServer) -> None:
        for _ in range(POLICY.direct_failures):
            assert connections.is_suited
            connections.note(is_answered=True)
            connections.note(is_answered=False)
        for _ in range(POLICY.direct_failures - 1):
            connections.note(is_answered=False)
        assert not connections.is_suited

    run(Server(), work)


def test_what_is_called_off_answers_nothing() -> None:
    server = Server(pieces=500)

    async def work(connections: RangeServer) -> None:
        got: list[memoryview | None] = []
        for wait_s in (0.0, 0.05):
            request = RangeRequest(target="/a", begin=0, end=LENGTH, answer=got.append)
            connections.ask(request)
            await asyncio.sleep(wait_s)
            request.call_off()
        await asyncio.sleep(0.05)
        assert got == []
        assert await ask(connections, 0, 10) == BODY[:10]

    run(server, work)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_encrypted_answers_come_where_the_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*words.split(), *names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = Server(pieces=3)

    async def work(connections: RangeServer) -> list[bytes | None]:
        return [await ask(connections, begin) for begin in (0, 7)]

    assert run(server, work, tls) == [None, None]
    trust = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(keep_alive, "_trust", lambda: trust)
    server.num_connections = 0
    assert run(server, work, tls) == [BODY[:LENGTH], BODY[7 : 7 + LENGTH]]
    assert server.num_connections == 1


def test_a_target_is_signed_for_s3_and_plain_for_the_web(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    config = RemoteConfig(endpoint_url="http://127.0.0.1:9000")

    async def path(url: str) -> str | None:
        target = await direct_target(*locate(url, config))
        return None if target is None else target.path

    signed = asyncio.run(path("s3://bucket/my%20birds/a.tar"))
    assert signed is not None
    assert signed.startswith("/bucket/my%20birds/a.tar?X-Amz-")
    assert "X-Amz-Signature=" in signed
    assert asyncio.run(path("http://host:80/my%20birds/a.tar")) == "/my%20birds/a.tar"
    assert asyncio.run(path("gs://bucket/a.tar")) is None
    assert asyncio.run(path("http://münchen.example/a.tar")) is None
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert asyncio.run(path("s3://bucket/a.tar")) is None
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert asyncio.run(path("http://host/a.tar")) is None
