"""The two worked examples of CONTRIBUTING: what they say to write works, where they say it goes."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from d2csr.engine import open_engine
from d2csr.engine.backends import base
from d2csr.losses import reconstruction
from tests.oracles import triplet as oracle
from tests.tiny_models import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LOSS_ORACLE, LOSS, LOSS_ROW, BACKEND, BACKEND_ROW = BLOCKS
TO_BE_WRITTEN = "src/d2csr/engine/backends/onnx_evaluator.py"


def row_of(block, namespace):
    """Return the name and the value of a row of a table."""
    ((name, value),) = eval(f"{{{block}}}", dict(namespace)).items()
    return name, value


def test_the_loss_agrees_with_its_oracle_in_both_losses_that_use_the_table(monkeypatch):
    namespace = dict(vars(reconstruction))
    exec(LOSS, namespace)
    name, distance = row_of(LOSS_ROW, namespace)
    _, literal = row_of(LOSS_ORACLE, {})
    assert name not in get_args(reconstruction.ReconstructionName)  # an example, not the loss
    monkeypatch.setitem(reconstruction.DISTANCES, name, distance)
    predictions = np.random.default_rng(0).normal(scale=0.02, size=(2, 4, 3, 5, 6))
    found = reconstruction.DISTANCES[name](torch.as_tensor(predictions)).mean((0, 2, 3, 4)).sum()
    zeros = np.zeros((2, 3, 5, 6)).tolist()
    expected = oracle.predictions_distance(predictions.tolist(), zeros, literal)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_backend_computes_what_openvino_does(tmp_path, monkeypatch):
    (name, spec) = row_of(BACKEND_ROW, vars(base))
    assert f"src/{spec.module.replace('.', '/')}.py" == TO_BE_WRITTEN
    file = tmp_path / "module.py"
    file.write_text(BACKEND)
    module_spec = importlib.util.spec_from_file_location(spec.module, file)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, spec.module, module)
    monkeypatch.setitem(base.BACKENDS, name, spec)
    assert isinstance(base.load_backend(name), base.Backend)
    bundle = tiny_bundle(tmp_path / "tiny", base="bicubic")
    lr01 = np.random.default_rng(0).random((5, 7, 3), np.float32)
    ours, known = (
        open_engine(bundle, backend=each, device="cpu", precision="fp32").run(lr01)
        for each in (name, "openvino")
    )
    assert np.abs(ours.sr - known.sr).max() < 1e-5
    assert np.abs(ours.predictions - known.predictions).max() < 1e-5


def test_every_file_that_is_named_exists():
    folders = r"(?:src|tests|docs|experiments|\.ci)"
    named = set(re.findall(rf"`({folders}/[\w./]+?)/?`", PAGE)) | {"pyproject.toml"}
    assert TO_BE_WRITTEN in named
    assert len(named) >= 12
    assert [name for name in named - {TO_BE_WRITTEN} if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("src/d2csr/losses/reconstruction.py", {"DISTANCES", "ReconstructionName", "LossTerm"}),
        ("src/d2csr/engine/backends/base.py", {"BACKENDS", "Backend"}),
        ("src/d2csr/core/errors.py", {"BundleError", "OutOfMemoryError"}),
        ("tests/losses/test_reconstruction.py", {"LITERAL", "test_every_distance_has_an_oracle"}),
    ],
)
def test_the_names_to_look_for_are_in_their_files(file, names):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
    defined |= {
        node.id for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }  # fmt: skip
    assert names <= defined
    assert all(f"`{name}`" in PAGE for name in names)
