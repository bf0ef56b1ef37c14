from pathlib import Path

import cv2
import numpy as np
import pytest

from d2csr.cli.app import main
from d2csr.core.geometry import Size
from d2csr.core.manifest import read_manifest
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.scene import Procedural


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "captures"
    simulate(
        [Procedural(Size(900, 600), (21,))],
        folder,
        options=SimulationOptions(scale=2, captures=True, seed=4),
    )
    return folder


def test_two_photographs_make_a_pair(captures, tmp_path, capsys):
    names = [str(captures / f"001_{end}.jpg") for end in ("wide", "tele")]
    assert main(["align", *names, "-o", str(tmp_path / "set"), "--scale", "2"]) == 0
    assert "1 of 1 pairs accepted" in capsys.readouterr().out
    (pair,) = read_manifest(tmp_path / "set" / "manifest.json")
    assert pair.split == "train"


def test_rejected_pair_is_reported_and_exits_with_2(captures, tmp_path, capsys):
    noise = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    cv2.imwrite(str(noise), pixels)
    words = ["align", str(captures / "001_wide.jpg"), str(noise), "-o", str(tmp_path / "set")]
    assert main([*words, "--scale", "2"]) == 2
    assert "rejected: Simulated_001 (001_wide): " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b", "c"], "photographs: 3 paths were given"),
        (["a", "--scale", "1"], "--scale: is 1"),
        (["a", "--lens", "fisheye"], "neither a choice nor a file"),
        (["a", "--val", "0.5", "--test", "0.5"], "take all scenes"),
        (["missing"], "is not a folder"),
    ],
)
def test_invalid_options_are_refused_before_work(words, message, tmp_path, capsys):
    assert main(["align", *words, "-o", str(tmp_path / "set")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
