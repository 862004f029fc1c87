"""The neurally plausible methods of Arora et al., with codes from one step and sign descent for the dictionary."""

from pudle.methods import register
from pudle.methods.sign_descent import SignDescent

_BLOCK = 10_000  # pairs of a sample and an atom that are processed at a time, which bounds the memory
_PAPER = "Arora, Ge, Ma & Moitra, COLT 2015 (arXiv 1503.00778)"


@register("arora-biased")
class AroraBiased(SignDescent):
    """Codes HT_{C/2}(Dᵀx) and a sign gradient. It is cheap, but its error does not converge to 0."""

    source = _PAPER


@register("arora-unbiased")
class AroraUnbiased(SignDescent):
    """arora-biased with codes recomputed for each atom after projecting it out of the other atoms, which removes the bias."""

    source = _PAPER
    note = "As written m times dearer than arora-biased; here n s p + m p² operations for a batch of n."

    def gradient(self, batch):
        r"""Column i is mean[(B⁽ⁱ⁾z⁽ⁱ⁾ − x) sign(zᵢ)], with columns B⁽ⁱ⁾_i = D_i and B⁽ⁱ⁾_j = D_j − G_ij D_i, G = DᵀD.

        Only samples with zᵢ ≠ 0 contribute, and B⁽ⁱ⁾ does not depend on the sample, so that v⁽ⁱ⁾ = mean[z⁽ⁱ⁾ sign(zᵢ)] suffices:
        B⁽ⁱ⁾v = Dv − D_i (Gv − v)_i. Moreover B⁽ⁱ⁾ᵀx = Dᵀx − G_i (Dᵀx)_i except for entry i, which is (Dᵀx)_i.
        """
        import torch

        from pudle.core.unrolling import hard_threshold

        dictionary, gram, correlation = self.dictionary, self.dictionary.T @ self.dictionary, batch @ self.dictionary
        signs = self.encode(batch).sign()
        means = torch.zeros_like(gram)  # rows v⁽ⁱ⁾
        for samples, atoms in zip(*(index.split(_BLOCK) for index in signs.nonzero(as_tuple=True)), strict=True):
            pairs, own = torch.arange(len(atoms), device=atoms.device), correlation[samples, atoms]
            projected = correlation[samples] - gram[atoms] * own[:, None]
            projected[pairs, atoms] = own
            codes = hard_threshold(projected, self.settings.amplitude / 2)
            means.index_add_(0, atoms, codes * own.sign()[:, None] / len(batch))
        shift = (gram * means).sum(1) - means.diagonal()
        return dictionary @ means.T - shift * dictionary - batch.T @ signs / len(batch)
