"""The guard of the page: which requests reach it, and the headers that keep it on this machine.

A page on the same computer is within reach of every web site that its user opens. So requests are
refused that come from another site (by `Origin`), or under a name that an attacker's DNS points to
this machine (by `Host`); of Gradio's routes only those of the page are open, none that reads files
or fetches addresses; and no script, font or image may be loaded from elsewhere.
"""

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from d2csr.core.errors import UsageError

_ROUTES = re.compile(
    r"/|/(page|results)/.+|/(assets|static)/.+|/(config|theme\.css|favicon\.ico|manifest\.json)"
    r"|/gradio_api/(info|app_id|startup-events|upload|upload_progress|run/predict|cancel|reset"
    r"|heartbeat/\w+|queue/(join|data))/?"
)
_UPLOAD = "/gradio_api/upload"
_OTHER_BODY_BYTES = 1 << 20  # of requests that upload nothing
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    # Gradio's templates are functions made from text, and its page has scripts in it.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' "
    "data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """Who may use the page, and how much they may send.

    Attributes:
        host: address that the server listens on.
        password: asked for by the browser, with any user name; None asks for none.
        upload_bytes: most bytes of the photos that are sent together.
    """

    host: str = "127.0.0.1"
    password: str | None = None
    upload_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        """Check that a page that others can reach has a password.

        Raises:
            UsageError: the address isn't that of this machine alone and there is no password.
        """
        if self.password is not None and not self.password:
            raise UsageError("--password", "is empty", "Give one, or leave the option out.")
        if not self.is_loopback and self.password is None:
            problem = "can be reached from other machines, which needs a password"
            remedy = "Add --password (or set D2CSR_APP_PASSWORD), or leave --host out."
            raise UsageError(f"--host {self.host}", problem, remedy)

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the address."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@final
class Guard:
    """ASGI middleware that refuses requests, and adds headers to all answers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Stand before an application."""
        self._app, self._access = app, access

    async def __call__(  # noqa: PLR0917 - the signature of ASGI
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page has no web sockets
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Return the answer to a request that is refused; None for others."""
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if self._access.is_loopback and _host_name(host) not in _LOOPBACK_NAMES:
            return PlainTextResponse("This page is served to this machine alone.", 403)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("Requests of other pages are refused.", 403)
        if not self._is_authorized(headers.get("authorization", "")):
            ask = {"WWW-Authenticate": 'Basic realm="d2csr", charset="UTF-8"'}
            return PlainTextResponse("A password is needed.", 401, ask)
        if ".." in path or not _ROUTES.fullmatch(path):
            return PlainTextResponse("There is no such page.", 404)
        if scope["method"] in {"GET", "HEAD"}:
            return None
        return self._size_refusal(path.rstrip("/"), headers.get("content-length"))

    def _is_authorized(self, header: str) -> bool:
        """Return whether HTTP's basic authentication gives the password, where there is one."""
        if self._access.password is None:
            return True
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
        expected = self._access.password.encode()
        return scheme.lower() == "basic" and hmac.compare_digest(given, expected)

    def _size_refusal(self, path: str, length: str | None) -> PlainTextResponse | None:
        """Return the answer to a body that is too large, before any of it is read."""
        most = self._access.upload_bytes if path == _UPLOAD else _OTHER_BODY_BYTES
        if length is None or not length.isdigit():
            return PlainTextResponse("The length of the request is missing.", 411)
        if int(length) > most:
            return PlainTextResponse(f"More than {most:,} bytes are not accepted.", 413)
        return None


def _host_name(host: str) -> str:
    """Return the name in a `Host` header, without its port; empty if it isn't one."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return wrapped
