"""The command `app`: its options, checked before anything is served."""

import pytest

from d2csr.cli import app


def test_another_host_demands_a_password_before_the_page_is_served(d2csr):
    answer = d2csr("app", "--host", "0.0.0.0", "--no-browser")
    assert answer.code == 2
    assert "can be reached from other machines, which needs a password" in answer.err


def test_a_model_that_does_not_exist_is_an_error(d2csr):
    answer = d2csr("app", "-n", "photo-x9", "--no-browser")
    assert answer.code == 2
    assert "photo-x9: is neither a shipped model nor a folder" in answer.err


def test_without_gradio_the_error_names_the_extra(d2csr, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    monkeypatch.delitem(__import__("sys").modules, "d2csr.web.server", raising=False)
    answer = d2csr("app", "--no-browser")
    assert answer.code == 2
    assert "pip install 'd2csr[app]'" in answer.err


@pytest.mark.parametrize("name", ["gradio", "fastapi", "uvicorn"])
def test_packages_of_the_page_belong_to_its_extra(name):
    assert name in app._EXTRAS["app"]
