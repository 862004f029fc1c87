"""Block matching and collaborative filtering, with the package of its authors."""

from pudle.denoisers import Denoiser, register
from pudle.errors import PudleError


@register("bm3d")
class Bm3d(Denoiser):
    """Joint shrinkage of groups of similar blocks (package bm3d)."""

    source = "Dabov, Foi, Katkovnik & Egiazarian, IEEE TIP 2007; Mäkinen, Azzari & Foi, IEEE TIP 2020"
    note = "Needs the package bm3d, whose licence is for non-commercial use and which is therefore not installed by default: pip install bm3d"

    def denoise(self, noisy):
        try:
            from bm3d import bm3d
        except ImportError as error:
            raise PudleError(
                f"denoiser 'bm3d' needs the package bm3d ({error}): pip install bm3d, if its licence (non-commercial use only) allows"
            ) from None
        return bm3d(noisy.astype(float), sigma_psd=self.sigma)
