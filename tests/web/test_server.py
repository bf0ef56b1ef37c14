"""The server: its address is checked; `test_page.py` tests a running one, and its end."""

import socket

import pytest

from d2csr.core.errors import UsageError
from d2csr.upscale.options import DEFAULT_COMPUTE
from d2csr.web.guard import Access
from d2csr.web.server import ServerOptions, serve


def test_a_port_that_is_taken_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = ServerOptions(Access(), taken.getsockname()[1], DEFAULT_COMPUTE)
        with pytest.raises(UsageError, match="already in use"):
            serve([], options, on_start=print)
