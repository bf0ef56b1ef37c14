"""Command `upscale`: enlarge photographs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from d2csr.upscale.wanted import SR_ONLY, Wanted


def upscale(
    *,
    input: Annotated[  # noqa: A002 - the option's name
        tuple[Path, ...],
        Parameter(name=("--input", "-i"), consume_multiple=True, negative=()),
    ],
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    name: Annotated[str | None, Parameter(name=("--name", "-n"))] = None,
    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None,
    device: Annotated[str, Parameter(name=("--device", "-g"), allow_leading_hyphen=True)] = "auto",
    wanted: Annotated[Wanted, Parameter(name="*", negative=())] = SR_ONLY,
) -> int:
    """Enlarge photographs and write them into one folder.

    A picture that can't be enlarged is reported and the rest go on. Exit code: 0 all done, 1 some
    failed, 2 nothing could be done.

    Args:
        input: Picture files, or folders searched recursively; hidden files and files that are no
            pictures are skipped.
        output: Folder for the results, in which the tree of an input folder is kept; for a single
            picture also the name of a file.
        name: A shipped model (`d2csr models` lists them), or the folder of a bundle or of a run.
        scale: What to enlarge by: checked against the model, or, without -n, the smallest shipped
            model of that scale is taken.
        device: Where to compute: auto, cpu, gpu, or a GPU's index, -1 being the processor; auto is
            the processor.
    """
    from d2csr.upscale.choice import choose_bundle  # `upscale --help` needs no engine
    from d2csr.upscale.run import upscale_files

    bundle = choose_bundle(name, scale)
    summary = upscale_files(input, output, bundle=bundle, wanted=wanted, device=device)
    print(f"{summary.as_text()}: {output}")
    return summary.exit_code
