"""Command `app`: a page in the browser that upscales photos on this machine.

Named by what it serves, because `cli/app.py` is the command line itself.
"""

import threading
import webbrowser
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.types import Port

from d2csr.core.console import print_line
from d2csr.images.formats import DEFAULT_LIMIT_MP
from d2csr.upscale.options import ComputeOptions, parse_bytes


def _to_bytes(_type: Any, tokens: tuple[Token, ...]) -> int:
    return parse_bytes(tokens[0].value)


@dataclass(frozen=True)
class ServerAddress:
    """The page.

    Attributes:
        host: Address to listen on; any other than this machine's own needs --password.
        port: Port to listen on; by default the first free one from 7860.
        password: Ask for this password (and any user name), also settable as D2CSR_APP_PASSWORD.
            It is sent unencrypted, so let other machines in through an SSH tunnel or a TLS proxy.
        browser: Open the page in the browser.
        upload_limit: Most bytes of the photos that are dropped together, for example 500MB.
    """

    host: str = "127.0.0.1"
    port: Port | None = None
    password: Annotated[str | None, Parameter(env_var="D2CSR_APP_PASSWORD")] = None
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True
    upload_limit: Annotated[int, Parameter(converter=_to_bytes)] = 1 << 30


@dataclass(frozen=True)
class _Compute(ComputeOptions):
    __doc__ = ComputeOptions.__doc__

    device: Annotated[str, Parameter(name=("--device", "-g"), allow_leading_hyphen=True)] = "auto"
    memory: Annotated[int | None, Parameter(converter=_to_bytes)] = None
    limit_mp: float = DEFAULT_LIMIT_MP


def app(
    *,
    name: Annotated[
        tuple[str, ...], Parameter(name=("--name", "-n"), consume_multiple=True, negative=())
    ] = (),
    address: Annotated[ServerAddress, Parameter(name="*")] = ServerAddress(),
    compute: Annotated[_Compute, Parameter(name="*")] = _Compute(),
) -> int:
    """Open a page in the browser that enlarges photographs on this machine.

    Photos are dropped or pasted, enlarged as by `d2csr upscale`, compared with the result under a
    slider, and downloaded. Nothing leaves the machine: the page loads nothing from elsewhere, and
    photos and results are removed when the tab is closed or the command ends. Ctrl-C ends it.

    Args:
        name: More models to choose from, besides the shipped ones: folders of bundles or runs.
    """
    from d2csr.core.bundle import read_bundle
    from d2csr.engine.model import find_bundle, shipped_bundles
    from d2csr.web.guard import Access
    from d2csr.web.server import ServerOptions, serve

    access = Access(address.host, address.password, address.upload_limit)
    bundles = [*(read_bundle(find_bundle(each)) for each in name), *shipped_bundles()]

    def on_start(url: str) -> None:
        print_line(f"{url} (Ctrl-C ends it)")
        if address.browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    serve(bundles, ServerOptions(access, address.port, compute), on_start=on_start)
    print_line("ended; photos and results on the page are removed")
    return 0
