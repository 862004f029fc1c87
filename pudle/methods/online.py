"""Online dictionary learning, with scikit-learn."""

from pydantic import model_validator

from pudle.errors import PudleError
from pudle.methods import Field, Method, Settings, register


@register("online")
class Online(Method):
    """Online learning from lasso codes and statistics of all batches so far (scikit-learn's MiniBatchDictionaryLearning)."""

    source = "Mairal, Bach, Ponce & Sapiro, JMLR 2010 (arXiv 0908.0050)"

    class Settings(Settings):
        lam: float = Field(0.2, gt=0, description="Sparsity level λ.")
        prior: float = Field(1.0, gt=0, description="Norm of the samples that the initial atoms are fed as; must be above λ.")

        @model_validator(mode="after")
        def _atoms_are_used(self):
            if self.prior <= self.lam:
                raise ValueError(
                    f"prior = {self.prior} is not above lam = {self.lam}: scikit-learn would replace the initial atoms"
                )
            return self

    def __init__(self, dictionary, settings, generator):
        """Use the initial atoms as the first batch, whose statistics are A = t₀I and B = t₀D of Mairal et al., Section 3.4.

        Without this batch scikit-learn replaces every atom that the first batch does not use by a random sample.
        """
        from sklearn.decomposition import MiniBatchDictionaryLearning

        super().__init__(dictionary, settings, generator)
        atoms = dictionary.T.double().cpu().numpy()
        least = settings.lam + 1e-3 * len(atoms) ** 0.5  # scikit-learn replaces atoms whose mean squared code is below 1e-6
        if settings.prior <= least:
            raise PudleError(
                f"method 'online': prior = {settings.prior} is too little above lam = {settings.lam} for {len(atoms)} atoms, "
                f"which scikit-learn would replace: it must be above {least:.6g}"
            )
        self._model = MiniBatchDictionaryLearning(
            len(atoms),
            alpha=settings.lam,
            fit_algorithm="cd",
            dict_init=atoms.copy(),
            random_state=int(generator.integers(2**31)),
        ).partial_fit(settings.prior * atoms)

    def update(self, batch):
        import torch

        self._model.partial_fit(batch.double().cpu().numpy())
        self.move_to(torch.from_numpy(self._model.components_.T).to(self.dictionary))  # norms of components_ may be below 1

    def encode(self, x):
        from pudle.core.lasso import lasso

        return lasso(x, self.dictionary, self.settings.lam)
