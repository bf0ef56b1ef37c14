"""The command `simulate`, as the shell sees it."""

import pytest

from d2csr.align.pairing import find_pairs


@pytest.fixture
def camera(tmp_path):
    file = tmp_path / "camera.yaml"
    file.write_text("scene: {procedural_px: [130, 120]}\nexif: {model: Toy}\n")
    return file


def test_pairs_are_made_and_checked(d2csr, camera, tmp_path):
    out = tmp_path / "pairs"
    made = d2csr("simulate", "--procedural", 2, "-o", out, "--scale", 2, "--config", camera)
    assert (made.code, made.out) == (0, f"{out}: 2 pairs of scale 2\n")
    assert sorted(path.name for path in out.rglob("*LR2.png")) == [
        "Toy_001_LR2.png",
        "Toy_002_LR2.png",
    ]
    assert d2csr("data", "check", out, "--patch", 16).code == 0


def test_a_preset_makes_its_kind_of_pairs(d2csr, camera, tmp_path):
    out = tmp_path / "pairs"
    words = ("simulate", "--procedural", 2, "-o", out, "--scale", 2, "--preset", "web")
    assert d2csr(*words).out == f"{out}: 2 pairs of scale 2\n"
    assert len(list(out.rglob("Web_00?_LR2.png"))) == 2
    both = d2csr(*words[:4], tmp_path / "other", *words[5:], "--config", camera)
    assert both.code == 2
    assert "choose the camera in two ways" in both.err
    wrong = d2csr(*words[:4], tmp_path / "other", "--scale", 2, "--preset", "pone")
    assert wrong.code == 2
    assert "phone" in wrong.err


def test_captures_are_frames_with_their_truth(d2csr, camera, tmp_path):
    out = tmp_path / "captures"
    words = ("--procedural", 1, "-o", out, "-s", 2, "--config", camera, "--captures")
    assert d2csr("simulate", *words).out == f"{out}: 1 capture of scale 2\n"
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        "001_wide.jpg", "001_tele.jpg", "truth.json",
        ".truth/001_planes.png", ".truth/001_parallax.png", ".truth/001_visible.png",
    }  # fmt: skip


def test_align_takes_only_frames_for_photographs(d2csr, camera, tmp_path):
    out = tmp_path / "captures"
    d2csr("simulate", "--procedural", 1, "-o", out, "-s", 2, "--config", camera, "--captures")
    found = find_pairs(out, scale=2)
    assert [(pair.wide.name, pair.tele.name) for pair in found.pairs] == [
        ("001_wide.jpg", "001_tele.jpg")
    ]
    assert found.unpaired == ()


def test_errors_are_one_line_and_code_2(d2csr, tmp_path):
    nothing = d2csr("simulate", "-o", tmp_path / "out", "-s", 2)
    assert (nothing.code, nothing.out) == (2, "")
    assert "has no scenes" in nothing.err
    missing = d2csr("simulate", "-i", tmp_path / "none", "-o", tmp_path / "out", "-s", 2)
    assert missing.code == 2
    assert "does not exist" in missing.err
