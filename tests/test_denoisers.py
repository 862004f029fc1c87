"""Denoisers keep their contract, do what their sources say, and a user's own is as good as a built-in."""

import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from convolutions import matrix

from pudle import denoisers, experiments
from pudle.cli import main
from pudle.core.metrics import psnr
from pudle.denoisers.check_denoiser import PROMISES, SIGMA, BrokenPromise, _Trial, check
from pudle.denoisers.patch_dictionary import _starts
from pudle.errors import PudleError
from pudle.experiments.denoising.run import run
from pudle.harness import plugins
from pudle.harness.cells import Cell
from pudle.harness.record import Record

BEFORE = denoisers.names()
QUICK = {"patch-dictionary": {"n_patches": 500, "stride": 4}, "cbpdn": {"n_crops": 2, "learning_iterations": 5, "n_filters": 8}}
MINE = '''
from pudle.denoisers import Denoiser, Field, Settings, register

@register("mean-filter")
class MeanFilter(Denoiser):
    """The mean over a square."""
    source = "me"

    class Settings(Settings):
        width: int = Field(3, ge=1, description="Pixels.")

    def denoise(self, noisy):
        from scipy.ndimage import uniform_filter

        return uniform_filter(noisy, self.settings.width)
'''


@pytest.fixture(autouse=True)
def _forget_plugins():
    yield
    for name in set(denoisers.names()) - set(BEFORE):
        sys.modules.pop(denoisers.REGISTRY.classes.pop(name).__module__)


@pytest.mark.parametrize("name", [name for name in BEFORE if name != "bm3d"])
def test_built_in_denoisers_keep_the_contract(name):
    assert len(check(name, settings=QUICK.get(name))) == len(PROMISES)


def test_bm3d_is_optional_and_says_so():
    trial = _Trial("bm3d", {})
    try:
        import bm3d  # noqa: F401
    except ImportError:
        with pytest.raises(PudleError, match=r"needs the package bm3d .*non-commercial"):
            trial.run({}, trial.noisy)
    else:
        assert psnr(trial.clean, trial.run({}, trial.noisy)) > psnr(trial.clean, trial.noisy) + 6


@pytest.mark.parametrize("name", ["nlm", "wavelet", "tv"])
def test_the_noise_is_estimated_unless_it_is_known(name):
    """With half of the true noise level given, the estimate from the estimated level has a PSNR that is at least 1 dB higher."""
    trial = _Trial(name, {})

    def quality(noise):
        return psnr(
            trial.clean, denoisers.create(name, {"noise": noise}, SIGMA / 2, np.random.default_rng(0)).denoise(trial.noisy)
        )

    assert quality("estimated") > quality("known") + 1


def test_total_variation_takes_away_as_much_as_there_is_noise():
    trial = _Trial("tv", {})
    estimate = denoisers.create("tv", {"noise": "known"}, SIGMA, np.random.default_rng(0)).denoise(trial.noisy)
    assert np.sqrt(np.mean((estimate - trial.noisy) ** 2)) == pytest.approx(SIGMA, rel=0.05)


def test_patches_cover_the_image_and_leave_what_has_no_noise():
    """Without noise every patch is explained completely, so that the averages are the image."""
    assert _starts(10, 4, 3).tolist() == [0, 3, 6] and _starts(11, 4, 3).tolist() == [0, 3, 6, 7]
    trial = _Trial("patch-dictionary", {})
    made = denoisers.create("patch-dictionary", {"n_patches": 500, "stride": 3}, 1e-9, np.random.default_rng(0))
    made.fit(trial.images)
    np.testing.assert_allclose(made.denoise(trial.clean), trial.clean, atol=1e-5)
    with pytest.raises(PudleError, match="stride=9 leaves gaps between patches of 8 pixels"):
        denoisers.validate("patch-dictionary", {"stride": 9})


def test_a_plugin_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    command = CliRunner()
    checked = command.invoke(main, ["check-denoiser", "mean-filter", "--plugin", str(file)])
    assert checked.exit_code == 0 and checked.output.count("pass  ") == len(PROMISES), checked.output
    assert "The mean over a square." in command.invoke(main, ["denoisers", "--plugin", str(file)]).output
    assert denoisers.source_file("mean-filter") == file
    with pytest.raises(PudleError, match="unknown setting 'widht': did you mean 'width'"):
        denoisers.validate("mean-filter", {"widht": 3})
    with_plugin, without = (
        Cell("denoising", settings, (0,), ())
        for settings in ({"denoiser": "mean-filter", "denoiser_settings": {"width": 3}}, {})
    )
    assert experiments.source_file(with_plugin) == file and experiments.source_file(without) is None
    assert experiments.fingerprint(with_plugin).startswith(f"{experiments.fingerprint(without)}-")


@pytest.mark.parametrize(
    ("body", "promise"),
    [
        ("return noisy[1:]", "an estimate of the right shape"),
        ("noisy *= 0.5\n        return noisy", "unchanged inputs"),
        ("import numpy as np\n        return noisy + np.random.standard_normal()", "same seed, same result"),
        ("return noisy", "half the error on an easy problem"),
        ("return noisy * np.nan", "an estimate of the right shape"),
    ],
)
def test_the_contract_catches(body, promise, tmp_path):
    (tmp_path / "mine.py").write_text(MINE.replace("return uniform_filter(noisy, self.settings.width)", body))
    with pytest.raises(BrokenPromise, match=promise):
        check("mean-filter", [tmp_path / "mine.py"])


def test_a_denoiser_that_fails_is_a_row_that_says_so(tmp_path):
    (tmp_path / "mine.py").write_text(MINE.replace("return uniform_filter(noisy, self.settings.width)", "return noisy[1:]"))
    plugins.load([tmp_path / "mine.py"])
    record = Record()
    settings = {"train": "skimage-train", "test": ["skimage-test"], "sigma": 25, "kernel": 9, "stride": 4, "time_limit": 60}
    run(settings | {"denoiser": "mean-filter", "denoiser_settings": {}}, [0, 1], record)
    assert record.status == "failed" and len(record.endings) == 2
    assert "the estimate of image 'camera' has shape" in record.endings[0]["reason"]


def test_methods_are_compared_on_the_same_noisy_images():
    """The rows of the noisy input are those of the denoiser that does nothing, and a trained network sees the same."""
    shared = {"train": "skimage-train", "test": ["skimage-test"], "sigma": 25, "kernel": 9, "stride": 4}
    trained = {"estimator": "dec", "n_filters": 2, "n_layers": 1, "step": 0.1, "lam": 0.1, "crop": 17, "batch": 1, "updates": 1}
    trained |= {"evaluate_every": 1, "learning_rate": 1e-3, "adam_eps": 1e-3}
    noisy = []
    for settings in ({"denoiser": "noisy", "denoiser_settings": {}}, trained):
        record = Record()
        run(shared | settings, [3], record)
        rows = record.rows()
        noisy.append(rows[rows.quantity == "noisy_psnr"].value.tolist())
        if "denoiser" in settings:
            assert rows[rows.quantity == "psnr"].value.tolist() == noisy[0]
    assert noisy[0] == noisy[1]
    for step in (0, 1):  # the trained network is tied: α‖D‖₂², at every evaluation
        assert len(rows[(rows.quantity == "step_times_squared_norm") & (rows.step == step)]) == 1
    dense = matrix(torch.as_tensor(record.arrays["filters/3"])[:, None], 4, 16, 16)
    last = rows[(rows.quantity == "step_times_squared_norm") & (rows.step == 1)].value.item()
    assert last == pytest.approx(0.1 * float(torch.linalg.matrix_norm(dense, 2)) ** 2, rel=1e-2)


def test_transforms_of_cbpdn_are_planned_without_a_clock_and_keep_to_the_threads(monkeypatch):
    """SPORCO measures plans, and so chose other ones, with other rounding errors, from run to run; and it took all cores."""
    fft = pytest.importorskip("sporco.fft")
    monkeypatch.setattr(fft, "pyfftw_threads", 64)
    monkeypatch.setattr(fft, "pyfftw_planner_effort", "FFTW_MEASURE")
    denoiser = denoisers.create("cbpdn", QUICK["cbpdn"], 0.1, np.random.default_rng(0))
    denoiser.fit({"noise": np.random.default_rng(1).random((80, 80), np.float32)})
    assert (fft.pyfftw_threads, fft.pyfftw_planner_effort) == (torch.get_num_threads(), "FFTW_ESTIMATE")
