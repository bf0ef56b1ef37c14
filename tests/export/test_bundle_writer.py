"""A bundle's folder: what lies in it, and that it is written whole or not at all."""

import json
from dataclasses import replace

import onnx
import pytest
import torch

from d2csr.checkpoint.io import load_network
from d2csr.cli.models import export
from d2csr.core.bundle import EvaluationScore, read_bundle, verify_bundle
from d2csr.core.config import PRESETS, find_preset, preset
from d2csr.core.error_model import find_error_model, write_calibrated_bundle
from d2csr.core.errors import BundleError
from d2csr.core.network_cost import network_cost
from d2csr.export import bundle_writer
from d2csr.export.bundle_writer import (
    export_bundle,
    update_scores,
)
from tests.error_models import FACTS, random_error_model
from tests.tiny_models import METADATA, random_network

SCORE = EvaluationScore("five test scenes", "y", 5, 29.8, 0.86, (27.5, 31.5), (0.81, 0.9), 27.72)


def test_a_bundle_holds_weights_graphs_card_and_readme(exported):
    _, bundle = exported()
    names = {path.name for path in bundle.folder.iterdir()}
    assert names == {"bundle.json", "README.md", "model.safetensors", "trunk.onnx", "tail.onnx"}


def test_the_authors_border_adds_the_border_and_the_fusion(exported):
    _, bundle = exported(tail_border="each")
    assert set(bundle.card.graphs) == {"trunk", "tail", "border_tail", "fusion"}
    assert (
        bundle.card.receptive_field.border_strip_lr_px,
        bundle.card.receptive_field.border_replaced_lr_px,
    ) == (4, 1)


def test_the_card_has_the_metadata_given_and_the_counts_of_the_network(exported):
    network, bundle = exported(scale=3, base="bicubic", pooling_px=5)
    card = read_bundle(bundle.folder).card
    assert card.metadata == METADATA
    assert card.config == network.config
    assert card.parameters == network.collapse().parameter_count()
    assert (card.scale, card.receptive_field.halo_lr_rows) == (3, 3)
    verify_bundle(bundle)


def test_an_export_of_a_bundle_keeps_its_error_model(exported, tmp_path):
    _, bundle = exported(scale=3, base="bicubic")
    source = tmp_path / "calibrated"
    write_calibrated_bundle(bundle, source, model=random_error_model(), facts=FACTS)
    assert export(source, output=tmp_path / "again") == 0
    again = read_bundle(tmp_path / "again")
    assert find_error_model(again) == random_error_model()
    assert again.card.uncertainty == FACTS
    verify_bundle(again)


def test_a_bundle_exported_onto_itself_keeps_the_entries_of_its_card(exported):
    _, bundle = exported(scale=3, base="bicubic")
    marked = update_scores(bundle.folder, [SCORE])
    bundle.graph("tail").write_bytes(b"of an older release")
    assert export(bundle.folder, output=bundle.folder) == 0
    again = read_bundle(bundle.folder)
    assert again.card == marked.card
    verify_bundle(again)


def test_a_card_of_an_older_release_promises_no_more_than_float32(exported):
    _, bundle = exported()
    path = bundle.folder / "bundle.json"
    values = json.loads(path.read_text())
    del values["precisions"]
    path.write_text(json.dumps(values))
    assert read_bundle(bundle.folder).card.precisions == {}


def test_the_preset_is_found_by_its_sizes(exported):
    assert exported()[1].card.metadata.preset is None
    assert [find_preset(replace(preset(name, 4), base="bicubic")) for name in PRESETS] == [*PRESETS]


def test_parameters_do_not_depend_on_the_border():
    bordered = random_network(tail_border="each").collapse()
    plain = random_network(tail_border="features").collapse()
    counts = [
        network_cost(network.config, collapsed=True).parameters for network in (bordered, plain)
    ]
    assert counts == [plain.parameter_count()] * 2


def test_the_weights_come_back_as_they_went_in(exported):
    network, bundle = exported(scale=4)
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(load_network(bundle.folder)(lr).sr, network(lr).sr)


def test_the_graphs_take_any_size(exported):
    _, bundle = exported()
    (image,) = onnx.load(bundle.graph("trunk")).graph.input
    sides = [side.dim_param or side.dim_value for side in image.type.tensor_type.shape.dim]
    assert sides == [1, 3, "height", "width"]


def test_figures_come_later_and_leave_the_weights_alone(exported):
    _, bundle = exported()
    marked = update_scores(bundle.folder, [SCORE])
    assert marked.card == replace(bundle.card, metadata=replace(METADATA, scores=(SCORE,)))
    assert "29.80 (27.50 - 31.50)" in (bundle.folder / "README.md").read_text()


def test_a_refused_bundle_leaves_the_old_one(exported, monkeypatch):
    _, bundle = exported()
    monkeypatch.setattr("d2csr.export.verification.LIMIT", 1e-30)
    monkeypatch.setattr("d2csr.export.verification._ROUNDING", 0.0)
    with pytest.raises(BundleError, match="differs"):
        export_bundle(random_network(scale=3), bundle.folder, metadata=METADATA)
    assert read_bundle(bundle.folder) == bundle
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"]


def test_a_new_bundle_takes_the_place_of_the_old_one(exported):
    _, bundle = exported()
    assert export_bundle(random_network(scale=3), bundle.folder, metadata=METADATA).card.scale == 3
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"]


def test_nothing_but_a_bundle_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    monkeypatch.setattr(bundle_writer, "verify_against_network", pytest.fail)
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        export_bundle(random_network(), tmp_path, metadata=METADATA)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "format version 3; this release reads versions 1 and 2"),
        ({"scale": 3}, "scale 3, but config.scale 2"),
        ({"graphs": {"trunk": "trunk.onnx"}}, "lack trunk or tail"),
        ({"graphs": {"trunk": "trunk.onnx", "tail": "t.onnx"}}, "no hash of"),
        ({"graphs": {"trunk": "trunk.onnx", "tail": "../t.onnx"}}, "graphs.tail"),
        ({"config": {"scale": 2, "channel": 4}}, "unknown settings"),
        ({"licence": None, "files": None}, "doesn't follow the schema"),
    ],
)
def test_a_card_of_another_schema_is_refused(exported, change, message):
    _, bundle = exported()
    path = bundle.folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle.folder)


def test_missing_and_damaged_files_are_named(exported):
    _, bundle = exported()
    bundle.graph("tail").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"hash of tail\.onnx"):
        verify_bundle(bundle)
    bundle.graph("trunk").unlink()
    with pytest.raises(BundleError, match=r"lacks trunk\.onnx"):
        read_bundle(bundle.folder)
