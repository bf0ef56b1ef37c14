"""Do the tests notice a wrong sign, bound, operator or number in the parts that fail silently?

`python benchmarks/mutation.py` changes one place of a module at a time in memory, runs the tests of
the module, and lists the changes that no test noticed (survivors). `--only engine/planning` takes
one module, `--sample 40` that many changes of each, chosen by seed 0. Files are never changed.

Each change runs in a fork of a process that has the libraries loaded, so that one takes a second
instead of ten. mutmut 3.8 found no test for any function here: the shape checks of every test run
wrap its trampolines.

Results: `benchmarks/results/mutation.json`. Not every survivor is a gap: some changes give an
equivalent program (a bound that is never reached), or change speed or memory only.
"""

import argparse
import ast
import copy
import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "mutation.json"
LIMIT_S = 240  # of the tests of one change; longer counts as noticed

# Module -> arguments of pytest. Tests of shipped models are left out: they take longest.
TARGETS = {
    "engine/flat_regions": ("tests/engine/test_flat_regions.py", "-k", "not shipped"),
    "images/resize": ("tests/images", "-k", "resize"),
    "images/strength": ("tests/images/test_strength.py",),
    "metrics/brightness": ("tests/metrics/test_brightness.py",),
    "metrics/protocols": ("tests/metrics/test_protocols.py",),
    "metrics/ssim": ("tests/metrics/test_protocols.py",),
    "metrics/sparsification": ("tests/metrics/test_sparsification.py",),
    "data/sampling": ("tests/data/test_sampling.py",),
    "losses/reconstruction": ("tests/losses", "-k", "reconstruction"),
    "losses/triplet": ("tests/losses", "-k", "triplet"),
    "engine/planning": ("tests/engine/test_planning.py",),
    "engine/segments": ("tests/engine/test_streaming.py", "-k", "not shipped"),
    "images/decode": ("tests/images/test_decode_jpeg.py", "tests/images/test_reader.py"),
    "images/reader": ("tests/images", "-k", "reader and not fuzz"),
}
LIBRARIES = ("numpy", "torch", "openvino", "hypothesis", "jaxtyping", "beartype", "pytest")

OPERATORS: dict[type[ast.AST], Callable[[], Any]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all"}
NAMES |= {"all": "any", "floor": "ceil", "ceil": "floor", "amin": "amax", "sum": "mean"}


@dataclass(frozen=True)
class Mutant:
    """A changed module.

    Attributes:
        line: line of the change.
        before: the changed statement's part, as it was.
        after: the same after the change.
        source: the module.
    """

    line: int
    before: str
    after: str
    source: bytes


def main() -> None:
    """Run the changes, print those that survive, and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=TARGETS, action="append", help="one module")
    parser.add_argument("--sample", type=int, help="changes of each module at most")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    os.chdir(ROOT)
    for name in LIBRARIES:
        importlib.import_module(name)
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.only or TARGETS:
        stored[name] = measure(name, sample=options.sample)
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n")


def measure(name: str, *, sample: int | None) -> dict[str, object]:
    """Return the number of changes of a module that tests noticed, and the unnoticed changes."""
    path = ROOT / "src" / "d2csr" / f"{name}.py"
    mutants, begun = list(find_mutants(path.read_text())), time.monotonic()
    chosen = mutants
    if sample is not None and sample < len(mutants):
        chosen = sorted(random.Random(0).sample(mutants, sample), key=lambda each: each.line)
    arguments = TARGETS[name]
    if not is_green(path, path.read_bytes(), arguments=arguments):
        raise SystemExit(f"{name}: its tests fail without any change")
    survivors = [each for each in chosen if is_green(path, each.source, arguments=arguments)]
    for each in survivors:
        print(f"{name}.py:{each.line}: {each.before}  ->  {each.after}", flush=True)
    print(f"{name}: {len(chosen) - len(survivors)} of {len(chosen)} noticed", flush=True)
    return {
        "changes": len(mutants),
        "tried": len(chosen),
        "noticed": len(chosen) - len(survivors),
        "survivors": [[each.line, each.before, each.after] for each in survivors],
        "seconds": round(time.monotonic() - begun),
        "date": datetime.now(UTC).date().isoformat(),
    }


def find_mutants(source: str) -> Iterator[Mutant]:
    """Yield the module with one place changed, for every place outside of types and messages."""
    tree = ast.parse(source)
    for index, node in enumerate(_code(tree)):
        if not _mutate(copy.deepcopy(node)):
            continue
        changed = copy.deepcopy(tree)
        target = list(_code(changed))[index]
        before = ast.unparse(target)
        _mutate(target)
        yield Mutant(target.lineno, before, ast.unparse(target), ast.unparse(changed).encode())


def _code(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions of a module that compute, in order."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "exc") or isinstance(
            value, ast.JoinedStr
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                if isinstance(child, ast.expr):
                    yield child
                yield from _code(child)


def _mutate(node: ast.expr) -> bool:
    """Change an expression in place; return whether it has changed."""
    match node:
        case ast.BinOp() | ast.BoolOp() if type(node.op) in OPERATORS:
            node.op = OPERATORS[type(node.op)]()
        case ast.Compare() if type(node.ops[0]) in OPERATORS:
            node.ops[0] = OPERATORS[type(node.ops[0])]()
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            node.value = number + 1
        case ast.Name() if node.id in NAMES:
            node.id = NAMES[node.id]
        case ast.Attribute() if node.attr in NAMES:
            node.attr = NAMES[node.attr]
        case _:
            return False
    return True


def is_green(path: Path, source: bytes, *, arguments: tuple[str, ...]) -> bool:
    """Return whether tests pass with a module's source replaced, in a process of their own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _run_tests(path, source, arguments=arguments)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _run_tests(path: Path, source: bytes, *, arguments: tuple[str, ...]) -> int:
    """Return pytest's exit code, with one file read as something else."""
    read, stat = SourceFileLoader.get_data, SourceFileLoader.path_stats

    def get_data(self: SourceFileLoader, name: str) -> bytes:
        return source if name == str(path) else read(self, name)

    def path_stats(self: SourceFileLoader, name: str) -> object:
        if name == str(path):
            raise OSError  # so that no compiled copy is read or written
        return stat(self, name)

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.alarm(LIMIT_S)  # ends this process
    pytest = importlib.import_module("pytest")
    options = ("-x", "-q", "-p", "no:cacheprovider", "--assert=plain")
    with patch.multiple(SourceFileLoader, get_data=get_data, path_stats=path_stats):
        return int(pytest.main([*arguments, *options]))


if __name__ == "__main__":
    main()
