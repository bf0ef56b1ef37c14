"""The command `train` where it trains nothing: example recipes, and what it needs."""

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "experiments"


def test_the_examples_are_listed_with_their_purpose(d2csr):
    answer = d2csr("train", "--example")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        path.stem for path in EXAMPLES.glob("*.y*")
    )
    (line,) = [line for line in lines if line.startswith("your_own_camera ")]
    assert "A small x4 model for the pairs of your own camera" in line


def test_an_example_is_printed_as_it_is(d2csr):
    path = EXAMPLES / "your_own_camera.yaml"
    for name in ("your_own_camera", "experiments/your_own_camera.yaml"):
        answer = d2csr("train", "--example", name)
        assert (answer.code, answer.out) == (0, path.read_text(encoding="utf-8"))


def test_an_example_that_does_not_exist_is_answered_with_those_that_do(d2csr):
    answer = d2csr("train", "--example", "my_camera")
    assert (answer.code, answer.out) == (2, "")
    assert "my_camera: is no example recipe. Examples: " in answer.err
    assert "your_own_camera" in answer.err


def test_without_a_recipe_or_a_folder_the_error_leads_to_the_examples(d2csr, tmp_path):
    for words in ((), ("recipe.yaml",), ("-o", tmp_path / "run")):
        answer = d2csr("train", *words)
        assert (answer.code, answer.out) == (2, "")
        assert "Give a YAML file and --output; `d2csr train --example` lists" in answer.err
