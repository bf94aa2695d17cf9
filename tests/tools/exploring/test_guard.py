"""Refusals of tools.explore: no token, other pages, other names, other paths, too much."""

import pytest

from tests.tools.exploring.conftest import TOKEN, Client, raw
from tools.exploring.config import ExploreConfig
from tools.exploring.server import rules_of

PATHS = (
    *("/page/../secret.js", "/page/..%2fsecret.js", "/page/%2e%2e/secret.js"),
    *("/page/..\\secret.js", "/page/%00.js", "/page/secret.js"),
    *("/page//etc/passwd", "/page/%2fetc%2fpasswd", "/../secret.js", "/page/.hidden", "/page/x.py"),
    *("/page/page.js/", "/page/page.js%00.js", "/page/", "/api/../page/page.js/.."),
)


@pytest.fixture
def stranger(client):
    return Client(client.port, {})


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/api/config", "/api/rows", "/api/none"])
def test_without_the_token_nothing_is_answered(stranger, path):
    assert stranger.get(path).status == 401
    assert stranger.get(path, {"Authorization": "Bearer wrong"}).status == 401
    assert stranger.get(path, {"Cookie": f"melbank_{stranger.port}=wrong"}).status == 401
    assert stranger.get(path, {"Cookie": f"melbank_1={TOKEN}"}).status == 401
    assert stranger.post("/api/reviews", {}).status == 401


def test_the_link_gives_a_cookie_which_opens_everything(stranger):
    answer = stranger.get("/", token=TOKEN, sort="-loss")
    assert (answer.status, answer.headers["location"]) == (303, "/?sort=-loss")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    with_cookie = {"Cookie": f"other=1; {cookie.partition(';')[0]}"}
    assert b"<title>page" in stranger.get("/", with_cookie).body
    assert stranger.get("/api/config", with_cookie).status == 200
    assert stranger.get("/", token=TOKEN[:-1]).status == 401
    assert stranger.get("/api/config", token=TOKEN).status == 401  # in the link only


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8765"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
    ],
    ids=str,
)
def test_other_pages_and_names_are_refused(client, headers, status):
    assert client.get("/api/config", headers).status == status


def test_its_own_page_is_answered(client):
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec_Fetch_Site": "same-origin"}
    assert client.get("/api/config", own).status == 200


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_page(client, path):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    answer = raw(client.port, request.encode())
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 307", b"HTTP/1.1 400"))
    assert b"root:" not in answer
    assert not answer.endswith(b"no")


def test_files_of_the_page_have_their_types(client):
    answer = client.get("/page/page.js")
    assert (answer.status, answer.body) == (200, b"0;")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_what_is_too_large_is_refused(client):
    assert client.post("/api/reviews", {"note": "x" * 70_000}).status == 413
    head = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    start = f"POST /api/reviews HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"4000\r\n" + b"x" * 0x4000 + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"
    assert raw(client.port, start.encode() + chunks).startswith(b"HTTP/1.1 413")
    long = f"GET /api/rows?where={'x' * 70_000} HTTP/1.1\r\n{head}\r\n"
    assert raw(client.port, long.encode()).startswith(b"HTTP/1.1 4")
    assert client.get("/api/rows", where="x" * 9_000).status == 400
    assert client.ask("POST", "/api/uploads", None, Content_Length=str(10**9)).status == 413


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"GET",
        b"GET / HTTP/9\r\n\r\n",
        b"\r\n" * 50,
        b"GET /\xff HTTP/1\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_no_request_does_no_harm(client, data):
    raw(client.port, data, ends=True)
    assert client.get("/api/config").status == 200


def test_methods_that_are_not_meant_are_refused(client):
    for method, path in (("DELETE", "/api/reviews"), ("PUT", "/"), ("POST", "/api/rows")):
        assert client.ask(method, path).status == 405


def test_a_token_is_made_at_random_and_names_can_be_added():
    first, second = (rules_of(ExploreConfig(names=["Lab.Example"]), 1) for _ in range(2))
    assert first.token != second.token
    assert len(first.token) >= 32
    assert {"127.0.0.1", "localhost", "::1", "lab.example"} <= first.hosts
