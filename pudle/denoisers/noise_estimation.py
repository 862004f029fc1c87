"""The base of denoisers that estimate the noise level."""

from typing import Literal

from pudle.denoisers import Denoiser, Field, Settings


class BlindDenoiser(Denoiser):
    """Estimates the noise level of each image with scikit-image, from its finest wavelet coefficients (Donoho & Johnstone, 1994)."""

    class Settings(Settings):
        noise: Literal["estimated", "known"] = Field(
            "estimated", description="Standard deviation of the noise: estimated from each image, or the true one."
        )

    def level(self, noisy):
        """The standard deviation of the noise in ``noisy``, estimated or known."""
        from skimage.restoration import estimate_sigma

        return self.sigma if self.settings.noise == "known" else float(estimate_sigma(noisy))
