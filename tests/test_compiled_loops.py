"""Compiled loops on disk and for processors: when they are compiled again, and what happens where they cannot be kept."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pudle.kernels import simd
from pudle.kernels.cache import forget_stale_code


def test_compiled_loops_follow_the_source_of_all_their_modules(tmp_path):
    """numba alone would go on with a loop compiled before a function that it calls was changed in another file."""
    source, other = tmp_path / "rows.py", tmp_path / "working_sets.py"
    source.write_text("1")
    other.write_text("1")
    kept, compiled = tmp_path / "metrics.f-1.py311.nbi", tmp_path / "working_sets.f-1.py311.nbi"
    for file in (kept, compiled):
        file.touch()
    loops = SimpleNamespace(stats=SimpleNamespace(cache_path=tmp_path))
    modules = [SimpleNamespace(__file__=str(source)), SimpleNamespace(__file__=str(other))]
    forget_stale_code(loops, *modules)
    assert kept.exists() and not compiled.exists()
    compiled.touch()
    forget_stale_code(loops, *modules)
    assert compiled.exists()
    source.write_text("2")
    forget_stale_code(loops, *modules)
    assert not compiled.exists()


@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of these processors are x86's")
def test_kernels_compile_for_processors_with_and_without_avx_512(processor, tmp_path):
    program = """
import numpy as np
from pudle.kernels import backward, forward, simd
for number in (np.float32, np.float64):
    arguments = np.ones(48, number), np.ones(32, number), np.ones(32, number)
    values, codes, marks = np.ones(64, number), np.ones(32, number), np.zeros(4, np.uint8)
    for loop, given in (
        (simd.pick, arguments),
        (simd.add_spread, arguments),
        (simd.compress, (values, 0, marks, 0, codes)),
        (simd.expand, (codes, values, 0, marks, 0)),
    ):
        loop.from_python.compile(tuple(map(loop.from_python.typeof_pyval, given)))
"""
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_loops_are_compiled_where_there_is_no_place_to_keep_them():
    """As in a container with a read-only installation and no home: it costs time and a line, not the run."""
    program = """
import warnings, numba.core.caching as caching
caching.CacheImpl._locator_classes = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from pudle.kernels import simd
    from pudle.core import pursuit
import numpy as np
print(simd.padded(17), [str(one.message) for one in caught if "NUMBA_CACHE_DIR" in str(one.message)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("32 ['pudle: no folder"), done.stderr
    assert done.stdout.count("pudle:") == 1


KEEPING = """
import errno, sys, warnings
from numba.core.caching import IndexDataCacheFile
from pudle.kernels.cache import compiled

@compiled(cache=True)
def twice(x):
    return 2 * x

def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")

if sys.argv[1:] == ["full"]:
    IndexDataCacheFile._open_for_write = full
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    print(twice(2), twice(2.5), sum(twice.stats.cache_hits.values()), [str(one.message) for one in caught])
"""


@pytest.fixture
def keeping(tmp_path):
    """Runs a program with a compiled loop, whose code is kept in the folder ``kept``."""
    (tmp_path / "keeping.py").write_text(KEEPING, encoding="utf-8")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}

    def run(*words, **variables):
        command = [sys.executable, str(tmp_path / "keeping.py"), *words]
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_a_full_disk_costs_the_compiled_loops_and_a_line(keeping):
    printed = keeping("full")
    assert printed.startswith("4 5.0 0 ['pudle: compiled loops cannot be kept in ") and printed.count("No space left") == 1
    assert keeping() == "4 5.0 0 []"
    assert keeping(NUMBA_DISABLE_JIT="1") == "4 5.0 2 []"  # as people set it to debug other loops


def test_a_loop_that_others_call_has_no_file_unless_python_calls_it(tmp_path):
    program = """
import sys
from pathlib import Path
from pudle.kernels.cache import compiled, inner

@inner(cache=True, forceinline=True)
def twice(x):
    return 2 * x

@compiled(cache=True)
def both(x):
    return twice(x) + 1

print(both(2), sorted(path.name.split("-")[0] for path in Path(sys.argv[1]).rglob("*.nbc")), twice(3))
print(sorted(path.name.split("-")[0] for path in Path(sys.argv[1]).rglob("*.nbc")))
"""
    (tmp_path / "loops.py").write_text(program, encoding="utf-8")
    for before in (["loops.both"], ["loops.both", "loops.twice"]):
        command = [sys.executable, str(tmp_path / "loops.py"), str(tmp_path / "kept")]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.stdout == f"5 {before} 6\n['loops.both', 'loops.twice']\n", done.stderr


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_kept_loops_that_are_damaged_are_compiled_again(kind, keeping, tmp_path):
    keeping()
    for path in (tmp_path / "kept").rglob(f"*.{kind}"):
        path.write_bytes(path.read_bytes()[:20])
    assert keeping().startswith("4 5.0 ")
    assert keeping() == "4 5.0 2 []"


def test_a_stamp_that_is_damaged_is_written_again(tmp_path):
    loops, stamp = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path))), tmp_path / "simd.sha256"
    forget_stale_code(loops, simd)
    digest = stamp.read_bytes()
    stamp.write_bytes(b"\xff\xfe")  # no text
    forget_stale_code(loops, simd)
    assert stamp.read_bytes() == digest


def test_a_folder_that_cannot_be_written_to_is_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("")
    loops = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path / "file")))
    with pytest.warns(UserWarning, match="cannot be kept"):
        forget_stale_code(loops, simd)
