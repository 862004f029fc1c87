"""Negative controls: a closed form with the wrong sign, a wrong rate, no truncation, and a wrong layer at which supports settle."""

from pudle.analysis.negative_controls import Control, measure
from pudle.core import theory
from pudle.experiments.jacobian.grid import VARIES, plan
from pudle.experiments.jacobian.run import run

SETTINGS = {
    "n_samples": 6,
    "n_features": 15,
    "n_atoms": 20,
    "active": 0.2,
    "noise": 0.1,
    "lam": 0.1,
    "step": 1.0,
    "n_layers": 300,
    "truncations": [20],
}


def _settled_at_last_layer(dictionary, supports, step):
    return theory.contraction_rate(dictionary, supports, 2 * step)


CONTROLS = (
    Control(
        id="wrong-sign",
        claims=("jacobian-converges-after-settling",),
        statement="The lasso's Jacobian has the wrong sign.",
        rows=lambda corrupt: measure(
            run,
            plan(SETTINGS),
            range(3),
            VARIES,
            target=(lambda *sample: -theory.lasso_jacobian(*sample)) if corrupt else theory.lasso_jacobian,
        ),
    ),
    Control(
        id="wrong-sign-rate",
        claims=("jacobian-rate-as-predicted",),
        statement="The lasso's Jacobian has the wrong sign; the number of layers is small enough to measure the rate.",
        rows=lambda corrupt: measure(
            run,
            plan(SETTINGS | {"n_layers": 120}),
            range(6),
            VARIES,
            target=(lambda *sample: -theory.lasso_jacobian(*sample)) if corrupt else theory.lasso_jacobian,
        ),
    ),
    Control(
        id="rate-of-twice-the-step",
        claims=("code-rate-as-predicted",),
        statement="The rate is predicted for twice the step that the layers take.",
        rows=lambda corrupt: measure(
            run,
            plan(SETTINGS | {"n_layers": 120}),
            range(6),
            VARIES,
            rate_of=_settled_at_last_layer if corrupt else theory.contraction_rate,
        ),
    ),
    Control(
        id="truncated-to-all-layers",
        claims=("truncated-jacobian-stays-off",),
        statement="The truncated Jacobian passes through all layers.",
        rows=lambda corrupt: measure(
            run, plan(SETTINGS | {"truncations": [SETTINGS["n_layers"]]} if corrupt else SETTINGS), range(3), VARIES
        ),
    ),
    Control(
        id="settled-at-the-end",
        claims=("jacobian-not-before",),
        statement="The last layer is assumed to be the one at which supports settle.",
        rows=lambda corrupt: measure(run, plan(SETTINGS), range(3), VARIES, settled=SETTINGS["n_layers"] if corrupt else None),
    ),
)
