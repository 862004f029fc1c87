"""Negative controls: steps above the bound that are labelled as below it, normalised gradients, and gradients with the wrong sign."""

from pudle.analysis.negative_controls import Control, measure
from pudle.core.gradients import unrolled_gradient
from pudle.experiments._shared.wrong_gradients import wrong_sign
from pudle.experiments.stability.grid import VARIES, plan
from pudle.experiments.stability.run import run

SETTINGS = {
    "n_samples": 50,
    "n_features": 30,
    "n_atoms": 40,
    "sparsity": 3,
    "signs": "shared",
    "init_noise": 0.05,
    "lam": 0.2,
    "thresholding": ["soft"],
    "accelerations": ["none"],
    "steps": [0.5, 2.0],
    "n_layers": [50],
    "truncations": [10],
    "updates": 10,
    "learning_rate": 1e-3,
    "learning_layers": 50,
}


def _larger_step(x, dictionary, estimator, unrolling, **options):
    """The gradient through layers with four times the step of ``unrolling``."""
    return unrolled_gradient(
        x, dictionary, estimator, type(unrolling)(**vars(unrolling) | {"step": 4 * unrolling.step}), **options
    )


def _normalised(*arguments, **options):
    found = unrolled_gradient(*arguments, **options)
    return found._replace(gradient=found.gradient / found.gradient.norm().clamp_min(1e-30))


CONTROLS = (
    Control(
        id="step-four-times-as-large",
        claims=("stable-below-the-bound",),
        statement="Layers have four times the step of the settings.",
        rows=lambda corrupt: measure(
            run, plan(SETTINGS), range(3), VARIES, gradient=_larger_step if corrupt else unrolled_gradient
        ),
    ),
    Control(
        id="wrong-sign-ae-ls",
        claims=("trainings-converge-below-the-bound",),
        statement="ae-ls has the wrong sign.",
        rows=lambda corrupt: measure(
            run,
            plan(SETTINGS),
            range(3),
            VARIES,
            gradient=wrong_sign(unrolled_gradient, "ae-ls") if corrupt else unrolled_gradient,
        ),
    ),
    Control(
        id="normalised-gradient",
        claims=("explodes-beyond-the-bound",),
        statement="Every gradient has norm 1.",
        rows=lambda corrupt: measure(
            run, plan(SETTINGS), range(3), VARIES, gradient=_normalised if corrupt else unrolled_gradient
        ),
    ),
)
