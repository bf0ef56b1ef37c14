"""A trained model as a system: scores, calibration, saved images, errors."""

import io

import numpy as np
import pytest
from rich.console import Console

from d2csr.core.bundle import ModelMetadata
from d2csr.core.config import ModelConfig
from d2csr.core.errors import D2csrError
from d2csr.engine.model import load
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import evaluate, model_scores
from d2csr.evaluation.tables import print_results
from d2csr.images.reader import read_rgb8
from d2csr.metrics.protocols import score


def export(folder, scale, **choices):
    """Write an untrained network on a bicubic base as the bundle of a run."""
    import torch

    from d2csr.export.bundle_writer import export_bundle
    from d2csr.models.d2csr import D2CSR

    torch.manual_seed(0)
    sizes = {"channels": 4, "groups": 1, "blocks": 1, "convergence_channels": 4, "base": "bicubic"}
    network = D2CSR(ModelConfig.from_dict({"scale": scale} | sizes | choices))
    metadata = ModelMetadata(name="tiny", licence="MIT", data="none")
    return export_bundle(network, folder / "bundle", metadata=metadata)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    export(folder, 2)
    return folder


def test_a_run_scores_what_its_images_score(run, pairs, tmp_path):
    options = EvaluationOptions(save=tmp_path)
    results = evaluate((str(run),), pairs, protocols=("y", "cdc"), options=options)
    model = load(run)
    row = results.results[0]
    assert (row.model, row.protocol, row.weights_sha256) == (
        str(run),
        "y",
        model.bundle.weights_sha256,
    )
    (folder,) = (
        path for path in tmp_path.iterdir() if path.name not in ("bicubic", "results.json")
    )
    for image in row.images:
        saved = read_rgb8(folder / f"{image.name}.png")
        lr = read_rgb8(pairs / "test" / f"{image.name}_LR2.png")
        assert np.abs(saved.astype(int) - model.upscale(lr)).max() <= 1
        hr = read_rgb8(pairs / "test" / f"{image.name}_HR.png")
        assert image.psnr_db == pytest.approx(score(saved, hr, protocol="y", scale=2).psnr_db)


def test_a_loaded_model_is_scored_on_its_own_engine(run, pairs, monkeypatch):
    model = load(run, precision="fp32")
    monkeypatch.setattr("d2csr.evaluation.systems.open_engine", None)
    (row, _) = evaluate([model], pairs).results
    assert (row.model, row.weights_sha256) == ("tiny", model.bundle.weights_sha256)


def test_protocols_without_rounding_see_the_engines_floats(run, pairs):
    rows = evaluate((str(run),), pairs, protocols=("cdc",)).results
    lr = read_rgb8(pairs / "test" / "scene_0_LR2.png")
    sr = load(run).engine.run(lr.astype(np.float32) / np.float32(255)).sr
    hr = read_rgb8(pairs / "test" / "scene_0_HR.png")
    expected = score(sr, hr, protocol="cdc", scale=2)
    assert rows[0].images[0].psnr_db == pytest.approx(expected.psnr_db, abs=1e-4)


def test_calibration_compares_disagreement_with_the_gradient(run, pairs):
    results = evaluate((str(run),), pairs, options=EvaluationOptions(calibration=True))
    (calibration,) = results.calibration
    assert calibration.model == str(run)
    assert [score.predictor for score in calibration.mean] == ["disagreement", "gradient"]
    assert len(calibration.images) == 6
    text = io.StringIO()
    print_results(results, output=Console(file=text, width=80))
    assert f"prediction of the error of {run}, 6 px blocks" in text.getvalue()
    assert all(-1 <= score.spearman <= 1 and score.ause >= 0 for score in calibration.images)


def test_one_prediction_has_no_disagreement_to_calibrate(run, pairs, tmp_path):
    export(tmp_path, 2, children=1, convergence_channels=0)
    options = EvaluationOptions(calibration=True)
    with pytest.raises(D2csrError, match="none of the systems makes several predictions"):
        evaluate((str(tmp_path),), pairs, options=options)
    both = evaluate((str(tmp_path), str(run)), pairs, options=options)
    assert [each.model for each in both.calibration] == [str(run)]


def test_a_model_of_another_scale_is_an_error_before_any_work(tmp_path, pairs):
    export(tmp_path, 3)
    with pytest.raises(D2csrError, match="enlarges 3 times"):
        evaluate((str(tmp_path),), pairs)


@pytest.mark.parametrize("damaged", ["model.safetensors", "trunk.onnx"])
def test_a_damaged_bundle_is_an_error_before_any_work(tmp_path, pairs, damaged):
    export(tmp_path, 2)
    with (tmp_path / "bundle" / damaged).open("ab") as file:
        file.write(b"x")
    with pytest.raises(D2csrError, match=f"doesn't match the hash of {damaged}"):
        evaluate((str(tmp_path),), pairs, options=EvaluationOptions(save=tmp_path / "sr"))
    assert not (tmp_path / "sr").exists()


def test_a_run_without_a_bundle_is_an_error_with_a_remedy(tmp_path, pairs):
    (tmp_path / "run").mkdir()
    with pytest.raises(D2csrError, match="d2csr export"):
        evaluate((str(tmp_path / "run"),), pairs)


def test_the_card_gets_the_scores_of_its_model(run, pairs):
    results = evaluate((str(run),), pairs, protocols=("y", "rgb"))
    first, second = model_scores(results, model=str(run), data="three scenes")
    assert (first.protocol, second.protocol, first.images) == ("y", "rgb", 3)
    assert first.psnr_db == results.results[0].mean.psnr_db
    assert first.bicubic_psnr_db == results.results[1].mean.psnr_db
