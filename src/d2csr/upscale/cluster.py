"""A folder spread over a Ray cluster: workers get paths, and fetch and store pixels themselves."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from d2csr.core.bundle import CARD_NAME, Bundle
from d2csr.core.cluster import TRIES, Hands, cluster, refuse_without
from d2csr.core.errors import ImageError
from d2csr.upscale.compute import Compute
from d2csr.upscale.errand_list import NotedErrands, plan_errands
from d2csr.upscale.errands import Answer, Errand, Runner
from d2csr.upscale.interruption import sigterm_as_interrupt
from d2csr.upscale.places import is_url
from d2csr.upscale.report import PictureReport, Summary, Teller, say
from d2csr.upscale.run import Manner, settings_of
from d2csr.upscale.wanted import Wanted


def upscale_on_cluster(
    inputs: Sequence[str],
    out: str,
    *,
    bundle: Bundle,
    wanted: Wanted,
    compute: Compute,
    manner: Manner,
) -> Summary:
    """Enlarge pictures by workers of a Ray cluster; else as `upscale_files` does, file for file.

    Connects to the cluster that RAY_ADDRESS names, or starts one on this machine for the call. A
    worker that dies is replaced, and its picture done again.

    Args:
        inputs: files and folders, by path or by URL; paths must mean the same on every machine.
        out: folder for the results, by path or by URL.
        bundle: the model; it is sent to the workers.
        wanted: what to write for each picture.
        compute: what each worker computes with.
        manner: how to go about it.

    Raises:
        UsageError: Ray is not installed, no pictures, or names that clash.
    """
    refuse_without("ray", "fsspec")
    started, began_at = time.monotonic(), time.time()
    out = out if is_url(out) else str(Path(out).resolve())
    settings = settings_of(bundle, wanted, compute=compute)
    with closing(NotedErrands(out)) as noted:
        errands, faults = plan_errands(inputs, out, wanted=wanted, bundle=bundle)
        for fault in faults:
            say(f"error: {fault}")
        if manner.resume:
            errands = [replace(each, known=noted.find(each.place)) for each in errands]
        teller, interrupted = Teller(dict if manner.records else None), False
        try:
            with sigterm_as_interrupt(), cluster():
                hands = _hands(bundle, out, wanted=wanted, compute=compute, settings=settings)
                for answer in hands.work(errands, workers=manner.workers):
                    if answer.done is not None:
                        noted.note(answer.done)
                    teller.tell(_report(answer))
        except KeyboardInterrupt:
            interrupted = True
    faults += [each.fault for each in teller.pictures if each.fault is not None]
    return Summary(
        bundle.card.name,
        bundle.card.scale,
        pictures=tuple(teller.pictures),
        faults=tuple(faults),
        seconds={"total": time.monotonic() - started},
        began_at=began_at,
        interrupted=interrupted,
    )


def _hands(
    bundle: Bundle, out: str, *, wanted: Wanted, compute: Compute, settings: str
) -> Hands[Errand, Answer]:
    """Return workers that get the model's files with what they are made of."""
    files = {name: (bundle.folder / name).read_bytes() for name in (CARD_NAME, *bundle.card.files)}
    named = {"wanted": wanted, "compute": compute}
    return Hands(Runner, _given_up, made_with=(files, out), named=named, also=(settings,))


def _given_up(errand: Errand) -> Answer:
    report = PictureReport(errand.source, errand.place, "failed")
    problem = f"{TRIES} workers died of it"
    return Answer(report, fault=(errand.source, problem, "Try it on a machine with more memory."))


def _report(answer: Answer) -> PictureReport:
    if answer.fault is None:
        return answer.report
    where, problem, remedy = answer.fault
    return replace(answer.report, fault=ImageError(where, problem, remedy=remedy))
