"""``pudle doctor``, which checks set-up, data sets, GPU, cluster profile and caches."""

import importlib.metadata
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

import pudle
from pudle.data import catalogue
from pudle.harness import provenance

HOME = Path(pudle.__file__).resolve().parents[1]
TESTED = {"Linux": "", "Darwin": "not tested by its authors", "Windows": "the workflow does not run; the library is not tested"}


class Line(NamedTuple):
    """One finding: what was checked, its state ("ok", "note" for something optional, or "wrong"), and details or advice."""

    what: str
    how: str
    said: str


@click.command()
def doctor():
    """Check set-up, data sets, GPU, cluster profile and caches; exit with status 1 if anything is wrong."""
    lines = list(findings(HOME, Path.cwd()))
    for line in lines:
        click.echo(f"{line.how:<5}  {line.what:<12}  {line.said}")
    sys.exit(int(any(line.how == "wrong" for line in lines)))


def findings(home: Path, folder: Path) -> Iterator[Line]:
    """All findings for the code in ``home``, run from ``folder``."""
    yield _system()
    yield _packages(home / "requirements.txt")
    yield _workflow(home)
    yield _compiled()
    yield _gpu()
    yield from _data()
    yield _cluster()
    yield _results(folder)


def _system() -> Line:
    here = f"pudle {pudle.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    caveat = TESTED.get(platform.system(), "not tested")
    return Line("system", "note" if caveat else "ok", f"{here}{f': {caveat}' if caveat else ''}")


def _packages(pins: Path) -> Line:
    if not pins.is_file():
        return Line("packages", "note", "the package has no requirements.txt beside it, so that versions cannot be checked")
    pinned = dict(line.split("==") for line in pins.read_text(encoding="utf-8").splitlines())
    installed = {_normal(name): version for name, version in provenance.packages().items()}
    missing = [name for name in pinned if _normal(name) not in installed]
    other = [
        f"{name} {installed[_normal(name)]}, pinned {version}"
        for name, version in pinned.items()
        if name not in missing and installed[_normal(name)].split("+")[0] != version
    ]
    if missing:
        return Line("packages", "wrong", f"{len(missing)} of {len(pinned)} pinned are missing: {_few(missing)}; `make setup`")
    if other:
        return Line("packages", "note", f"{len(other)} of {len(pinned)} have another version than pinned: {_few(other)}")
    return Line("packages", "ok", f"all {len(pinned)} at their pinned versions")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _workflow(home: Path) -> Line:
    if not (home / "Snakefile").is_file():
        return Line("workflow", "note", "the package is installed without a checkout; the workflow runs from a checkout only")
    if not (home / "profiles" / "default").is_dir():
        advice = "copy workflow/profiles to profiles, or give `--profile workflow/profiles/default`"
        return Line("workflow", "wrong", f"{home / 'profiles'} is not a link, as after a download as ZIP: {advice}")
    if not shutil.which("snakemake") and not (Path(sys.executable).parent / "snakemake").exists():
        return Line("workflow", "wrong", "snakemake is not on the path: `source .venv/bin/activate`")
    return Line("workflow", "ok", f"{home / 'Snakefile'}")


def _compiled() -> Line:
    from pudle.kernels import backward, cache

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not cache.keeps_code():
            return Line(
                "compiled", "wrong", "no folder for compiled loops is writable; set NUMBA_CACHE_DIR to a writable folder"
            )
    folder = Path(backward.run_samples.stats.cache_path)
    kept = len(list(folder.glob("*.nbc")))
    return Line("compiled", "ok", f"{kept} compiled loops in {folder}" if kept else "none yet; the first run compiles loops")


def _gpu() -> Line:
    import torch

    if torch.cuda.is_available():
        return Line("GPU", "ok", f"{torch.cuda.get_device_name()}: `snakemake --config device=cuda`")
    return Line("GPU", "note", "torch finds no GPU; everything runs on the CPU")


def _data() -> Iterator[Line]:
    root = catalogue.data_root()
    for name in catalogue.FOLDERS | catalogue.DIGITS:
        there = catalogue.is_there(name, root)
        advice = f"`pudle data fetch {name}`" if name in catalogue.FOLDERS else "see config/README.md"
        said = f"in {root}" if there else f"not in {root.resolve()}; only the paper scale needs it: {advice}"
        yield Line(f"data {name}", "ok" if there else "note", said)


def _cluster() -> Line:
    submit = next(filter(shutil.which, ("sbatch", "qsub", "bsub")), None)
    plugins = sorted(
        found.name.removeprefix("snakemake-executor-plugin-")
        for found in importlib.metadata.distributions()
        if found.name and found.name.startswith("snakemake-executor-plugin-")
    )
    has = f"executors for Snakemake: {', '.join(plugins)}" if plugins else "no executor plug-in for Snakemake is installed"
    if not submit:
        return Line("cluster", "note", f"no sbatch, qsub or bsub on the path; {has}")
    return Line("cluster", "ok" if plugins else "note", f"{submit} is on the path; {has}")


def _results(folder: Path) -> Line:
    runs = sorted(path.parent.name for path in (folder / "results").glob("*/config.json"))
    free = shutil.disk_usage(folder).free / 2**30
    said = f"in {folder / 'results'}: {', '.join(runs) if runs else 'none yet'}; {free:.0f} GiB free on the disk"
    return Line("results", "ok" if free > 1 else "wrong", said)
