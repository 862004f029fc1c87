"""The noisy image as its own estimate."""

from pudle.denoisers import Denoiser, register


@register("noisy")
class Noisy(Denoiser):
    """The noisy image itself, the baseline that all denoisers should exceed."""

    source = "none"
    improves = False

    def denoise(self, noisy):
        return noisy
