# Cells that the reference results contain are copied from there, all cells of an experiment in one job; the others are computed.
@functools.cache
def is_there(name):
    return catalogue.is_there(name, catalogue.data_root())


try:
    REFERENCE = reference.find(config.get("reference"), experiments.HOME)
    if REFERENCE and REFERENCE.folder.resolve() == Path(ROOT).resolve():
        raise PudleError(f"'reference' is {config['reference']!r}, the folder that this run writes to; name another scale")
    TAKEN = reference.settle(
        CELLS.values(),
        REFERENCE,
        computed=lambda chosen: (folder_of(chosen) / "cell.json").exists()
        and not why_stale(f"{chosen.experiment}/{chosen.id}"),
        missing=lambda chosen: next((name for name in experiments.data_sets(chosen) if not is_there(name)), ""),
    )
except PudleError as error:
    raise WorkflowError(str(error)) from None
if REFERENCE and workflow.is_main_process:
    left_out = [offer for offer in TAKEN.values() if not offer.parts]
    lacking = sorted({offer.reason for offer in left_out} - {reference.Offer.reason})
    logger.info(
        f"reference {config['reference']}: of {len(CELLS)} cells {len(TAKEN) - len(left_out)} are taken from it, {len(left_out)} are left "
        f"as not run, and {len(CELLS) - len(TAKEN)} are computed here{''.join(f'; {reason}' for reason in lacking)}"
    )


def taken(experiment):
    return [offer for offer in TAKEN.values() if offer.cell.experiment == experiment]


def computed(experiment):
    """Matches the ids of the cells that are not taken."""
    ids = [cell.id for name, cell in CELLS.items() if cell.experiment == experiment and name not in TAKEN]
    return "|".join(map(re.escape, ids)) or "(?!)"


def again_if_not_as_offered(experiment):
    """As :func:`again_if_stale`, for cells that are taken."""

    def check(wildcards):
        again = False
        for offer in taken(experiment) if planning() else []:
            record = folder_of(offer.cell) / "cell.json"
            written = record.exists() and offer.is_written(record.parent)
            again = again or not written
            if record.exists() and not written:
                workflow.dag.forcefiles.add(str(record))
        return configuration(again)

    return check


for experiment in filter(taken, EXPERIMENTS):

    rule:
        name:
            f"take_{experiment}"
        input:
            again_if_not_as_offered(experiment),
        output:
            [f"{folder_of(offer.cell)}/{name}" for offer in taken(experiment) for name in ("rows.csv", "cell.json")],
        log:
            f"{ROOT}/logs/take/{experiment}.log",
        priority: 1
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 30 * attempt,
        params:
            root=lambda wildcards: ROOT,
            experiment=experiment,
            folder=lambda wildcards: str(REFERENCE.folder),
            cells=",".join(offer.cell.id for offer in taken(experiment)),
            offers=hashlib.sha256(json.dumps([offer.origin() for offer in taken(experiment)]).encode()).hexdigest()[:16],
            fingerprint=code("harness.reference"),
        shell:
            "pudle reference take {params.experiment} --root {params.root:q} --folder {params.folder:q} --cells {params.cells:q} 2> {log:q}"
