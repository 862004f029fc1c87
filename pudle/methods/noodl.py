"""NOODL, with hard-thresholded iterations for the codes and sign descent for the dictionary."""

from pudle.methods import Field, register
from pudle.methods.sign_descent import SignDescent

_PAPER = "Rambhatla, Li & Haupt, ICLR 2019 (arXiv 1902.11261)"


@register("noodl")
class Noodl(SignDescent):
    """NOODL as in its paper: codes start from HT_{C/2}(Dᵀx) and take hard-thresholded gradient steps; a sign gradient follows."""

    source = _PAPER

    class Settings(SignDescent.Settings):
        step: float = Field(0.2, gt=0, description="Step size η_x of the codes.")
        threshold: float = Field(0.1, gt=0, description="Hard threshold τ of the codes; not multiplied by the step.")
        n_layers: int = Field(100, ge=1, description="Steps of the codes.")

    def start(self, x):
        """The initial codes (n, p)."""
        return super().encode(x)

    def encode(self, x):
        from pudle.core.gradients import unrolled_codes
        from pudle.core.unrolling import Unrolling

        unrolling = Unrolling(threshold=self.settings.threshold, step=self.settings.step, n_layers=self.settings.n_layers)
        return unrolled_codes(x, self.dictionary, unrolling, self.start(x))


@register("noodl-as-published")
class NoodlAsPublished(Noodl):
    """NOODL as in PUDLE's released code: codes start from zero, and η is effectively 0.4 (it is divided by the batch size twice)."""

    source = f"{_PAPER}, as run for Tolooshams & Ba, TMLR 2022"

    class Settings(Noodl.Settings):
        learning_rate: float = Field(0.4, gt=0, description="Effective step size η of the dictionary.")

    def start(self, x):
        return x.new_zeros(len(x), self.dictionary.shape[1])
