"""Export for other programs: the rules by which each program reads its file, and the refusals."""

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest

from d2csr.cli.models import Program
from d2csr.core.bundle import read_bundle
from d2csr.core.errors import BundleError, UsageError
from d2csr.core.files import sha256_file
from d2csr.engine.model import find_bundle
from d2csr.export import other_programs
from d2csr.export.other_programs import TARGETS, context_px, export_for
from d2csr.images.reader import read_rgb8

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/city100_nikon_001_lr3.png"
# Fields of src/lib/model-props.ts of open-model-database: type, and whether they may be missing.
OPENMODELDB_FIELDS = {
    **dict.fromkeys(("name", "author", "description", "date", "architecture"), str),
    **dict.fromkeys(("scale", "inputChannels", "outputChannels", "trainingIterations"), int),
    **dict.fromkeys(("tags", "size", "resources", "images"), list),
    **dict.fromkeys(("license", "dataset"), str),
}
PHOTO_X2 = read_bundle(find_bundle("photo-x2"))


def test_the_command_line_offers_every_target():
    assert get_args(Program) == tuple(TARGETS)


@pytest.mark.parametrize("name", ["photo-x2", "photo-x4", "city100-iphone-x2", "city100-nikon-x3"])
def test_shipped_models_as_onnx_agree_with_the_engine(name, tmp_path):
    files = export_for("onnx", read_bundle(find_bundle(name)), folder=tmp_path, images=())
    assert [file.name for file in files] == [f"{name}.onnx", f"{name}-fp16.onnx"]
    fp32, fp16 = (file.difference for file in files)  # printed by the command
    assert fp32 < 1e-4
    assert fp32 < fp16 < 2e-3


@pytest.mark.parametrize("suffix", ["", "-fp16"])
def test_the_scale_of_onnx_follows_from_shape_inference(suffix, tmp_path):
    """As chaiNNer does it: the input's sides are set to 16, and the output's are inferred."""
    export_for("onnx", PHOTO_X2, folder=tmp_path, images=())
    model = onnx.load(tmp_path / f"photo-x2{suffix}.onnx")
    (lr,), (sr,) = model.graph.input, model.graph.output
    assert lr.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert sr.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    batch, channels, height, width = lr.type.tensor_type.shape.dim
    assert (batch.dim_value, channels.dim_value) == (1, 3)
    assert (height.dim_param, width.dim_param) == ("height", "width")
    height.dim_value = width.dim_value = 16
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
    assert [dim.dim_value for dim in inferred.dim] == [1, 3, 32, 32]


def test_onnx_names_model_scale_and_licence(tmp_path):
    export_for("onnx", PHOTO_X2, folder=tmp_path, images=())
    facts = {each.key: each.value for each in onnx.load(tmp_path / "photo-x2.onnx").metadata_props}
    assert (facts["name"], facts["scale"], facts["licence"]) == ("photo-x2", "2", "MIT")


def test_a_name_without_the_scale_gets_it(exported, tmp_path):
    _, bundle = exported(attention=False)
    (onnx_file, _) = export_for("onnx", bundle, folder=tmp_path / "out", images=())
    assert onnx_file.name == "tiny-x2.onnx"


def test_darktable_finds_its_folder_config_and_graph(tmp_path):
    """What darktable reads: the folder's name is the id; config.json; a graph per scale."""
    (file,) = export_for("darktable", PHOTO_X2, folder=tmp_path, images=())
    assert file.name == "upscale-photo-x2.dtmodel"
    with zipfile.ZipFile(tmp_path / file.name) as archive:
        assert archive.namelist() == [
            "upscale-photo-x2/config.json",
            "upscale-photo-x2/model_x2.onnx",
        ]
        config = json.loads(archive.read("upscale-photo-x2/config.json"))
        graph = archive.read("upscale-photo-x2/model_x2.onnx")
    assert {"id", "name", "description", "task", "backend", "version"} <= set(config)
    assert (config["id"], config["task"]) == ("upscale-photo-x2", "upscale")
    assert config["attributes"]["model_x2"]["input_sizes"] == [512]
    assert onnx.load_from_string(graph).opset_import[0].version == 20
    (lr,) = onnxruntime.InferenceSession(graph).get_inputs()
    assert (lr.type, lr.shape) == ("tensor(float)", [1, 3, "height", "width"])


def test_seams_of_darktables_tiles_are_not_visible(tmp_path):
    """Its tiles overlap by 16 LR pixels each side, fewer than the 24 that SR depends on."""
    assert context_px(PHOTO_X2.card) == 24
    export_for("onnx", PHOTO_X2, folder=tmp_path, images=())
    session = onnxruntime.InferenceSession(tmp_path / "photo-x2.onnx")
    lr = np.random.default_rng(0).random((1, 3, 60, 96), dtype=np.float32)
    whole, left = (session.run(None, {"lr": each})[0] for each in (lr, lr[..., :64]))
    seam = 2 * (64 - 16)  # noise, the worst case: every pixel has the largest contrast
    assert np.abs(whole[..., :seam] - left[..., :seam]).max() * 255 < 0.5


@pytest.mark.parametrize(
    ("target", "name", "problem"),
    [
        ("ncnn", "city100-nikon-x3", "averages over 41 px, but Upscayl cuts images into tiles"),
        ("darktable", "city100-iphone-x2", "averages over the whole image, but darktable cuts"),
    ],
)
def test_attention_is_refused_where_tiles_are_cut(target, name, problem, tmp_path):
    with pytest.raises(UsageError, match=problem):
        export_for(target, read_bundle(find_bundle(name)), folder=tmp_path / "out", images=())
    assert not (tmp_path / "out").exists()


def test_the_authors_border_is_refused(exported, tmp_path):
    _, bundle = exported(tail_border="each")
    with pytest.raises(UsageError, match="its border has kernels of its own"):
        export_for("onnx", bundle, folder=tmp_path / "out", images=())


def test_darktable_has_no_place_for_x3(exported, tmp_path):
    _, bundle = exported(attention=False, scale=3)
    with pytest.raises(UsageError, match="enlarges x3; darktable is for models of x2 and x4"):
        export_for("darktable", bundle, folder=tmp_path / "out", images=())


def test_files_that_exist_are_kept(tmp_path):
    (tmp_path / "photo-x2.onnx").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export_for("onnx", PHOTO_X2, folder=tmp_path, images=())
    assert [path.name for path in tmp_path.iterdir()] == ["photo-x2.onnx"]
    assert (tmp_path / "photo-x2.onnx").read_text() == "mine"


def test_nothing_is_written_if_a_file_differs(tmp_path, monkeypatch):
    monkeypatch.setitem(other_programs.LIMITS, "fp16", 1e-9)
    with pytest.raises(BundleError, match=r"photo-x2-fp16.onnx differs from the engine by"):
        export_for("onnx", PHOTO_X2, folder=tmp_path / "out", images=())
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError):
        export_for("onnx", PHOTO_X2, folder=tmp_path, images=())
    assert list(tmp_path.iterdir()) == []


def test_the_entry_of_openmodeldb_follows_its_published_fields(tmp_path):
    photograph = read_rgb8(EXAMPLE)
    export_for("openmodeldb", PHOTO_X2, folder=tmp_path, images=[photograph])
    (path,) = tmp_path.glob("*.json")
    assert re.fullmatch(r"\d+x-[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*", path.stem)
    entry = json.loads(path.read_text())
    assert {name: type(value) for name, value in entry.items()} == OPENMODELDB_FIELDS
    assert (path.stem, entry["name"], entry["scale"]) == ("2x-photo", "photo", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry["date"])
    assert entry["description"] == entry["description"].strip() != ""
    assert set(entry["tags"]) <= {"general-upscaler", "photo"}  # of its data/tags.json
    for resource in entry["resources"]:
        (name,) = resource["urls"]
        assert (resource["platform"], resource["type"]) == ("onnx", "onnx")
        assert resource["size"] == (tmp_path / name).stat().st_size
        assert resource["sha256"] == sha256_file(tmp_path / name)
    (image,) = entry["images"]
    assert image["type"] == "paired"
    lr, sr = (read_rgb8(tmp_path / image[kind]) for kind in ("LR", "SR"))
    assert sr.shape == (2 * lr.shape[0], 2 * lr.shape[1], 3)


def test_an_entry_without_a_photograph_shows_no_noise(tmp_path):
    export_for("openmodeldb", PHOTO_X2, folder=tmp_path, images=())
    assert json.loads((tmp_path / "2x-photo.json").read_text())["images"] == []
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".onnx", ".onnx"]
