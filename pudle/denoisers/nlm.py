"""Non-local means, with scikit-image."""

from pudle.denoisers import Field, register
from pudle.denoisers.noise_estimation import BlindDenoiser


@register("nlm")
class NonLocalMeans(BlindDenoiser):
    """Averages over pixels with similar surroundings (scikit-image's denoise_nl_means, fast mode)."""

    source = "Buades, Coll & Morel, CVPR 2005; Darbon et al., ISBI 2008 (fast mode)"

    class Settings(BlindDenoiser.Settings):
        patch: int = Field(5, ge=1, description="Height and width of the surroundings that are compared.")
        distance: int = Field(6, ge=1, description="How far, in pixels, similar surroundings are looked for.")
        cut: float = Field(
            0.6, gt=0, description="Decay of the weights, as a multiple of the noise; 0.6 as scikit-image advises."
        )

    def denoise(self, noisy):
        from skimage.restoration import denoise_nl_means

        settings, sigma = self.settings, self.level(noisy)
        options = {"patch_size": settings.patch, "patch_distance": settings.distance, "fast_mode": True}
        return denoise_nl_means(noisy, h=settings.cut * sigma, sigma=sigma, **options)
