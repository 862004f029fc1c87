"""Dictionary learning by ADMM, with SPORCO."""

from pudle.errors import PudleError
from pudle.methods import Field, register
from pudle.methods.full_batch import FullBatchMethod


@register("admm")
class Admm(FullBatchMethod):
    """ADMM on the lasso loss, which alternates steps for the codes and for the dictionary (SPORCO's BPDNDictLearn)."""

    source = "Wohlberg, SciPy 2017 (SPORCO)"
    note = "Needs SPORCO: pip install sporco"

    class Settings(FullBatchMethod.Settings):
        samples_per_atom: float = Field(
            20.0,
            ge=0,
            description="Batches are gathered until there are this many samples for each atom; on fewer it overfits.",
        )
        lam: float = Field(0.2, gt=0, description="Sparsity level λ.")
        iterations: int = Field(50, ge=1, description="Steps for codes and dictionary each time there are enough samples.")

    def learn(self, x):
        import torch

        learner = _library().BPDNDictLearn
        start, samples = self.dictionary.cpu().numpy(), x.T.cpu().numpy()
        steps = {"DataType": start.dtype}  # of the codes, and of the dictionary
        options = learner.Options({"MaxMainIter": self.settings.iterations, "BPDN": steps, "CMOD": steps})
        learned = learner(start, samples, self.settings.lam, options).solve()
        self.move_to(torch.from_numpy(learned).to(x))

    def encode(self, x):
        from pudle.core.lasso import lasso

        return lasso(x, self.dictionary, self.settings.lam)


def _library():
    try:
        from sporco.dictlrn import bpdndl
    except ImportError as error:
        raise PudleError(f"method 'admm' needs the package sporco ({error}): pip install sporco") from None
    return bpdndl
