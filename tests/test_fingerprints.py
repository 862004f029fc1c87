"""Fingerprints of code: what changes them, what does not, and which modules they cover; what planning imports."""

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pudle import experiments, methods
from pudle.harness import provenance

CONFIG = Path(__file__).parents[1] / "config"


def test_fingerprint_follows_imports_and_ignores_comments(tmp_path, monkeypatch):
    package = tmp_path / "toypackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("A = 1\n")
    (package / "top.py").write_text("from toypackage.deep import A\n")
    (package / "other.py").write_text("B = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def now():
        return provenance.fingerprint("toypackage.top")

    first = now()
    (package / "other.py").write_text("B = 2\n")
    for same in ("A = 1  # a comment\n\n", '"""What it is."""\n\nA = 1\n', '"""Other words."""\nA = (1)\n'):
        (package / "deep.py").write_text(same)
        assert now() == first
    (package / "deep.py").write_text("A = 2\n")
    assert now() != first


def test_the_error_for_a_missing_module_names_it():
    with pytest.raises(ModuleNotFoundError, match=r"no module 'pudle\.nothing'"):
        provenance.fingerprint("pudle.nothing")


CODE = '''
"""A docstring."""
from package import name as other

@decorate(x=1)
class Some(Base):
    """A docstring."""
    constant: float = 1e-3

async def run(a, /, b=2, *rest, c: int = 0x10, **more):
    "A docstring."
    "No docstring: a second string."
    async with a as b, c:
        x = [y async for y in b if not y] or {**more, "k": -1j}
    text = f"{a!r:>{b}} and {a + 1:.3f}" "joined" f"{'nested'}{{}}"
    match x:
        case [1, *others] if others:
            return lambda u: u ** 0.1, ..., b"bytes", 10**2_0
    try:
        del x[1:2, ::3]
    except* (A, B) as error:
        raise error from None
'''


def test_canonical_code_is_the_same_on_every_python():
    """The digits were recorded with Python 3.11; they are those of 3.12 and 3.13, too."""
    assert hashlib.sha256(provenance.canonical(ast.parse(CODE)).encode()).hexdigest()[:16] == "b5d002db48ff57db"
    reworded = CODE.replace('"A docstring."', '"Other words, é."').replace("    text", "\n\n    text")
    assert provenance.canonical(ast.parse(reworded)) == provenance.canonical(ast.parse(CODE))
    for before, after in (
        ("1e-3", "1e-4"),
        ("!r", "!s"),
        ("a second", "another"),
        ("[1, *others]", "[2, *others]"),
        (".3f", ".4f"),
    ):
        assert provenance.canonical(ast.parse(CODE.replace(before, after))) != provenance.canonical(ast.parse(CODE))


def test_fingerprints_of_the_experiments_reach_the_mathematics_but_not_the_plots():
    for experiment in experiments.EXPERIMENTS:
        seen = provenance.modules(f"pudle.experiments.{experiment}.run")
        assert "pudle.errors" in seen and "pudle.analysis.style" not in seen and "pudle.cli" not in seen
        cells_ = experiments.plan(yaml.safe_load((CONFIG / "config.yaml").read_text()))
        with_methods = {cell.experiment for cell in cells_ if cell.settings.get("method") == "pudle-ae-ls"}
        reached = seen | (provenance.modules(methods.get("pudle-ae-ls").__module__) if experiment in with_methods else set())
        assert "pudle.core.unrolling" in reached


def test_fingerprints_of_claims_and_of_figures_do_not_depend_on_each_other():
    for experiment in experiments.EXPERIMENTS:
        of_claims, of_figures = (provenance.modules(f"pudle.experiments.{experiment}.{part}") for part in ("claims", "figures"))
        assert f"pudle.experiments.{experiment}" not in of_claims | of_figures
        assert f"pudle.experiments.{experiment}.figures" not in of_claims
        assert f"pudle.experiments.{experiment}.claims" not in of_figures


def test_planning_imports_every_experiment_and_neither_torch_nor_matplotlib():
    code = (
        "import sys; from pudle import experiments; list(map(experiments.get, experiments.EXPERIMENTS)); "
        "print(*(name for name in ('torch', 'matplotlib', 'skimage') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_functions_and_controls_that_experiments_load_later_exist():
    for experiment in experiments.EXPERIMENTS:
        assert callable(experiments.get(experiment).run.load())
        assert {control.id for control in experiments.controls(experiment)} or not experiments.has_controls(experiment)
