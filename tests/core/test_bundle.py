"""`bundle.json`: version 2 comes back as written, version 1 is read, other versions are refused."""

import json
import re
from pathlib import Path

import pytest

from d2csr.core.bundle import Bundle, EvaluationScore, read_bundle, write_card
from d2csr.core.errors import BundleError

VERSION_1 = Path(__file__).with_name("bundle_version_1.json")  # a card that shipped
# The keys of version 2; whoever changes one raises the version.
KEYS = {
    *("format_version", "name", "licence", "data", "steps", "seed", "machine", "preset"),
    *("description", "scores", "runs", "scale", "parameters", "config", "receptive_field"),
    *("graphs", "files", "precisions"),
}


@pytest.fixture
def read_version_1(tmp_path):
    """Return a function that reads the card of version 1 after a change of its values."""

    def change_and_read(**changes: object) -> Bundle:
        values = json.loads(VERSION_1.read_text()) | changes
        (tmp_path / "bundle.json").write_text(json.dumps(values))
        for name in values["files"]:
            (tmp_path / name).touch()
        return read_bundle(tmp_path)

    return change_and_read


def test_a_card_of_version_1_is_read(read_version_1):
    card = read_version_1().card
    (score,) = card.metadata.scores
    assert card.name == "city100-iphone-x2"
    assert (card.metadata.steps, card.metadata.seed, card.metadata.licence) == (5000, 1, "MIT")
    assert isinstance(score, EvaluationScore)
    assert (score.images, round(score.psnr_db, 2)) == (5, 25.86)
    assert card.receptive_field == card.config.receptive_field
    assert card.graphs == {"trunk": "trunk.onnx", "tail": "tail.onnx"}


def test_a_card_of_version_1_claims_nothing_for_precisions_below_float32(read_version_1):
    """Its figures hold for graphs that the engine of that release rewrote first."""
    assert read_version_1().card.precisions == {}


def test_the_border_of_version_1_comes_under_its_new_names(read_version_1):
    values = json.loads(VERSION_1.read_text())
    graphs = {"trunk": "t.onnx", "tail": "u.onnx", "tail_frame": "v.onnx", "fusion": "w.onnx"}
    graphs |= {"trunk_int8": "t.xml", "tail_int8": "u.xml", "fusion_int8": "w.xml"}
    graphs |= {"tail_frame_int8": "v.onnx"}
    config = values["config"] | {"tail_border": "each"}
    reach = values["reach"] | {"frame_strip_lr_px": 4, "frame_kept_lr_px": 1}
    files = dict.fromkeys(("model.safetensors", *graphs.values()), "0" * 64)
    card = read_version_1(config=config, reach=reach, graphs=graphs, files=files).card
    field = card.receptive_field
    assert (field.border_strip_lr_px, field.border_replaced_lr_px) == (4, 1)
    assert card.graphs["border_tail"] == card.graphs["border_tail_int8"] == "v.onnx"
    assert "tail_frame" not in card.graphs


def test_a_card_of_version_1_is_written_in_version_2(read_version_1):
    bundle = read_version_1()
    write_card(bundle.folder, bundle.card)
    values = json.loads((bundle.folder / "bundle.json").read_text())
    assert values["format_version"] == 2
    assert set(values) == KEYS
    assert read_bundle(bundle.folder).card == bundle.card


@pytest.mark.parametrize("key", ["reach", "figures", "graphs"])
def test_a_card_of_version_1_with_damage_is_refused(read_version_1, key):
    with pytest.raises(BundleError, match=r"bundle.json: doesn't follow the schema"):
        read_version_1(**{key: None})


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_other_versions_are_refused_with_those_that_are_read(read_version_1, version):
    problem = f"has format version {version!r}; this release reads versions 1 and 2"
    with pytest.raises(BundleError, match=re.escape(problem)):
        read_version_1(format_version=version)
