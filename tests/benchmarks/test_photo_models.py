"""The accuracy suite: its sets, what it keeps and computes again, and its targets."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from d2csr.core.manifest import MANIFEST_NAME, Manifest, write_manifest
from d2csr.data.sources import open_pairs
from d2csr.evaluation.bootstrap import interval95
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import evaluate
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import enlarge_bicubic, resize_bicubic
from d2csr.images.writer import write_rgb8
from d2csr.metrics.brightness import brightness_shift
from tests.evaluation.conftest import make_pairs, scene
from tests.tiny_models import tiny_bundle

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SETS = ["city100", "set5", "set5-jpeg90", "set5-jpeg75", "set14", "set14-jpeg90", "set14-jpeg75",
        "b100", "b100-jpeg90", "b100-jpeg75"]  # fmt: skip


@pytest.fixture
def load(monkeypatch):
    """Return the function that imports a part of the suite by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a data folder and a folder of simulated pairs, x2, with one or two small images."""
    data, pairs = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("pairs")
    for split, seeds in (("train", range(2, 4)), ("test", range(2))):
        make_pairs(data / "city100" / "iphone_x_x2" / split, seeds)
    for name, seed in (("Set5", 4), ("Set14", 5), ("B100", 6)):
        write_rgb8(data / "benchmarks" / name / "HR" / "one.png", scene(seed, side_px=67))
    camera = pairs / "x2" / "camera"
    made = [*open_pairs(make_pairs(camera / "train", range(7, 9)))]
    made += open_pairs(make_pairs(camera / "test", range(9, 10)))
    split = [type(each)(**vars(each) | {"split": each.lr.parent.name}) for each in made]
    write_manifest(Manifest(2, "MIT", tuple(split), camera), camera / MANIFEST_NAME)
    return data, pairs


@pytest.fixture
def suite(load, folders, monkeypatch, tmp_path):
    """Return the script as a function of its further options; it returns the stored scores."""
    script = load("photo_models")
    monkeypatch.setattr(script, "shipped_bundles", list)

    def run(*words, pairs=True):
        monkeypatch.setenv("D2CSR_DATA", str(folders[0]))
        monkeypatch.setenv("D2CSR_PAIRS", str(folders[1]) if pairs else "")
        options = ["--scale", "2", "--results", tmp_path, "--build", tmp_path / "build", *words]
        monkeypatch.setattr(sys, "argv", ["photo_models", *map(str, options)])
        script.main()
        path = tmp_path / "photo_models-x2.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    return run


def test_scores_are_those_of_evaluate(suite, folders, tmp_path, capsys):
    bundle = tiny_bundle(tmp_path / "tiny")
    stored = suite("--model", tmp_path / "tiny")
    assert list(stored["sets"]) == [*SETS, "camera"]
    assert list(stored["left_out"]) == ["phone"]
    assert str(tmp_path) not in json.dumps(stored)
    assert str(folders[0]) not in json.dumps(stored)
    city100 = stored["sets"]["city100"]
    assert list(city100["systems"]) == ["bicubic", "lanczos", "linear", "tiny"]
    data = folders[0] / "city100" / "iphone_x_x2"
    options = EvaluationOptions(fit=data / "train")
    expected = evaluate(
        ["bicubic", "lanczos", "linear", tmp_path / "tiny"], data / "test", options=options
    )
    for row, system in zip(expected.results, city100["systems"].values(), strict=True):
        summary = system["summary"]
        assert system["psnr_db"] == pytest.approx([each.psnr_db for each in row.images], abs=1e-4)
        assert summary["psnr_db"] == pytest.approx(row.mean.psnr_db, abs=1e-4)
        assert summary["interval95"] == pytest.approx(row.interval95.psnr_db, abs=1e-3)
        assert summary["registered_db"] == pytest.approx(row.mean_psnr_registered_db, abs=1e-4)
        assert summary["shift_p95"] == pytest.approx(row.brightness_shift.p95, abs=1e-3)
        difference = np.subtract(system["psnr_db"], city100["systems"]["bicubic"]["psnr_db"])
        if row.model != "bicubic":
            assert summary["over_bicubic_interval95"] == pytest.approx(interval95(difference))
    for pair, p50 in zip(open_pairs(data / "test"), city100["hr_shift_p50"], strict=True):
        hr, lr = read_rgb8(pair.hr), read_rgb8(pair.lr)
        expected = brightness_shift(hr, enlarge_bicubic(lr, 2))
        assert p50 == pytest.approx(expected.p50, abs=1e-3)
    assert city100["systems"]["tiny"]["weights_sha256"] == bundle.weights_sha256
    assert stored["sets"]["set5"]["systems"]["linear"]["fitted_on"].startswith("$D2CSR_PAIRS/x2")
    assert stored["sets"]["set5"]["systems"]["bicubic"]["registered_db"] == []
    assert len(stored["sets"]["camera"]["names"]) == 1
    assert "left out: simulated phones" in capsys.readouterr().out


def test_only_what_is_new_is_scored(suite, tmp_path, capsys):
    tiny_bundle(tmp_path / "tiny")
    first = suite("--only", "set5", "set14")
    capsys.readouterr()
    again = suite("--only", "set5", "--model", tmp_path / "tiny", pairs=False)
    assert "x2, set5, tiny:" in (out := capsys.readouterr().out)
    assert out.count("of processor time") == 1
    assert again["sets"]["set5"]["systems"].keys() == {"bicubic", "lanczos", "linear", "tiny"}
    assert again["sets"]["set14"] == first["sets"]["set14"]
    suite("--model", tmp_path / "tiny", "--only", "set5", "set14")
    assert capsys.readouterr().out.count("of processor time") == 1  # set14, tiny
    # other weights of the same name: scored again, and gone where they aren't
    tiny_bundle(tmp_path / "other", channels=6)
    last = suite("--model", tmp_path / "other", "--only", "set5")
    assert "set5, tiny:" in (out := capsys.readouterr().out)
    assert out.count("of processor time") == 1
    assert "tiny" not in last["sets"]["set14"]["systems"]


def test_changed_images_are_scored_again(suite, tmp_path, capsys):
    suite("--only", "set5")
    capsys.readouterr()
    write_rgb8(tmp_path / "build" / "x2" / "Set5" / "one_LR2.png", scene(99, side_px=33))
    with pytest.raises(SystemExit):  # the manifest doesn't fit any more
        suite("--only", "set5")
    assert "one_LR2.png" in capsys.readouterr().err
    for path in (tmp_path / "build" / "x2").glob("Set5*/manifest.json"):
        path.unlink()
    suite("--only", "set5")
    assert capsys.readouterr().out.count("of processor time") == 0  # as before, once made again


def test_with_a_limit_nothing_is_stored(suite, tmp_path, capsys):
    assert suite("--limit", "1", "--only", "city100") is None
    assert "(1 images" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.json"))


def test_lr_is_reduced_as_matlab_does_and_compressed_with_half_the_chroma(suite, folders, tmp_path):
    suite("--only", "set5")
    hr = read_rgb8(folders[0] / "benchmarks" / "Set5" / "HR" / "one.png")[:66, :66]
    build = tmp_path / "build" / "x2"
    lr = resize_bicubic(hr, scale=0.5)
    assert np.array_equal(read_rgb8(build / "Set5" / "one_LR2.png"), lr)
    errors = []
    for quality in (90, 75):
        contents = (build / f"Set5_jpeg{quality}" / "one_LR.jpg").read_bytes()
        frame = contents[contents.index(b"\xff\xc0") :]
        assert frame[9] == 3
        assert [frame[11 + 3 * part] for part in range(3)] == [0x22, 0x11, 0x11]  # 4:2:0
        decoded = read_rgb8(build / f"Set5_jpeg{quality}" / "one_LR.jpg")
        errors.append(np.abs(decoded.astype(int) - lr).mean())
    assert 0 < errors[0] < errors[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "set6"), "set6: no such set"),
        (("--model", "nothing"), "neither a shipped model nor a folder"),
        (("--limit", "0"), "--limit: 0 images can't be scored"),
        (("--results", "/dev/null/results"), "can't be written"),
    ],
)
def test_an_error_is_one_message_before_any_scoring(suite, capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        suite(*words)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert message in output.err
    assert "processor time" not in output.out


def test_two_models_of_one_name_are_an_error(suite, tmp_path, capsys):
    tiny_bundle(tmp_path / "one")
    tiny_bundle(tmp_path / "other", channels=6)
    with pytest.raises(SystemExit):
        suite("--model", tmp_path / "one", tmp_path / "other")
    assert "different models of one name" in capsys.readouterr().err


def fake_set(load, **psnr_db):
    """Return the scores of a set of two images, given the PSNR of each system."""
    scores = load("photo_suite.scores")
    systems = {
        name.replace("_", "-"): scores.SystemScores(
            weights_sha256=None, fitted_on=None, cpu_seconds=1.0, psnr_db=values,
            ssim=[0.5] * len(values), registered_db=[], shift_p50=[0.1, 0.2], shift_p95=[0.5, 1.9],
        )
        for name, values in psnr_db.items()
    }  # fmt: skip
    return scores.SetScores(
        title="A set", kind="jpeg", data="data", lr="made", pairs_sha256="0", names=["a", "b"],
        systems=scores.with_summaries(systems),
    )  # fmt: skip


def test_targets_are_checked_on_the_means(load):
    bicubic, ours = [28.0, 30.0], [30.0, 31.0]
    sets = {
        "set5": fake_set(load, bicubic=bicubic, photo_x2=ours),
        "set5-jpeg75": fake_set(load, bicubic=bicubic, photo_x2=bicubic),
        "set5-jpeg90": fake_set(load, bicubic=bicubic, photo_x2=bicubic),
        "realsr": fake_set(
            load, bicubic=bicubic, photo_x4=[27.0, 27.9], photo_base_x4=[27.6, 27.6]
        ),
    }
    found = {each.text: each for each in load("photo_suite.targets").check_targets(sets)}
    verdicts = {text: (round(each.value, 3), each.is_met) for text, each in found.items()}
    shift = "median over images of the brightness shift's 95th percentile at most 1.0 levels"
    assert verdicts == {
        "photo-x4, A set: at least 27.5 dB": (27.45, False),
        "photo-base-x4, A set: at least 0.15 dB over photo-x4": (0.15, True),
        "photo-x2, A set: at least 1.5 dB over bicubic": (1.5, True),
        "photo-x2, A set: above bicubic": (0.0, False),  # JPEG 90, the last of this text
        "photo-x2, A set: not below bicubic": (0.0, True),
        f"photo-x2: {shift}": (1.2, False),
        f"photo-x4: {shift}": (1.2, False),
        f"photo-base-x4: {shift}": (1.2, False),
    }


def test_the_choosing_crops_are_the_first(load):
    scores = load("photo_suite.scores")
    whole = fake_set(load, bicubic=[*range(20, 50)], tiny=[*range(21, 51)])
    whole.names = [str(number) for number in range(30)]
    for each in whole.systems.values():
        each.shift_p95 = [1.0] * 20 + [3.0] * 10
    parts = scores.split_choosing(whole)
    assert parts["realsr-choose"].names == [str(number) for number in range(20)]
    assert parts["realsr-report"].names == [str(number) for number in range(20, 30)]
    tiny = parts["realsr-report"].systems["tiny"].summary
    assert tiny.psnr_db == pytest.approx(np.mean(range(41, 51)))
    assert tiny.over_bicubic_db == pytest.approx(1)
    assert tiny.shift_p95 == 3
    assert scores.split_choosing(parts["realsr-choose"]) == {}
