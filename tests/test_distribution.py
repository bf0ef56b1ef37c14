"""What gets published: the sdist and the wheel built from it, installed far from the repository."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import numpy as np
import pytest
import pyvips

import d2csr

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "city100_nikon_001_lr3.png"
MODEL = "city100-nikon-x3"
UNREACHABLE = ("after connection broken", "Failed to establish a new connection")


def run(*command, folder=None, check=True):
    """Run a command as somebody who knows nothing of this repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder with the sdist, and the wheel that was built from the unpacked sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(built):
    (path,) = built.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def installed(wheel):
    """Return the programs of a new environment, in which only the wheel and its needs are."""
    with tempfile.TemporaryDirectory() as folder:  # 340 MB, which pytest would keep three times
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        programs = Path(folder) / "bin"
        pip = (sys.executable, "-m", "pip", "--python", programs / "python", "--quiet")
        options = ("--no-compile", "--retries", "1", "--constraint", ROOT / "constraints.txt")
        done = run(*pip, "install", *options, wheel, check=False)
        if any(words in done.stderr for words in UNREACHABLE):
            pytest.skip("the package registry that pip asks can't be reached")
        assert done.returncode == 0, done.stderr
        yield programs


def metadata_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_wheel_has_every_file_of_the_package(wheel):
    """And the example recipes and suites, for `d2csr train --example` and `d2csr paper`."""
    source = ROOT / "src"
    files = {path for path in (source / "d2csr").rglob("*") if path.is_file()}
    names = {
        str(path.relative_to(source)): path for path in files if path.parent.name != "__pycache__"
    }
    names |= {
        f"d2csr/{path.relative_to(ROOT)}": path for path in ROOT.glob("experiments/**/*.yaml")
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("d2csr/")}
        assert packed == set(names)
        for name, path in names.items():
            assert archive.read(name) == path.read_bytes(), path


def test_weights_cards_graphs_and_the_report_template_are_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for model in (path.name for path in (ROOT / "src/d2csr/weights").iterdir()):
        packed = {Path(name).name for name in names if name.startswith(f"d2csr/weights/{model}/")}
        assert {"bundle.json", "model.safetensors", "README.md", "trunk.onnx"} <= packed
    assert any(name.endswith(".html") for name in names)
    assert "d2csr/py.typed" in names


def test_the_core_requires_neither_torch_nor_the_tools(wheel):
    metadata = metadata_of(wheel)
    core = [each for each in metadata.get_all("Requires-Dist") if "extra ==" not in each]
    assert any(each.startswith("openvino") for each in core)
    assert [each for each in core if each.startswith(("torch", "pytest", "mkdocs"))] == []
    assert metadata["Version"] == d2csr.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload().startswith("# d2csr")


def test_the_sdist_says_the_same_of_itself_as_the_wheel(sdist, wheel):
    with tarfile.open(sdist) as archive:
        (name,) = [each for each in archive.getnames() if each.count("/") == 1
                   and each.endswith("/PKG-INFO")]  # fmt: skip
        said = message_from_bytes(archive.extractfile(name).read())
    assert said.items() == metadata_of(wheel).items()


def test_the_sdist_has_what_its_tests_and_its_site_are_made_of(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "mkdocs.yml")
    assert {*kept, "pyproject.toml", "constraints.txt", ".ci/run"} <= names
    for folder in ("src", "tests", "docs", "examples", "experiments", "benchmarks"):
        files = {path for path in (ROOT / folder).rglob("*") if path.is_file()}
        files = {path for path in files if path.parent.name != "__pycache__"}
        assert {str(path.relative_to(ROOT)) for path in files} <= names


def test_the_wheel_is_installed_with_all_that_it_needs(installed, tmp_path):
    code = "import d2csr, sys; print(d2csr.__file__); print('torch' in sys.modules)"
    done = run(installed / "python", "-c", code, folder=tmp_path)
    file, has_torch = done.stdout.split()
    assert Path(file).is_relative_to(installed.parent)
    assert has_torch == "False"
    run(sys.executable, "-m", "pip", "--python", installed / "python", "check", folder=tmp_path)


def test_an_installed_d2csr_enlarges_an_image_as_the_repositorys_does(installed, tmp_path):
    command = ("upscale", "-i", EXAMPLE, "-o", tmp_path / "enlarged", "-n", MODEL)
    run(installed / "d2csr", *command, folder=tmp_path)
    found = pyvips.Image.new_from_file(tmp_path / "enlarged" / EXAMPLE.name).numpy()
    lr = pyvips.Image.new_from_file(EXAMPLE).numpy()
    expected = d2csr.load(MODEL).upscale(lr)
    assert found.shape == (3 * lr.shape[0], 3 * lr.shape[1], 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("words", [("models",), ("doctor",), ("--help",), ("--version",)])
def test_an_installed_d2csr_answers(installed, tmp_path, words):
    done = run(installed / "d2csr", *words, folder=tmp_path)
    assert MODEL in done.stdout or words[0].startswith("--")


def test_a_feature_of_an_extra_says_how_to_install_it(installed, tmp_path):
    done = run(installed / "d2csr", "train", "recipe.yaml", "--output", "run", folder=tmp_path,
               check=False)  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'd2csr[train]'" in done.stderr
