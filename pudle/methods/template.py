"""The template of a method, for ``pudle new-method NAME``."""

from pathlib import Path
from string import Template

from pudle import methods
from pudle.errors import PudleError


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a working method ``name`` and its test into ``folder``; returns both paths.

    Raises :class:`PudleError` if the name is invalid or taken, the folder is missing, or a file already exists.
    """
    if not methods.NAME.fullmatch(name):
        raise PudleError(f"invalid method name {name!r}: use lower-case words joined by hyphens, for example 'my-method'")
    if name in methods.names():
        raise PudleError(f"the method {name!r} already exists in {methods.source_file(name)}; choose another name")
    if not folder.is_dir():
        raise PudleError(f"the folder {folder} does not exist")
    module = name.replace("-", "_")
    file, test = folder / f"{module}.py", folder / f"test_{module}.py"
    for path in (file, test):
        if path.exists():
            raise PudleError(f"{path} already exists and is not overwritten; choose another name or --folder")
    class_name = "".join(word.capitalize() for word in name.split("-"))
    words = {"name": name, "module": module, "class_name": class_name, "file": file.name, "test": test.name}
    for path, template in ((file, "method.py.txt"), (test, "test_method.py.txt")):
        path.write_text(
            Template((Path(__file__).parent / "templates" / template).read_text(encoding="utf-8")).substitute(words),
            encoding="utf-8",
        )
    return file, test
