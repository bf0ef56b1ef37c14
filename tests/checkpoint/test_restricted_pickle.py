"""A pickle is read as data: what is not weights is refused, and nothing is ever run."""

import ast
import collections
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2csr.checkpoint import restricted_pickle
from d2csr.checkpoint.restricted_pickle import PickledArray, load_restricted
from d2csr.core.errors import CheckpointError

WEIGHTS = collections.OrderedDict(
    a=np.arange(24, dtype=np.float32).reshape(2, 3, 4), b=np.ones((1, 3, 1, 1), dtype=np.float64)
)


@pytest.fixture
def read(tmp_path):
    """Return a function that writes bytes to a file and reads them as a checkpoint."""

    def write_and_read(contents):
        path = tmp_path / "checkpoint.pkl"
        path.write_bytes(contents)
        return load_restricted(path)

    return write_and_read


def refused(read, value, *, match="not a readable checkpoint", protocol=4):
    contents = value if isinstance(value, bytes) else pickle.dumps(value, protocol=protocol)
    with pytest.raises(CheckpointError, match=match):
        read(contents)


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_come_back_as_pickle_wrote_them(read, protocol):
    found = read(pickle.dumps({"state": WEIGHTS, "psnr": 29.5}, protocol=protocol))
    assert list(found) == ["state", "psnr"]
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(found["state"][name].to_float32(), array)
        assert found["state"][name].to_float32().dtype == np.float32


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_float_and_layout_is_read(read, kind, order):
    array = np.arange(12).reshape(3, 4).astype(kind, order=order)
    np.testing.assert_array_equal(read(pickle.dumps(array, protocol=4)).to_float32(), array)


def test_the_function_s_old_path_is_read_as_well_as_the_new_one(read):
    old = pickle.dumps(WEIGHTS["a"], protocol=3).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in old
    np.testing.assert_array_equal(read(old).to_float32(), WEIGHTS["a"])


class Attack:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_runs_nothing(read, tmp_path, protocol):
    trap = tmp_path / "trap"
    attack = Attack(os.system, (f"touch {trap}",))
    refused(read, {"state_dict_D": attack, "state_dict_C": {}}, protocol=protocol)
    assert not trap.exists()


@pytest.mark.parametrize(
    "call",
    [
        (eval, ("1",)),
        (getattr, ("", "join")),
        (np.load, ("x.npy",)),
        (np.ndarray, ((10**12,),)),
        (np.dtype, ("O",)),
        (np.dtype, ("f4", False, True, 1)[:1]),
        (collections.OrderedDict, ([("a", 1)],)),
        (collections.defaultdict, ()),
        (bytearray, (10**12,)),
        (np._core.multiarray._reconstruct, (np.ndarray, (10**12,), b"b")),
        (np._core.multiarray._reconstruct, (np.matrix, (0,), b"b")),
        (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"O")),
    ],
    ids=lambda call: getattr(call[0], "__name__", "call"),
)
def test_calls_that_make_no_weights_are_refused(read, call):
    refused(read, Attack(*call))


@pytest.mark.parametrize(
    "state",
    [
        (1, (10**12,), np.dtype("f4"), False, b"1234"),
        (1, (-1,), np.dtype("f4"), False, b"1234"),
        (1, (0,), np.dtype("f4"), False, b""),
        (1, (1,), np.dtype("f4"), False, [1]),
        (1, (1,), np.dtype("O"), False, b"12345678"),
        (1, (1,), np.dtype("i4"), False, b"1234"),
        (1, (1,), np.dtype([("x", "f4")]), False, b"1234"),
        (1, (1.0,), np.dtype("f4"), False, b"1234"),
        (1, (True,), np.dtype("f4"), False, b"1234"),
        (1, (1, 1, 1, 1, 1), np.dtype("f4"), False, b"1234"),
        (1, [1], np.dtype("f4"), False, b"1234"),
        (0, (1,), np.dtype("f4"), False, b"1234"),
        ((1,), np.dtype("f4"), False, b"1234"),
        {"__class__": 1},
        None,
        (None, {"shape": (1,)}),
    ],
)
def test_arrays_with_an_odd_state_are_refused(read, state):
    empty = (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"))
    refused(read, Attack(*empty, state) if state is not None else Attack(*empty, (None,)))


def test_object_arrays_are_refused(read):
    refused(read, np.array([os.system, print], dtype=object))


def test_a_dictionary_with_attributes_is_refused(read):
    filled = collections.OrderedDict(WEIGHTS)
    filled.metadata = {"version": 1}
    refused(read, filled)


def test_an_array_or_kind_filled_twice_is_refused(read):
    program = pickle.dumps(WEIGHTS["a"], protocol=4)
    build = program.rindex(b"b.")
    fill = program[program.index(b"(K\x01") : build]
    refused(read, program[:-1] + fill + b"b.")


@pytest.mark.parametrize("value", [{1: 2.0}, {("a", "b"): 1}, [1], {1, 2}, {"a": [1]}, 1 + 2j])
def test_structures_that_no_checkpoint_has_are_refused(read, value):
    refused(read, value)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\x80",
        b"\x80\x04",
        b".",
        b"\x80\x04.",
        b"\x80\x04N",
        b"\x80\x04NN.",
        b"\x80\x04(N.",
        b"\x80\x04\x85.",
        b"\x80\x04t.",
        b"\x80\x04Nb.",
        b"\x80\x04R.",
        b"\x80\x04h\x05.",
        b"\x80\x04\x94.",
        b"\x80\x04(}u.",
        b"\x80\x04}(Nu.",
        b"\x80\x04}(NNNu.",
        b"\x80\x04\x8c\x01a\x93.",
        b"\x80\x04\x8c\x01a\x8c\x01b\x93.",
        b"\x80\x04NN\x93.",
        b"\x80\x04cos\nsystem\n.",
        b"\x80\x04B\xff\xff\xff\xffab.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"not a pickle at all",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
    ],
)
def test_broken_programs_are_refused(read, program):
    refused(read, program)


def test_a_name_that_comes_twice_is_refused(read):
    refused(read, b"\x80\x04}(\x8c\x01aN\x8c\x01aNu.")


@pytest.mark.parametrize("end", [b"}h\x3cNs.", b"h\x3ch\x3c\x93.", b"h\x3cNR.", b"h\x3cN\x86b."])
def test_tuples_nested_over_themselves_cost_nothing(read, end):
    """Such a one holds 2^60 values: to hash, print or compare it would never end."""
    program = b"\x80\x04N\x85\x94"
    for index in range(60):
        program += b"h" + bytes([index]) + b"h" + bytes([index]) + b"\x86\x94"
    refused(read, program + end)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(read, keep):
    whole = pickle.dumps({"a": WEIGHTS}, protocol=4)
    refused(read, whole[: int(keep * len(whole))])


@given(place=st.floats(0, 1, exclude_max=True), bytes_there=st.binary(min_size=1, max_size=6))
@settings(max_examples=200)
def test_any_damage_is_refused_or_still_plain_data(tmp_path_factory, place, bytes_there):
    whole = bytearray(pickle.dumps({"a": WEIGHTS}, protocol=4))
    start = int(place * len(whole))
    whole[start : start + len(bytes_there)] = bytes_there
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(whole)
    try:
        found = load_restricted(path)
    except CheckpointError:
        return
    assert plain(found)


# Reads 2,000 mutated pickles under an audit hook, and prints what it saw but the files opened.
AUDITED = """
import codecs, random, sys
from pathlib import Path
from d2csr.checkpoint.restricted_pickle import load_restricted
from d2csr.core.errors import CheckpointError
path, whole, generator = Path(sys.argv[1]), sys.stdin.buffer.read(), random.Random(0)
seen, on = [], False
sys.addaudithook(lambda event, arguments: on and event != "open" and seen.append(event))
codecs.lookup("raw_unicode_escape")
outcomes = set()
for _ in range(2000):
    mutated = bytearray(whole)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(mutated))
        match generator.randrange(4):
            case 0: mutated[at] = generator.randrange(256)
            case 1: del mutated[at : at + generator.randint(1, 8)]
            case 2: mutated[at:at] = generator.randbytes(generator.randint(1, 8))
            case 3: mutated[at:at] = generator.choice((b"Vx\\n", b"cos\\nsystem\\n", b"R", b"b"))
    path.write_bytes(mutated)
    on = True
    try:
        load_restricted(path)
        outcomes.add("read")
    except CheckpointError:
        outcomes.add("refused")
    on = False
print(sorted(outcomes), seen)
"""


def test_mutated_pickles_import_and_run_nothing(tmp_path):
    """Python loads its codec of text in pickles at the first use; the script does so before."""
    whole = pickle.dumps({"state": WEIGHTS, "psnr": 29.5}, protocol=4)
    answer = subprocess.run(
        [sys.executable, "-c", AUDITED, tmp_path / "mutated.pkl"], input=whole, capture_output=True
    )
    assert answer.stdout.decode().strip() == "['read', 'refused'] []", answer.stderr.decode()


def plain(value):
    if isinstance(value, dict):
        return all(isinstance(name, str) and plain(one) for name, one in value.items())
    if isinstance(value, tuple):
        return all(map(plain, value))
    return isinstance(
        value,
        str
        | bytes
        | int
        | float
        | None
        | PickledArray
        | restricted_pickle.PickledDtype
        | restricted_pickle.Name,
    )


def test_files_too_large_for_weights_are_refused_unread(read, monkeypatch):
    monkeypatch.setattr(restricted_pickle, "MAX_BYTES", 10)
    refused(read, b"x" * 11, match="has more than 10 bytes")


def test_endless_programs_are_refused(read, monkeypatch):
    monkeypatch.setattr(restricted_pickle, "_MAX_OPCODES", 100)
    refused(read, b"\x80\x04" + b"N" * 200 + b".", match="more than 100 opcodes")


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.pkl", tmp_path):
        with pytest.raises(CheckpointError, match="can't be read"):
            load_restricted(path)


def test_no_file_of_the_package_can_load_a_pickle():
    loaders = {"pickle", "_pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    for file in Path(restricted_pickle.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [getattr(alias, "name", alias) for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None))
            assert not loaders & set(names), file
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in map(ast.unparse, node.keywords), file
