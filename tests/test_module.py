"""A user's workflow takes ours as a module and adds a rule: docs/module.md as it is written."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from workflows import ROOT, TOY


@pytest.mark.slow
def test_the_workflow_is_a_module_of_another(checkout, tmp_path):
    page = (ROOT / "docs" / "module.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "Snakefile").write_text(written.replace("results/default", "results/toy"), encoding="utf-8")
    (tmp_path / "pudle").symlink_to(checkout)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "toy.yaml"]
    environment = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figure = tmp_path / "results" / "toy" / "figures" / "unrolling" / "code_convergence.pdf"
    assert (tmp_path / "article" / "figure.pdf").read_bytes() == figure.read_bytes()
    assert not (tmp_path / "results" / "toy" / "tables" / "learning.csv").exists(), "only what the rule needs"
