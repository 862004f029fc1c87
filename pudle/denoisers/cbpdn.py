"""Convolutional basis pursuit denoising, with SPORCO."""

import numpy as np

from pudle.denoisers import Denoiser, Field, Settings, register
from pudle.errors import PudleError


@register("cbpdn")
class ConvolutionalBpdn(Denoiser):
    """Lasso codes of the entire image in a convolutional dictionary with stride 1, by ADMM (SPORCO's ConvBPDN)."""

    source = "Wohlberg, IEEE TIP 2016; SciPy 2017 (SPORCO)"
    note = (
        "Needs SPORCO: pip install sporco. Codes of every pixel: some seconds an image, and memory for a copy of it per filter."
    )

    class Settings(Settings):
        n_filters: int = Field(32, ge=1, description="Filters of the dictionary.")
        kernel: int = Field(8, ge=2, description="Height and width of a filter.")
        n_crops: int = Field(20, ge=1, description="Clean crops to learn from.")
        crop: int = Field(64, ge=2, description="Height and width of these crops.")
        learning_lam: float = Field(0.1, gt=0, description="Sparsity level λ in learning.")
        learning_iterations: int = Field(50, ge=1, description="Iterations of learning.")
        lam: float = Field(2.5, gt=0, description="Sparsity level λ of the codes, as a multiple of the noise.")
        iterations: int = Field(30, ge=1, description="Iterations of ADMM for the codes.")
        smooth: float = Field(5.0, gt=0, description="Weight of the gradient in the low-pass part, which is not coded.")

    def fit(self, images):
        from pudle.data.images import random_crops

        settings = self.settings
        cbpdndl = _sporco("dictlrn.cbpdndl")
        crops = random_crops(images, settings.crop, settings.n_crops, self.generator)[:, 0]
        _, high = self._split(np.moveaxis(crops, 0, -1).astype(np.float64))
        start = self.generator.standard_normal((settings.kernel, settings.kernel, settings.n_filters))
        options = cbpdndl.ConvBPDNDictLearn.Options({"MaxMainIter": settings.learning_iterations}, dmethod="cns")
        learner = cbpdndl.ConvBPDNDictLearn(start, high, settings.learning_lam, options, dmethod="cns")
        self._filters = learner.solve().squeeze()

    def denoise(self, noisy):
        cbpdn = _sporco("admm.cbpdn")
        margin = self.settings.kernel  # since ConvBPDN has periodic boundaries
        low, high = self._split(np.pad(noisy, margin, mode="symmetric"))
        options = {"MaxMainIter": self.settings.iterations, "RelStopTol": 1e-3, "DataType": np.float32}
        solver = cbpdn.ConvBPDN(self._filters, high, self.settings.lam * self.sigma, cbpdn.ConvBPDN.Options(options))
        solver.solve()
        return (low + solver.reconstruct().squeeze())[margin:-margin, margin:-margin]

    def _split(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The low-pass part of images and the remaining part."""
        return _sporco("signal").tikhonov_filter(images, self.settings.smooth)


def _sporco(module: str):
    """A module of SPORCO, limited to torch's number of threads. By default it uses all cores and spends seconds on planning transforms."""
    from importlib import import_module

    import torch

    try:
        fft = import_module("sporco.fft")
        fft.pyfftw_threads, fft.pyfftw_planner_effort = torch.get_num_threads(), "FFTW_ESTIMATE"
        return import_module(f"sporco.{module}")
    except ImportError as error:
        raise PudleError(f"denoiser 'cbpdn' needs the package sporco ({error}): pip install sporco") from None
