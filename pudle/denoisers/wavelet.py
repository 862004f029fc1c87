"""Wavelet shrinkage, with scikit-image."""

from pudle.denoisers import Field, register
from pudle.denoisers.noise_estimation import BlindDenoiser


@register("wavelet")
class Wavelet(BlindDenoiser):
    """Soft thresholding of wavelet coefficients, with thresholds from the variance of each band (BayesShrink)."""

    source = "Chang, Yu & Vetterli, IEEE TIP 2000; Coifman & Donoho, 1995 (shifts)"

    class Settings(BlindDenoiser.Settings):
        wavelet: str = Field("db2", min_length=1, description="Name of the wavelet, as PyWavelets has it.")
        shifts: int = Field(
            0, ge=0, description="Averages over all shifts by up to so many pixels down and to the right (cycle spinning)."
        )

    def denoise(self, noisy):
        from skimage.restoration import cycle_spin, denoise_wavelet

        options = {"sigma": self.level(noisy), "wavelet": self.settings.wavelet, "method": "BayesShrink", "rescale_sigma": True}
        if not self.settings.shifts:
            return denoise_wavelet(noisy, **options)
        return cycle_spin(noisy, denoise_wavelet, self.settings.shifts, workers=1, func_kw=options)
