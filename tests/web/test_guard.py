"""The guard: requests of other sites, other names, other routes and other people are refused."""

import base64

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from d2csr.core.errors import UsageError
from d2csr.web.guard import Access, Guard


async def answer(request):
    return PlainTextResponse(f"{len(await request.body())} bytes")


LOOPBACK = Access()


def client(access: Access = LOOPBACK, *, url: str = "http://127.0.0.1:7860") -> TestClient:
    """Return a client of an application behind the guard that answers every path."""
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    return TestClient(Guard(app, access), base_url=url)


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:9000", "[::1]:7860", "LOCALHOST"])
def test_the_page_is_served_under_the_names_of_this_machine(host):
    assert client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:7860", "127.0.0.1.evil.example", "", "[", "@"])
def test_a_name_that_points_to_this_machine_is_refused(host):
    """DNS rebinding: a page of evil.example asks evil.example, which is 127.0.0.1 by now."""
    assert client().get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_requests_of_other_pages_are_refused(origin):
    refused = client().post("/gradio_api/queue/join", json={}, headers={"Origin": origin})
    assert refused.status_code == 403


def test_requests_of_the_page_itself_pass():
    headers = {"Origin": "http://127.0.0.1:7860"}
    assert client().post("/gradio_api/queue/join", json={}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=http://evil.example",
        "/gradio_api/run/other",
        "/gradio_api/component_server",
        "/gradio_api/vibe-code",
        "/monitoring",
        "/docs",
        "/page/../server.py",
        "/assets/..%2f..%2fsecret",
    ],
)
def test_routes_that_the_page_does_not_use_are_closed(path):
    assert client().get(path).status_code == 404


def test_what_is_too_large_is_refused_before_it_is_read():
    small = client(Access(upload_bytes=100))
    assert small.post("/gradio_api/upload", content=b"a" * 100).text == "100 bytes"
    assert small.post("/gradio_api/upload", content=b"a" * 101).status_code == 413
    assert small.post("/gradio_api/queue/join", content=b"a" * (1 << 20 | 1)).status_code == 413
    assert small.post("/gradio_api/upload", content=iter([b"a"])).status_code == 411


def test_a_password_is_asked_for_and_compared():
    protected = client(Access("0.0.0.0", "geheim: ü"), url="http://camera.example")
    refused = protected.get("/")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    for header in (basic("geheim"), {"Authorization": "Basic ?"}, {"Authorization": "Bearer x"}):
        assert protected.get("/", headers=header).status_code == 401
    assert protected.get("/", headers=basic("geheim: ü")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.2", "::", "photos.example"])
def test_another_address_than_this_machines_own_demands_a_password(host):
    with pytest.raises(UsageError, match="Add --password"):
        Access(host)
    with pytest.raises(UsageError, match="is empty"):
        Access(host, "")
    assert not Access(host, "secret").is_loopback


def test_every_answer_forbids_what_comes_from_elsewhere():
    for path in ("/", "/docs"):
        policy = client().get(path).headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
