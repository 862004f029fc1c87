"""Alternating minimisation with exact codes."""

from pudle.methods import Field, register
from pudle.methods.descent import Descent


@register("alternating")
class Alternating(Descent):
    """Alternating minimisation: exact lasso codes, then one step of the optimiser on the least-squares loss."""

    source = "Agarwal et al., COLT 2014 (arXiv 1310.7991); Tolooshams & Ba, TMLR 2022, gradient ĝ"

    class Settings(Descent.Settings):
        lam: float = Field(0.2, gt=0, description="Sparsity level λ.")

    def encode(self, x):
        from pudle.core.lasso import lasso

        return lasso(x, self.dictionary, self.settings.lam)

    def gradient(self, batch):
        from pudle.core.gradients import decoder_gradient

        return decoder_gradient(batch, self.dictionary, self.encode(batch))
