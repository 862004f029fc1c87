"""A user's own method is as good as a built-in: plugins, the commands about methods, and the contract that catches a broken one."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pudle import methods
from pudle.cli import main
from pudle.errors import PudleError
from pudle.harness import provenance
from pudle.methods.check_method import PROMISES, BrokenPromise, check

BEFORE = methods.names()


MINE = '''
from pudle.methods import Field, Method, Settings, register

@register("mine")
class Mine(Method):
    """A method of mine."""
    source = "me"

    class Settings(Settings):
        rate: float = Field(0.1, description="How fast.")

    def update(self, batch):
        pass
'''


def _forget(*names):
    """As if the plugins that registered ``names`` had never been loaded."""
    for module in {methods.REGISTRY.classes.pop(name).__module__ for name in names}:
        sys.modules.pop(module, None)


@pytest.fixture(autouse=True)
def _forget_plugins():
    yield
    _forget(*set(methods.names()) - set(BEFORE))


def test_a_plugin_is_a_method_like_any_other(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    methods.load_plugins([file, file])
    methods.load_plugins([str(file)])
    assert "mine" in methods.names() and methods.source_file("mine") == file
    assert methods.validate("mine", {}) == {"rate": 0.1}
    created = methods.create("mine", torch.eye(3), {}, np.random.default_rng(0))
    assert created.dictionary.equal(torch.eye(3))
    with pytest.raises(PudleError, match=r"'mine': unknown setting 'rat': did you mean 'rate'"):
        methods.validate("mine", {"rat": 1})
    assert re.fullmatch(r"[0-9a-f]{16}", methods.fingerprint("mine"))


def test_the_fingerprint_follows_the_file_and_what_it_imports(tmp_path):
    def now(text, folder):
        file = tmp_path / folder / "mine.py"
        file.parent.mkdir()
        file.write_text(text)
        methods.load_plugins([file])
        found = methods.fingerprint("mine")
        _forget("mine")
        return found

    first = now(MINE, "a")
    assert now(MINE + "# a comment\n", "b") == first
    assert now(MINE.replace("0.1", "0.2"), "c") != first
    assert now(MINE.replace("pass", "import pudle.core.unrolling"), "d") != now(
        MINE.replace("pass", "import pudle.core.metrics"), "e"
    )


HELPED = "import sys; sys.path.insert(0, __file__.rpartition('/')[0])\n{}\n" + MINE


@pytest.mark.parametrize(
    "helper",
    ["helper_a.py", "helper_b/__init__.py", "helper_c/deep.py", "below/helper_d.py"],
    ids=lambda name: name.split("/")[0],
)
def test_what_a_plugin_imports_from_its_own_folder_belongs_to_it(helper, tmp_path, monkeypatch):
    """A module, a package, a module that a package imports, and a folder below that is put on the path."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for suffix in ("py", "so"):  # what only lies beside does not count
        (tmp_path / f"other.{suffix}").write_text("A = 1\n", encoding="utf-8")
    home, _, name = helper.removesuffix(".py").rpartition("/")
    (tmp_path / helper).parent.mkdir(exist_ok=True)
    if home == "helper_c":
        (tmp_path / home / "__init__.py").write_text("from .deep import FACTOR\n", encoding="utf-8")
    if home == "below":
        monkeypatch.syspath_prepend(str(tmp_path / home))
    top = name if home in ("", "below") else home
    (tmp_path / "mine.py").write_text(HELPED.format(f"from {top} import FACTOR"), encoding="utf-8")
    (tmp_path / helper).write_text("FACTOR = 0.1\n", encoding="utf-8")
    methods.load_plugins([tmp_path / "mine.py"])
    module = methods.get("mine").__module__
    first, code = methods.fingerprint("mine"), provenance.code(module)
    assert any(f".{top}" in known for known in code) and not any("other" in known for known in code)
    (tmp_path / helper).write_text("FACTOR = -0.3\n", encoding="utf-8")
    assert methods.fingerprint("mine") != first and provenance.code(module) != code


def test_a_module_that_is_imported_by_its_name_counts_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = HELPED.format('import importlib\nFACTOR = importlib.import_module("helper_f").FACTOR')
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    (tmp_path / "helper_f.py").write_text("FACTOR = 0.1\n", encoding="utf-8")
    methods.load_plugins([tmp_path / "mine.py"])
    first = methods.fingerprint("mine")
    (tmp_path / "helper_f.py").write_text("FACTOR = -0.3\n", encoding="utf-8")
    assert methods.fingerprint("mine") != first


def test_two_plugins_with_a_helper_of_one_name_are_refused(tmp_path, monkeypatch):
    """The second would run the first one's."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for folder, name in (("a", "mine"), ("b", "other")):
        (tmp_path / folder).mkdir()
        text = HELPED.format("from helper_e import FACTOR").replace('"mine"', f'"{name}"')
        (tmp_path / folder / f"{name}.py").write_text(text, encoding="utf-8")
        (tmp_path / folder / "helper_e.py").write_text("FACTOR = 1\n", encoding="utf-8")
    methods.load_plugins([tmp_path / "a" / "mine.py"])
    with pytest.raises(PudleError, match=r"other.py: a module with the name of .*/b/helper_e.py is loaded from another folder"):
        methods.load_plugins([tmp_path / "b" / "other.py"])
    assert "other" not in methods.names()


def test_fingerprints_of_built_in_methods_reach_what_they_use():
    seen = provenance.modules("pudle.methods.unrolled")
    assert {"pudle.core.gradients", "pudle.core.unrolling", "pudle.methods.descent", "pudle.methods"} <= seen
    assert "pudle.methods.noodl" not in seen and methods.fingerprint("noodl") != methods.fingerprint("pudle-dec")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (\n", ["mine.py fails on import", "line 1", "SyntaxError"]),
        ("import nothing_like_this\n", ["fails on import", "line 1", "ModuleNotFoundError", "nothing_like_this"]),
        ("\n\n1 / 0\n", ["line 3: ZeroDivisionError: division by zero"]),
        ("x = 1\n", ["registers nothing", "@register"]),
        (MINE.replace('"mine"', '"noodl"'), ["mine.py, line", "already a method 'noodl'", "noodl.py, line"]),
        (MINE + MINE.replace("class Mine", "class Other"), ["mine.py, line", "already a method 'mine'"]),
        (MINE.replace('"mine"', '"My Method"'), ["invalid method name 'My Method'"]),
        (MINE.replace('    """A method of mine."""\n', ""), ["'mine' lacks a docstring"]),
        (MINE.replace('    source = "me"\n', ""), ["'mine' lacks `source"]),
        (MINE.replace('Field(0.1, description="How fast.")', "0.1"), ["setting 'rate' of method 'mine' lacks a description"]),
        (MINE.replace("Mine(Method)", "Mine"), ["must be a subclass"]),
    ],
)
def test_a_broken_plugin_is_an_error_for_people(text, words, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    before = methods.names()
    for _ in range(2):  # and again: nothing of it is left behind
        with pytest.raises(PudleError) as error:
            methods.load_plugins([tmp_path / "mine.py"])
        for word in words:
            assert word in str(error.value)
        assert "\n" not in str(error.value) and methods.names() == before


def test_a_missing_plugin_is_an_error_for_people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PudleError, match=rf"plugin mine\.py: there is no such file in {tmp_path}"):
        methods.load_plugins(["mine.py"])
    with pytest.raises(PudleError, match="not a Python file"):
        methods.load_plugins([tmp_path])


def test_two_plugins_of_one_file_name_are_refused(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(MINE)
    with pytest.raises(PudleError, match=r"b/mine\.py: .*a/mine\.py is a plugin of the same name"):
        methods.load_plugins([tmp_path / "a/mine.py", tmp_path / "b/mine.py"])


def test_methods_of_installed_packages(tmp_path, monkeypatch):
    """An entry point is a method; a broken one is an error that names the package."""
    (tmp_path / "toymethods.py").write_text(MINE)
    information = tmp_path / "toymethods-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toymethods\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[pudle.methods]\nmine = toymethods:Mine\n")
    code = "from pudle import methods; print('mine' in methods.names(), methods.source_file('mine').name, methods.fingerprint('mine'))"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def run():
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert run().stdout.startswith("True toymethods.py ")
    (tmp_path / "toymethods.py").write_text("1 / 0")
    assert "the methods of toymethods (entry point mine = toymethods:Mine) fail on import: ZeroDivisionError" in run().stderr


def test_new_method_works_as_generated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = CliRunner()
    made = command.invoke(main, ["new-method", "my-method"])
    assert made.exit_code == 0 and "pudle check-method my-method --plugin my_method.py" in made.output
    assert len((tmp_path / "my_method.py").read_text().splitlines()) < 45
    checked = command.invoke(main, ["check-method", "my-method", "--plugin", "my_method.py"])
    assert checked.exit_code == 0 and checked.output.count("pass  ") == len(PROMISES), checked.output
    listed = command.invoke(main, ["methods", "--plugin", "my_method.py"]).output
    assert "my-method" in listed and "your name, year" in listed and "arXiv" in listed
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "test_my_method.py"], capture_output=True, text=True
    )
    assert tested.returncode == 0 and "1 passed" in tested.stdout, tested.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new-method", "My_Method"], "invalid method name 'My_Method'"),
        (["new-method", "noodl"], "the method 'noodl' already exists"),
        (["new-method", "there"], "already exists and is not overwritten"),
        (["new-method", "fresh", "--folder", "nowhere"], "the folder nowhere does not exist"),
        (["check-method", "nodl"], "did you mean 'noodl'"),
        (["methods", "--plugin", "nothing.py"], "there is no such file"),
    ],
)
def test_commands_refuse_in_one_paragraph(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_there.py").write_text("mine")
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["test_there.py"] and (
        tmp_path / "test_there.py"
    ).read_text() == "mine"


SOUND = """        codes = batch @ self.dictionary
        codes = codes * (codes.abs() >= 0.5)
        self.move_to(self.dictionary - (codes @ self.dictionary.T - batch).T @ codes / len(batch))
"""


@pytest.mark.parametrize(
    ("body", "promise", "measured"),
    [
        ("        pass\n", "lower error on an easy problem", "error 0.167 before and 0.167 after 200 batches of 50"),
        (SOUND + "        self.dictionary = self.dictionary * 2\n", "atoms of norm 1", "norm is 1 from 1"),
        (SOUND + "        batch += 1\n", "unchanged inputs", "the method changed a batch by up to 1"),
        (
            SOUND + "        import torch\n        self.move_to(self.dictionary + 1e-3 * torch.randn(32, 32).to(batch))\n",
            "same seed, same result",
            "differ by up to",
        ),
        ("        self.dictionary = self.dictionary.double()\n", "right shapes and types", "type torch.float64, not a"),
        ("        self.dictionary = self.dictionary[:3]\n", "right shapes and types", "shape (3, 32)"),
        (SOUND + "        self.dictionary = self.dictionary / (len(batch) - 1)\n", "batches of one sample", "not finite"),
        ("        raise RuntimeError('boom')\n", "batches of one sample", "mine.py, line 13: RuntimeError: boom"),
    ],
)
def test_the_contract_catches(body, promise, measured, tmp_path):
    (tmp_path / "mine.py").write_text(MINE.replace("        pass\n", body))
    methods.load_plugins([tmp_path / "mine.py"])
    done = CliRunner().invoke(main, ["check-method", "mine"])
    assert done.exit_code == 1
    line = next(line for line in done.output.splitlines() if line.startswith(f"FAIL  {promise}: "))
    assert measured in line
    with pytest.raises(BrokenPromise, match=re.escape(promise)):
        check("mine")


def test_the_contract_catches_a_changed_start(tmp_path):
    grabbing = "    def __init__(self, dictionary, settings, generator):\n        self.dictionary, self.settings = dictionary, settings\n"
    text = MINE.replace("    def update", f"{grabbing}\n    def update").replace(
        "        pass\n", "        self.dictionary += 1\n"
    )
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(BrokenPromise, match="the method changed the initial dictionary"):
        check("mine", plugins=[tmp_path / "mine.py"])
