"""The paper's tables and figures with models and pairs at hand, and the published scores beside."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2csr import __version__
from d2csr.core.bundle import Bundle, read_bundle
from d2csr.core.errors import D2csrError, DataError, UsageError
from d2csr.core.files import write_atomically
from d2csr.core.manifest import Manifest
from d2csr.core.results import SystemResult, write_results
from d2csr.data.sources import open_pairs
from d2csr.engine.engine import open_engine
from d2csr.engine.model import Model, find_bundle
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import command_line, evaluate
from d2csr.figures.catalog import FigureOptions, PaperItem, published_scores
from d2csr.figures.crops import choose_crops, open_scenes
from d2csr.figures.panels import draw_panels, make_rows
from d2csr.suites.config import read_suite
from d2csr.suites.costs import find_trial_bundle
from d2csr.suites.records import final_records
from d2csr.suites.tables import draw_suite, format_rows, markdown_table, suite_rows

_PAPER_SETS = ("d2crealsr", "drealsr", "realsr")  # in this order: each name ends in the next
_SHARED_SETS = ("realsr_x4_crops", "city100/nikon_d5500_x3", "city100/iphone_x_x2")
_SCALES = (2, 3, 4, 8)
_PROTOCOL = "y"  # the paper's


@dataclass(frozen=True)
class PairSet:
    """A set of test pairs at one scale.

    Attributes:
        title: what the pairs are, in words.
        path: of the pairs.
        scale: SR pixels per LR pixel.
        paper: the paper's set; None: pairs that the paper didn't use.
    """

    title: str
    path: Path
    scale: int
    paper: str | None = None


@dataclass(frozen=True)
class Sources:
    """What a table or figure is made from.

    Attributes:
        models: bundles by the names that are shown.
        suite: the folder of a suite that has run; None if the models were given.
        data: the sets of test pairs.
    """

    models: dict[str, Bundle]
    suite: Path | None
    data: list[PairSet]


def open_models(names: Sequence[str]) -> dict[str, Bundle]:
    """Return the bundles of `LABEL=MODEL` or `MODEL`, in this order.

    Raises:
        D2csrError: there is no such model, or its bundle can't be read.
    """
    models = {}
    for name in names:
        label, _, model = name.rpartition("=")
        bundle = read_bundle(find_bundle(model))
        models[label or bundle.card.name] = bundle
    return models


def suite_models(item: PaperItem, folder: Path) -> dict[str, Bundle]:
    """Return the bundles of the systems of a suite that an item shows: the first seed of each.

    Raises:
        UsageError: a system that the item shows isn't there.
    """
    suite = read_suite(folder)
    records = final_records(folder, suite, data=next(iter(suite.data)))
    wanted = item.systems or tuple(suite.systems)
    if missing := [name for name in item.systems if not records.get(name)]:
        problem = f"has no finished trial of {', '.join(missing)}, which {item.name} shows"
        raise UsageError(folder, problem, f"Run the suite {item.suite}.yaml, or give --name.")
    found = {name: find_trial_bundle(records[name][0].trial) for name in wanted if records[name]}
    return {name: bundle for name, bundle in found.items() if bundle is not None}


def find_pair_sets(data: Path | None) -> list[PairSet]:
    """Return the paper's sets below a folder, at every scale they have there.

    Without them, the folder itself is one set; without a folder, pairs of $D2CSR_DATA are taken.
    Both are labelled as pairs that the paper didn't use.

    Raises:
        DataError: there are no pairs.
    """
    if data is None:
        shared = Path(os.environ.get("D2CSR_DATA", "$D2CSR_DATA"))
        found = [each for name in _SHARED_SETS for each in _at_scales(shared / name, title=name)]
        remedy = "Give the pairs with --data."
        if not found:
            raise DataError(shared, "has no pairs that the figures can be made from", remedy)
        return found
    found = []
    for folder in sorted(path for path in data.iterdir() if path.is_dir()) if data.is_dir() else ():
        plain = folder.name.lower().replace("-", "").replace("_", "")
        paper = next((name for name in _PAPER_SETS if plain.startswith(name)), None)
        found += [] if paper is None else _at_scales(folder, title=folder.name, paper=paper)
    found = found or _at_scales(data, title=data.resolve().name)
    if not found:
        raise DataError(
            data, "has no pairs at x2, x3, x4 or x8", "`d2csr data check` lists errors."
        )
    return found


def _at_scales(path: Path, *, title: str, paper: str | None = None) -> list[PairSet]:
    """Return the scales at which a folder has test pairs, or pairs without a split."""
    found = []
    for scale in _SCALES:
        try:
            test = _test_pairs(path, scale=scale)
        except D2csrError:
            continue
        if test.pairs:
            words = title if paper else f"{title}, not the paper's data"
            found.append(PairSet(words, path, scale, paper))
    return found


def _test_pairs(path: Path, *, scale: int) -> Manifest:
    pairs = open_pairs(path, scale=scale)
    test = pairs.of_split("test")
    return test if test.pairs else pairs


def make_item(
    item: PaperItem, sources: Sources, *, out: Path, options: FigureOptions
) -> list[Path]:
    """Make a table or figure of the paper and return its files.

    Raises:
        D2csrError: models or pairs don't fit it.
    """
    out.mkdir(parents=True, exist_ok=True)
    if item.kind == "benchmarks":
        return _write_benchmarks(item, sources, out=out)
    if item.kind in {"suite", "size"}:
        return _write_suite(item, sources, out=out)
    return _draw_crops(item, sources, out=out, options=options)


def _write_benchmarks(item: PaperItem, sources: Sources, *, out: Path) -> list[Path]:
    """Write scores of the models on each set of pairs, with the published ones in own columns."""
    lines, written = _opening(item), []
    published = published_scores(item.name)
    for pairs in sources.data:
        fitting = {
            name: str(bundle.folder)
            for name, bundle in sources.models.items()
            if bundle.card.scale == pairs.scale
        }
        results = evaluate(
            tuple(fitting.values()),
            pairs.path,
            protocols=(_PROTOCOL,),
            scale=pairs.scale,
            options=EvaluationOptions(skip_registration=True),
        )
        scored = {row.model: row for row in results.results}
        ours = {name: scored[model] for name, model in {**fitting, "bicubic": "bicubic"}.items()}
        theirs = {
            row.system: f"{row.psnr_db:.2f}" + ("" if row.ssim is None else f" / {row.ssim:.3f}")
            for row in published
            if (row.data, row.scale) == (pairs.paper, pairs.scale)
        }
        lines += [
            "",
            f"**{pairs.title}, x{pairs.scale}** ({len(results.results[0].images)} images)",
            "",
        ]
        lines += _score_lines(ours, theirs)
        path = out / f"{item.name}-{pairs.path.name}-x{pairs.scale}.json"
        write_results(results, path)
        written.append(path)
    return [_write_lines(out / f"{item.name}.md", lines), *written]


def _opening(item: PaperItem) -> list[str]:
    return [
        f"# {item.name}: {item.caption}",
        "",
        f"Scores by protocol `{_PROTOCOL}`. Published scores are the paper's, of its networks, its "
        "training and its pairs; they are comparable only where the pairs are the paper's.",
    ]


def _score_lines(ours: dict[str, SystemResult], theirs: dict[str, str]) -> Iterator[str]:
    """Yield a table of our scores and, if there are any for these pairs, the published ones."""
    columns = ["system", "PSNR dB (95%)", "SSIM", *(["published PSNR / SSIM"] if theirs else [])]
    rows = []
    for name in dict.fromkeys([*ours, *theirs]):
        cells = ["", ""]
        if name in ours:
            low, high = ours[name].interval95.psnr_db
            cells = [f"{ours[name].mean.psnr_db:.2f} ({low:.2f} to {high:.2f})"]
            cells.append(f"{ours[name].mean.ssim:.4f}")
        rows.append([name, *cells, *([theirs.get(name, "")] if theirs else [])])
    yield from markdown_table(columns, rows)


def _write_lines(path: Path, lines: Sequence[str]) -> Path:
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return path


def _write_suite(item: PaperItem, sources: Sources, *, out: Path) -> list[Path]:
    """Write the table of a suite and the published one after it; of sizes, the chart as well.

    Raises:
        UsageError: there is no suite.
    """
    if sources.suite is None:
        remedy = "Leave out --name: the suite is then trained; or give a suite with --suite."
        raise UsageError(item.name, "is made from a suite, not from single models", remedy)
    suite = read_suite(sources.suite)
    rows = suite_rows(sources.suite, suite=suite)
    lines = [*_opening(item), "", format_rows(rows, "markdown", suite=suite)]
    if published := published_scores(item.name):
        lines += ["Published, on the paper's pairs:", ""]
        cells = [
            (row.data, f"x{row.scale}", row.system, f"{row.psnr_db:.2f}", str(row.ssim or ""))
            for row in published
        ]
        lines += markdown_table(("pairs", "scale", "system", "PSNR dB", "SSIM"), cells)
    values = out / f"{item.name}.json"
    write_atomically(values, format_rows(rows, "json", suite=suite).encode())
    written = [_write_lines(out / f"{item.name}.md", lines), values]
    if item.kind == "size":
        written.append(out / f"{item.name}.png")
        draw_suite(rows, written[-1], suite=suite)
    return written


def _draw_crops(
    item: PaperItem, sources: Sources, *, out: Path, options: FigureOptions
) -> list[Path]:
    """Draw the crops that the item's rule chooses, and write where they are.

    Raises:
        UsageError: the models have several scales, or no pairs have theirs.
    """
    scales = {bundle.card.scale for bundle in sources.models.values()}
    if len(scales) > 1 or (not scales and item.kind != "degradation"):
        problem = f"shows models of one scale; given are {sorted(scales) or 'none'}"
        raise UsageError(item.name, problem, "Choose them with --name or --suite.")
    fitting = [each for each in sources.data if not scales or each.scale in scales]
    if not fitting:
        problem = f"no pairs are at x{scales.pop()}, as the models are"
        raise UsageError("--data", problem, "Give pairs of that scale.")
    pairs = fitting[0]
    models = {name: Model(each, open_engine(each)) for name, each in sources.models.items()}
    test = _test_pairs(pairs.path, scale=pairs.scale)
    scenes = open_scenes(test, models, images=options.images)
    crops = choose_crops(scenes, item.rule, side=options.side, count=options.crops)
    by_name = {scene.pair.name: scene for scene in scenes}
    rows = [row for crop in crops for row in make_rows(item.kind, by_name[crop.image], crop=crop)]
    path, facts = out / f"{item.name}.png", out / f"{item.name}.json"
    where = f"{pairs.title}, x{pairs.scale}: {', '.join(crop.image for crop in crops)}"
    draw_panels(rows, path, title=f"{item.caption}\n{where}")
    values = {
        "item": item.name,
        "rule": item.rule,
        "data": str(pairs.path),
        "is_paper_data": pairs.paper is not None,
        "crops": [crop._asdict() for crop in crops],
        "weights_sha256": {name: each.weights_sha256 for name, each in sources.models.items()},
        "version": __version__,
        "command": command_line(),
    }
    write_atomically(facts, (json.dumps(values, indent=1) + "\n").encode())
    return [path, facts]
