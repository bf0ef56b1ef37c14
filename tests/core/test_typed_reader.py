"""Hostile JSON is refused with an error that names the key, within time and memory."""

import json

import pytest

from d2csr.core.errors import DataError
from d2csr.core.typed_reader import CARD_VALUES, LIST_VALUES, read_json
from tests.budget import assert_refused_within_budget

HOSTILE = {
    "brackets": "[" * 1_000_000,
    "braces": '{"a":' * 200_000,
    "closed": '{"version": 1, "pairs": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "digits": '{"version": 1, "scale": ' + "9" * 100_000 + "}",
    "lists": "[" + "[]," * 2_000_000 + "[]]",
    "keys": "{" + ",".join(f'"{index}":0' for index in range(1_100_000)) + "}",
    "long-key": '{"' + "k" * 10_000_000 + '": 1}',
    "spaces": " " * 100_000_000,
    "infinite": '{"version": 1e999}',
    "text": '"a"',
    "zeros": "\0" * 1000,
}
READERS = {
    "core.bundle": ("read_bundle", "bundle.json", "read_bundle(path.parent)"),
    "core.error_model": ("read_error_model", "a.json", "read_error_model(path)"),
    "core.manifest": ("read_manifest", "a.json", "read_manifest(path)"),
    "core.results": ("read_results", "a.json", "read_results(path)"),
    "simulate.ground_truth": ("read_truth", "a.json", "read_truth(path)"),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Return a function that returns the hostile files under a name."""
    made = {}

    def write(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("hostile")
            made[name] = [folder / case / name for case in HOSTILE]
            for path, text in zip(made[name], HOSTILE.values(), strict=True):
                path.parent.mkdir()
                path.write_text(text)
        return made[name]

    return write


@pytest.mark.timeout(120)
@pytest.mark.parametrize("module", READERS)
def test_hostile_json_is_refused_within_the_budget(hostile, module):
    function, name, call = READERS[module]
    imports = f"from d2csr.{module} import {function}"
    assert_refused_within_budget(hostile(name), imports=imports, call=call)


@pytest.mark.timeout(120)
def test_manifests_of_as_many_wrong_values_as_are_allowed_are_refused_within_the_budget(tmp_path):
    head = '{"version": 1, "scale": 2, "licence": "", "pairs": ['
    row = ",".join(f'"{name}":0' for name in ("name", "split", "lr", "hr", "lr_size", "hr_size"))
    extra = ",".join(f'"{n}":0' for n in range(LIST_VALUES - 50))
    texts = {
        "wrong": head + "[]," * (LIST_VALUES // 2 - 50) + "[]]}",
        "wrong-values": head + f"{{{row}}}," * ((LIST_VALUES - 50) // 7) + "[]]}",
        "extra": head + "]," + extra + "}",
        "extra-in-row": head + "{" + extra + "}]}",
    }
    files = [tmp_path / name for name in texts]
    for path, text in zip(files, texts.values(), strict=True):
        path.write_text(text)
    imports, call = "from d2csr.core.manifest import read_manifest", "read_manifest(path)"
    assert_refused_within_budget(files, imports=imports, call=call)


def test_the_number_of_values_is_limited(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([0] * (CARD_VALUES - 1)))
    assert len(read_json(path, list, error_type=DataError, remedy="")) == CARD_VALUES - 1
    path.write_text(json.dumps([0] * (CARD_VALUES + 1)))
    with pytest.raises(DataError, match="more than 20,000 values"):
        read_json(path, list, error_type=DataError, remedy="")
