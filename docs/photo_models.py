"""The tables and images on the page of models for photographs, from what benchmarks stored."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from d2csr.engine.model import shipped_bundles

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "photo-models.md"
STORED = ROOT / "benchmarks" / "results"
END = "<!-- photo models: end -->"
SCALES = (2, 3, 4)
BASELINES = ("bicubic", "lanczos", "linear")
CITY100 = "city100"  # how the names of the models of two cameras begin
WRONG_SETS = ("set5", "set14", "b100")  # that show what these models do to other images
DETAILS = [
    *("pairs", "PSNR dB (95%)", "SSIM", "bicubic, PSNR dB", "over bicubic (95%)"),
    *("after registration, dB", "brightness shift, p50 / p95", "that of HR"),
]
NOTHING = ["Not measured yet."]
# Captions, by the names of the images in docs/readme_image.py.
CAPTIONS = {
    "photo-x4-boat": "a photograph enlarged four times. Left: bicubic. Right: `photo-x4`",
    "photo-x4-phone": "a phone's photograph enlarged four times. Left: bicubic. Right: `photo-x4`",
    "photo-x4-bridge": "a simulated camera. Left: bicubic. Center: `photo-x4`. Right: the original",
    "photo-x3-phone": "a phone's photograph enlarged three times. Left: bicubic. Right: `photo-x3`",
    "photo-x2-phone": "a phone's photograph enlarged twice. Left: bicubic. Right: `photo-x2`",
    "photo-x2-boat": "a simulated camera. Left: bicubic. Center: `photo-x2`. Right: the original",
}


class Sources(NamedTuple):
    """Folders that the page is made from."""

    stored: Path = STORED
    images: Path = PAGE.parent / "images"

    def scores(self, scale: int) -> dict[str, Any] | None:
        """Return the stored scores of a scale; None if there are none."""
        path = self.stored / f"photo_models-x{scale}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def render(page: str, *, sources: Sources | None = None) -> str:
    """Return `page` with its tables and images between the markers."""
    for name, lines in BLOCKS.items():
        before, rest = page.split(begin(name))
        _, after = rest.split(END, 1)
        text = "\n".join(list(lines(sources or Sources())) or NOTHING)
        page = f"{before}{begin(name)}\n\n{text}\n\n{END}{after}"
    return page


def begin(name: str) -> str:
    """Return the marker before a block."""
    return f"<!-- photo models {name}: made by `make docs` from benchmarks/results; do not edit -->"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(cells: list[str]) -> Iterator[str]:
    yield _row(cells)
    yield _row(["---"] * len(cells))


def _models(_: Sources) -> Iterator[str]:
    """Yield the models that ship."""
    yield from _head(["model", "enlarges", "parameters", "for"])
    for bundle in shipped_bundles():
        card = bundle.card
        purpose = card.metadata.description
        yield _row([f"`{card.name}`", f"x{card.scale}", f"{card.parameters:,}", purpose])


def _wrong(sources: Sources) -> Iterator[str]:
    """Yield what the City100 models gain over bicubic on their camera, and lose elsewhere."""
    files = [values for scale in SCALES if (values := sources.scores(scale))]
    rows = [
        (name, values["sets"])
        for values in files
        for name in _systems(values)
        if name.startswith(CITY100)
    ]
    if not rows:
        return
    yield from _head(["model", "its camera: City100 test", "Set5", "Set14", "B100"])
    for name, sets in rows:
        cells = [_over(sets.get(key), name) for key in (CITY100, *WRONG_SETS)]
        yield _row([f"`{name}`", *cells])
    yield ""
    yield "PSNR over bicubic in dB by protocol `y`, with the 95% interval of the difference."


def _images(sources: Sources) -> Iterator[str]:
    """Yield the images that were made, with their captions."""
    for name, caption in CAPTIONS.items():
        path = sources.images / f"{name}.png"
        if path.is_file():
            yield from (f"![{name}](images/{path.name})", "", f"*{name}: {caption}.*", "")


def _scale(scale: int) -> Callable[[Sources], Iterator[str]]:
    """Return the function that yields the tables of a scale."""

    def lines(sources: Sources) -> Iterator[str]:
        values = sources.scores(scale)
        if values is None:
            return
        yield from _overview(values)
        for name in _systems(values):
            if name not in BASELINES and not name.startswith(CITY100):
                yield from _details(values, name)
        if values["left_out"]:
            yield from ("", f"Left out: {', '.join(values['left_out'].values())}.")
        machine = values["machine"]
        file = f"`benchmarks/results/photo_models-x{scale}.json`"
        yield from ("", f"{file}, {values['date']}, {machine['processor']}.")

    return lines


def _overview(values: dict[str, Any]) -> Iterator[str]:
    """Yield the PSNR of every system on every set."""
    names = _systems(values)
    yield from (f"PSNR in dB by protocol `{values['protocol']}`; bold: the best.", "")
    yield from _head(["pairs", "images", *(f"`{name}`" for name in names)])
    for scores in values["sets"].values():
        means = {name: each["summary"]["psnr_db"] for name, each in scores["systems"].items()}
        cells = {name: f"{value:.2f}" for name, value in means.items()}
        best = max(cells.values(), key=float)
        row = [_bold(cells.get(name, "-"), if_=cells.get(name) == best) for name in names]
        yield _row([scores["title"], str(len(scores["names"])), *row])


def _bold(text: str, *, if_: bool) -> str:
    return f"**{text}**" if if_ else text


def _details(values: dict[str, Any], name: str) -> Iterator[str]:
    """Yield everything about one model."""
    yield from ("", f"`{name}`:", "")
    yield from _head(DETAILS)
    for scores in values["sets"].values():
        if name not in scores["systems"]:
            continue
        row = scores["systems"][name]["summary"]
        low, high = row["interval95"]
        registered = row["registered_db"]
        yield _row(
            [
                scores["title"],
                f"{row['psnr_db']:.2f} ({low:.2f} to {high:.2f})",
                f"{row['ssim']:.4f}",
                f"{scores['systems']['bicubic']['summary']['psnr_db']:.2f}",
                _over(scores, name),
                "" if registered is None else f"{registered:.2f}",
                f"{row['shift_p50']:.1f} / {row['shift_p95']:.1f}",
                " / ".join(f"{mean(scores[f'hr_shift_{each}']):.1f}" for each in ("p50", "p95")),
            ]
        )


def _over(scores: dict[str, Any] | None, name: str) -> str:
    """Return a system's mean difference to bicubic with its interval; `-` if not measured."""
    if scores is None or name not in scores["systems"]:
        return "-"
    row = scores["systems"][name]["summary"]
    low, high = row["over_bicubic_interval95"]
    return f"{row['over_bicubic_db']:+.2f} ({low:+.2f} to {high:+.2f})"


def _systems(values: dict[str, Any]) -> list[str]:
    """Return the names of all systems, the baselines first, the models for photographs last."""
    names = {name for scores in values["sets"].values() for name in scores["systems"]}
    models = sorted(names - set(BASELINES), key=lambda name: (not name.startswith(CITY100), name))
    return [*(name for name in BASELINES if name in names), *models]


BLOCKS: dict[str, Callable[[Sources], Iterator[str]]] = {
    "shipped": _models,
    "city100": _wrong,
    "images": _images,
    **{f"x{scale}": _scale(scale) for scale in SCALES},
}


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
