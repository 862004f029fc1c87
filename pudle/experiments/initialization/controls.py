"""Negative controls: swapped sparsities, and a true dictionary that did not generate the samples."""

from pudle.analysis.negative_controls import Control, measure
from pudle.data.synthetic import make_sparse_data
from pudle.experiments.initialization.grid import VARIES, plan
from pudle.experiments.initialization.run import run

SETTINGS = {
    "n_samples": 2000,
    "test_samples": 10,
    "n_features": 24,
    "n_atoms": 16,
    "estimator": "ae-ls",
    "threshold": 0.2,
    "step": 0.3,
    "n_layers": 15,
    "batch": 50,
    "updates": 40,
    "learning_rate": 0.03,
    "adam_eps": 0.001,
    "recovered_within": 0.1,
}
FEW, MANY = 1, 6
BASIN = SETTINGS | {"sparsity": [FEW, MANY], "init_noise": [0.02, 0.3, 0.5], "starts": {"perturbed": ["shared"]}}
# With one non-zero per sample and atoms far from each other, pairs of samples reveal the atom that they share, and all atoms are found.
PAIRS = SETTINGS | {
    "n_features": 64,
    "n_atoms": 20,
    "sparsity": [1],
    "threshold": 0.25,
    "learning_rate": 0.01,
    "updates": 100,
    "max_pairs": 2000,
    "starts": {"arora": ["independent"]},
}


def _swapped(n_samples: int, n_features: int, n_atoms: int, sparsity: int, **options):
    return make_sparse_data(n_samples, n_features, n_atoms, {FEW: MANY, MANY: FEW}[sparsity], **options)


def _another_truth(*sizes: int, seed: int, **options):
    data = make_sparse_data(*sizes, seed=seed, **options)
    return data._replace(dictionary=make_sparse_data(*sizes, seed=seed + 1, **options).dictionary)


CONTROLS = (
    Control(
        id="sparsities-swapped",
        claims=("basin-shrinks",),
        statement=f"Samples have {FEW} non-zeros where the settings say {MANY}, and {MANY} where they say {FEW}.",
        rows=lambda corrupt: measure(run, plan(BASIN), range(3), VARIES, make=_swapped if corrupt else make_sparse_data),
    ),
    Control(
        id="another-truth",
        claims=("arora-lands-near", "arora-lands-near-every-atom", "arora-then-converges"),
        statement="Distances are measured to a dictionary that did not generate the samples.",
        rows=lambda corrupt: measure(run, plan(PAIRS), range(3), VARIES, make=_another_truth if corrupt else make_sparse_data),
    ),
)
