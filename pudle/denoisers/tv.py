"""Total variation, with scikit-image."""

from pudle.denoisers import Field, register
from pudle.denoisers.noise_estimation import BlindDenoiser


@register("tv")
class TotalVariation(BlindDenoiser):
    """The image of least total variation whose distance from the noisy image is the noise level (scikit-image's denoise_tv_chambolle)."""

    source = "Rudin, Osher & Fatemi, 1992; Chambolle, 2004, whose rule finds the weight"

    class Settings(BlindDenoiser.Settings):
        rounds: int = Field(10, ge=1, description="Corrections of the weight, each with the factor noise over residual.")

    def denoise(self, noisy):
        import numpy as np
        from skimage.restoration import denoise_tv_chambolle

        sigma = self.level(noisy)
        weight = sigma
        for _ in range(self.settings.rounds):
            estimate = denoise_tv_chambolle(noisy, weight)
            weight *= sigma / max(float(np.sqrt(np.mean((noisy - estimate) ** 2))), 1e-12)
        return estimate
