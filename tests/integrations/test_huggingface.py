"""Models of huggingface_hub: written and read back without a network, with their card."""

import json
import socket

import pytest
import torch

pytest.importorskip("huggingface_hub", reason="huggingface_hub isn't installed")

from huggingface_hub import ModelCard

from d2csr.core.bundle import read_bundle
from d2csr.core.errors import UsageError
from d2csr.engine.model import find_bundle
from d2csr.export.other_programs import export_for
from d2csr.integrations.huggingface import HubModel, save_for_hub
from tests.tiny_models import random_network, tiny_bundle

NAMES = ["photo-x2", "photo-x4", "city100-iphone-x2", "city100-nikon-x3"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_models_agree_with_the_engine(name, tmp_path):
    (file,) = export_for("huggingface", read_bundle(find_bundle(name)), folder=tmp_path, images=())
    assert file.difference < 1e-4
    names = {path.name for path in (tmp_path / name).iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors"}


def test_a_model_survives_saving_and_loading(tmp_path):
    card = tiny_bundle(tmp_path / "bundle", tail_border="each").card
    network = random_network(tail_border="each").collapse()
    save_for_hub(network, tmp_path / "hub", card=card)
    model = HubModel.from_pretrained(tmp_path / "hub")
    model.save_pretrained(tmp_path / "again")
    lr = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        assert torch.equal(HubModel.from_pretrained(tmp_path / "again")(lr), network(lr).sr)
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert config == network.config.to_dict()


def test_the_card_has_metadata_and_scores(tmp_path):
    bundle = read_bundle(find_bundle("photo-x2"))
    export_for("huggingface", bundle, folder=tmp_path, images=())
    data = ModelCard.load(tmp_path / "photo-x2/README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "mit",
        "d2csr",
        "image-to-image",
    )
    assert {"super-resolution", "photography"} <= set(data.tags)
    assert data.model_name == "photo-x2"
    psnrs = [each.metric_value for each in data.eval_results if each.metric_type == "psnr"]
    assert psnrs == [round(score.psnr_db, 4) for score in bundle.card.metadata.scores]


def test_a_name_of_the_hub_is_refused_without_a_download():
    with pytest.raises(UsageError, match=r"is no folder with a config.json"):
        HubModel.from_pretrained("someone/photo-x2")
