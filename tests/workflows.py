"""Runs for tests: Snakemake on a copy of the repository, as a user runs it, and a small run made without it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from click.testing import CliRunner

from pudle import cli, experiments
from pudle.audit.run import Run
from pudle.experiments import EXPERIMENTS
from pudle.harness import plan

ROOT = Path(__file__).parents[1]
TOY = {
    "scale": "toy",
    "seeds": 2,
    "experiments": dict.fromkeys(EXPERIMENTS)
    | {
        "unrolling": {"n_samples": 20, "n_layers": 4},
        "learning": {"n_samples": 20, "n_layers": [3, 4], "estimators": ["dec", "ae-ls"], "updates": 3},
    },
}
SMALL = {
    "n_samples": 40,
    "n_features": 10,
    "n_atoms": 12,
    "sparsity": 2,
    "batch": 10,
    "epochs": 1,
    "evaluate_every": 2,
    "variants": {"noise": {"noise": 0.1}, "batch-4": {"batch": 4}},
    "methods": {"pudle-dec": {}, "pudle-ae-ls": {}},
}


class Workflow:
    """Snakemake on a checkout, with one overlay."""

    def __init__(self, checkout: Path, folder: Path, config: dict):
        self.checkout, self.folder, self.overlay = checkout, folder, folder / "toy.yaml"
        self.configure(config)

    def configure(self, config: dict) -> None:
        self.overlay.write_text(yaml.safe_dump(config))

    @property
    def root(self) -> Path:
        return self.folder / "results" / yaml.safe_load(self.overlay.read_text())["scale"]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "-s", f"{self.checkout}/Snakefile", "--directory", str(self.folder),
                "--configfile", str(self.overlay), *words]  # fmt: skip

    def __call__(self, *words: str, status: int = 0) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PUDLE_DATA"}
        done = subprocess.run(self.command(*words), capture_output=True, text=True, env=environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *words: str, **options) -> subprocess.Popen:
        """Started in the background; an interrupt reaches it even where pytest itself was started by a shell that ignores them."""
        command = ["env", "--default-signal=INT", *self.command(*words)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)

    def jobs(self, *words: str) -> dict[str, int]:
        """What would run: job → count."""
        lines = self("--dry-run", *words).split("Job stats:")
        if len(lines) == 1:
            return {}
        table = lines[1].strip().splitlines()[2:]
        counts = dict(line.split() for line in table[: next(i for i, line in enumerate(table) if line.startswith("total"))])
        return {job: int(count) for job, count in counts.items()}

    def outputs(self) -> dict[str, bytes]:
        """Everything that must not depend on when or how often the workflow ran."""
        return repeatable(self.root)


def repeatable(root: Path) -> dict[str, bytes]:
    """The files of a run that another run makes again: not those with seconds, memory or times of day, and not the logs."""
    from pudle.audit.run import Run, on_disk

    run = Run(root)
    names = [path.relative_to(root).as_posix() for path in on_disk(root)]
    return {name: (root / name).read_bytes() for name in names if not run.unrepeatable(name)}


def copy_of_the_repository(folder: Path) -> Path:
    """Its tracked files, and those that are to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    os.symlink("workflow/profiles", folder / "profiles")
    return folder


def pudle(*words: object, status: int = 0) -> str:
    """What ``pudle WORDS`` says, in this process."""
    done = CliRunner().invoke(cli.main, [str(word) for word in words])
    assert done.exit_code == status, (done.output, done.exception)
    return done.output


def saved(root: Path, config: dict) -> Path:
    """``root`` with this configuration and its plan, as the workflow's first rule writes them."""
    pudle("configuration", json.dumps(config), "--root", root)
    return root


def configured(root: Path, experiment: str, seeds: int = 2, **section: object) -> list[str]:
    """Keep the configuration and the plan of a run of one experiment in ``root``, with these settings in place of the default scale's.

    Returns what names its first cell to ``pudle cell``: the folder, and ``experiment/id``.
    """
    merged = yaml.safe_load((ROOT / "config" / "config.yaml").read_text()) | {"scale": root.name, "seeds": seeds}
    merged["experiments"] = {experiment: {**(merged["experiments"].get(experiment) or {}), "seeds": seeds, **section}}
    return [str(saved(root, merged)), f"{experiment}/{plan.read(root)[0].id}"]


def make_small_run(root: Path) -> Path:
    """All steps of the workflow for four small cells of one experiment, by the commands of the rules."""
    configured(root, "robustness", seeds=3, **SMALL)
    for cell in Run(root).cells:
        pudle("cell", root, f"robustness/{cell.id}", "--fingerprint", experiments.fingerprint(cell))
    of_experiment = [[stage, "robustness"] for stage in ("controls", "tables", "figures")]
    for words in (*of_experiment, ["coverage"], ["verdicts"], ["published"], ["report"]):
        pudle(*words, "--root", root)
    pudle("manifest", "--root", root, "--snakefile", ROOT / "Snakefile")
    return root
