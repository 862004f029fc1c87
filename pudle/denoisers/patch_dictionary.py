"""Sparse codes of overlapping patches."""

import warnings
from typing import Self

import numpy as np
from pydantic import model_validator

from pudle.denoisers import Denoiser, Field, Settings, register
from pudle.errors import PudleError

_PATCHES = 20_000  # patches that are processed at a time, which bounds the memory


@register("patch-dictionary")
class PatchDictionary(Denoiser):
    """Patches coded with as few atoms as the noise level allows, and averaged (scikit-learn's MiniBatchDictionaryLearning)."""

    source = "Elad & Aharon, IEEE TIP 2006; the dictionary: Mairal et al., JMLR 2010"

    class Settings(Settings):
        patch: int = Field(8, ge=2, description="Height and width of a patch.")
        n_atoms: int = Field(128, ge=1, description="Atoms of the dictionary.")
        lam: float = Field(0.1, gt=0, description="Sparsity level λ in learning, on clean patches without their mean.")
        n_patches: int = Field(20_000, ge=1, description="Patches to learn from, in one pass.")
        stride: int = Field(1, ge=1, description="Pixels between neighbouring patches of a noisy image; at most `patch`.")
        gain: float = Field(1.15, gt=0, description="Pursuit stops at a residual of norm gain x noise x patch.")

        @model_validator(mode="after")
        def _covers(self) -> Self:
            if self.stride > self.patch:
                raise ValueError(f"stride={self.stride} leaves gaps between patches of {self.patch} pixels")
            return self

    def fit(self, images):
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning

        from pudle.data.images import random_crops

        settings, seed = self.settings, int(self.generator.integers(2**31))
        patches = random_crops(images, settings.patch, settings.n_patches, self.generator).reshape(settings.n_patches, -1)
        learner = MiniBatchDictionaryLearning(
            settings.n_atoms, alpha=settings.lam, max_iter=1, batch_size=256, fit_algorithm="cd", random_state=seed
        )
        with warnings.catch_warnings():  # learning does not need exact codes
            warnings.simplefilter("ignore", ConvergenceWarning)
            learned = learner.fit((patches - patches.mean(1, keepdims=True)).astype(np.float64)).components_
        self._atoms = learned / np.maximum(np.linalg.norm(learned, axis=1, keepdims=True), 1e-12)

    def denoise(self, noisy):
        settings, size = self.settings, self.settings.patch
        if min(noisy.shape) < size:
            raise PudleError(f"an image of {noisy.shape[0]} x {noisy.shape[1]} pixels has no patch of {size} x {size}")
        all_rows, columns = (_starts(length, size, settings.stride) for length in noisy.shape)
        total, count = np.zeros(noisy.shape), np.zeros(noisy.shape)
        for rows in np.array_split(all_rows, -(-len(all_rows) * len(columns) // _PATCHES)):
            patches = np.lib.stride_tricks.sliding_window_view(noisy, (size, size))[np.ix_(rows, columns)]
            flat = patches.reshape(-1, size * size).astype(np.float64)
            means = flat.mean(1, keepdims=True)
            estimate = (means + self._pursue(flat - means)).reshape(patches.shape)
            for i, j in np.ndindex(size, size):
                covered = np.ix_(rows + i, columns + j)
                total[covered] += estimate[:, :, i, j]
                count[covered] += 1
        return total / count

    def _pursue(self, patches: np.ndarray) -> np.ndarray:
        """Approximations of patches (n, patch²) with as few atoms as reduce the residual to the noise level."""
        import torch

        from pudle.core.pursuit import pursue

        noise = self.settings.gain * self.sigma * self.settings.patch
        return pursue(torch.from_numpy(patches), torch.from_numpy(self._atoms.T), residual=noise).numpy() @ self._atoms


def _starts(length: int, size: int, stride: int) -> np.ndarray:
    """The first pixels of patches along one axis; the last patch ends at the border of the image."""
    return np.unique([*range(0, length - size + 1, stride), length - size])
