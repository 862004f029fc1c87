"""What every denoiser starts from."""

from pudle.denoisers import Denoiser, register


@register("noisy")
class Noisy(Denoiser):
    """The noisy image itself, as a floor for all others."""

    source = "none"
    improves = False

    def denoise(self, noisy):
        return noisy
