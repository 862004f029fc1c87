"""Pin every package: requirements.txt, requirements-docs.txt and environment.yml from pyproject.toml, by `uv pip compile`.

    python tools/pins.py            keeps the present pins, and resolves new packages
    python tools/pins.py --upgrade  takes the newest versions; other options go to uv as well

The packages of CUDA that torch needs on some systems are left to torch: whoever has a wheel without CUDA needs none of them.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYTHON = "3.11"  # the oldest that is supported
LEFT_TO_TORCH = re.compile(r"(nvidia|cuda)-|triton==")
APART = {"bm3d", "docs"}  # a licence for non-commercial use; the documentation has a file of its own
NOT_IN_CONDA = {"ci", *APART}  # the programs behind these wheels have other names there
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
CONDA = f"""\
# The same versions as requirements.txt, under the names that conda-forge and bioconda give them. Made by `make pins`.
name: pudle
channels: [conda-forge, bioconda, nodefaults]
dependencies:
  - python={PYTHON}
"""


def compile_pins(file: str, *options: str) -> dict[str, str]:
    """Write the pins that ``uv`` resolves to ``file``, which holds those to keep; package → version."""
    command = ["uv", "pip", "compile", "pyproject.toml", f"--python-version={PYTHON}", "--no-header", "--no-annotate"]
    subprocess.run([*command, "--no-emit-index-url", "--no-emit-find-links", "--quiet", f"--output-file={file}", *options],
                   cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    lines = [line for line in read(file) if not LEFT_TO_TORCH.match(line)]
    write(file, lines)
    return dict(line.split("==") for line in lines)


def read(file: str) -> list[str]:
    return (ROOT / file).read_text(encoding="utf-8").splitlines()


def write(file: str, lines: list[str]) -> None:
    (ROOT / file).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(*options: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pins = compile_pins("requirements.txt", *(f"--extra={extra}" for extra in extras if extra not in APART), *options)
    docs = compile_pins("requirements-docs.txt", "--extra=docs", "--constraint=requirements.txt", *options)
    write("requirements-docs.txt", [f"{name}=={version}" for name, version in docs.items() if name not in pins])
    direct = project["dependencies"] + [line for extra in extras if extra not in NOT_IN_CONDA for line in extras[extra]]
    names = dict.fromkeys(Requirement(line).name for line in direct)
    conda = [f"  - {CONDA_NAMES.get(name, name)}={pins[name]}" for name in names]
    write("environment.yml", [*CONDA.splitlines(), *conda])


if __name__ == "__main__":
    main(*sys.argv[1:])
