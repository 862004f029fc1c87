"""Unrolled dictionary learning as a scikit-learn estimator, which can replace :class:`sklearn.decomposition.DictionaryLearning`."""

import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm import trange

from pudle.core.closed_form import one_thread
from pudle.core.encoding import encode
from pudle.core.gradients import ESTIMATORS, unrolled_gradient
from pudle.core.lasso import lasso
from pudle.core.online_learning import OnlineLearning
from pudle.core.optimization import ConstrainedDescent, normalize_atoms
from pudle.core.units import power_of_two
from pudle.core.unrolling import Unrolling
from pudle.errors import PudleError


class UnrolledDictionaryLearning(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn a dictionary by back-propagation through unrolled sparse coding, or online from the lasso's exact codes.

    Samples are rows of arrays, data frames or tensors (n_samples, n_features). Results are numpy arrays, computed on the CPU, and have the type
    of the samples, float32 or float64; samples of other types are converted to float64.

    Parameters
    ----------
    n_components : int, atoms p of the dictionary
    n_layers : int, layers T of the encoder
    lam : float, sparsity level λ, in the units of the samples
    threshold : float or None, hard threshold b in the units of the samples, which replaces soft thresholding. ``lam`` is then ignored, and
        ``estimator`` must be "dec" or "ae-ls"
    step : float or None, step size α; None means 1 / ‖D‖₂² of the current dictionary
    estimator : "ae-lasso", "dec", "ae-ls" or "lasso", the gradient. "ae-lasso" minimises the lasso objective, as DictionaryLearning does,
        and "dec" does so approximately, with less work per pass. "ae-ls" minimises the squared error of D z_T only; it denoises better, and
        its lasso objective is higher. "lasso" is the limit of "ae-lasso" and "dec" for many layers: codes, those of ``transform`` too, are
        exact, and atoms are moved to the minimiser for all batches so far (:mod:`pudle.core.online_learning`), without ``n_layers``, ``step``,
        ``learning_rate`` and ``adam_eps``. ``fit`` keeps the codes of all samples while it runs, 24 bytes for each that is not 0. Its lasso
        objective is the lowest; choose it in place of MiniBatchDictionaryLearning
    nonnegative : bool, whether codes are non-negative
    learning_rate : float, learning rate of Adam
    adam_eps : float, eps of Adam, for samples divided by a power of two near their root mean square, so that learning does not depend on
        their units
    batch_size : int, samples per update
    max_iter : int, largest number of passes over the samples in ``fit``
    tol : float, ``fit`` ends when the relative change of the mean loss is below ``tol`` in three consecutive passes; 0 disables this
    weight_decay : float or None, w of the penalty w/2 ‖D‖² on the dictionary, in the squared units of the samples; None means that atoms have
        norm 1 instead, and with "lasso" norm 1 or less
    dict_init : array (n_components, n_features) or None, initial atoms; None means random samples
    warm_start : bool, whether ``fit`` continues from the last dictionary
    random_state : int, numpy RandomState or None, for the initial atoms and the batches
    verbose : bool, whether to show a progress bar

    Attributes
    ----------
    components_ : (n_components, n_features), the transpose of D, with atoms in rows
    n_iter_ : int, number of passes over the samples in the last ``fit``, or of calls of ``partial_fit``
    loss_curve_ : list of floats, the mean loss of each pass
    n_features_in_, feature_names_in_ : as in scikit-learn

    Sources: PUDLE (Tolooshams & Ba, TMLR 2022), Algorithm 1; for "lasso", Mairal, Bach, Ponce & Sapiro, JMLR 2010, and Kesten, Ann. Math.
    Statist. 1958.
    """

    _parameter_constraints: ClassVar = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "lam": [Interval(Real, 0, None, closed="left")],
        "threshold": [Interval(Real, 0, None, closed="left"), None],
        "step": [Interval(Real, 0, None, closed="neither"), None],
        "estimator": [StrOptions({"lasso", *ESTIMATORS})],
        "nonnegative": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "adam_eps": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left"), None],
        "dict_init": ["array-like", None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=100,
        *,
        n_layers=30,
        lam=0.1,
        threshold=None,
        step=None,
        estimator="ae-lasso",
        nonnegative=False,
        learning_rate=1e-2,
        adam_eps=1e-8,
        batch_size=256,
        max_iter=100,
        tol=1e-4,
        weight_decay=None,
        dict_init=None,
        warm_start=False,
        random_state=None,
        verbose=False,
    ):
        self.n_components = n_components
        self.n_layers = n_layers
        self.lam = lam
        self.threshold = threshold
        self.step = step
        self.estimator = estimator
        self.nonnegative = nonnegative
        self.learning_rate = learning_rate
        self.adam_eps = adam_eps
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.weight_decay = weight_decay
        self.dict_init = dict_init
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Learn the dictionary from ``X`` (n, m) in passes over shuffled batches; returns self."""
        self._validate_params()
        x = self._check(X, reset=True)
        if self.warm_start and np.shape(getattr(self, "components_", ())) == (self.n_components, x.shape[1]):
            self._resume(x)
        else:
            self._start(x)
        self.loss_curve_, self.n_iter_, calm = [], 0, 0
        fixed = None
        if self.estimator == "lasso":
            fixed = self._draw_batches(x)  # so that codes of a batch replace its earlier ones
            self._sums_of_components().begin(len(x))
        for _ in trange(self.max_iter, disable=not self.verbose, desc=type(self).__name__, file=sys.stderr):
            losses = self._pass(x, fixed)
            self.n_iter_ += 1
            self.loss_curve_.append(losses)
            if len(self.loss_curve_) > 1:
                before = self.loss_curve_[-2]
                calm = calm + 1 if abs(before - losses) < self.tol * abs(before) else 0
            if calm == 3:
                break
        if fixed is not None:
            self._sums.end()
        return self

    def partial_fit(self, X, y=None):
        """Continue learning with one pass over ``X`` (n, m); returns self."""
        first = not hasattr(self, "n_iter_")
        self._validate_params()
        x = self._check(X, reset=first)
        if first:
            if not hasattr(self, "components_"):
                self._start(x)
            self._dictionary(x)  # atoms that were set by hand may not fit
            self.loss_curve_, self.n_iter_ = [], 0
        self._resume(x)
        self.loss_curve_.append(self._pass(x))
        self.n_iter_ += 1
        return self

    def transform(self, X):
        """Codes (n, p) of ``X`` (n, m). Raises :class:`ValueError` if samples have another number of features or values that are not finite."""
        check_is_fitted(self)
        x = self._check(X, reset=False)
        D = self._dictionary(x)
        if self.estimator == "lasso":
            return lasso(x, D, self._level(), nonnegative=self.nonnegative).numpy()
        return encode(x, D, **vars(self._unrolling(D))).numpy()

    def inverse_transform(self, X):
        """Samples D z (n, m) of codes ``X`` (n, p). Raises :class:`ValueError` if codes have another number of atoms."""
        check_is_fitted(self)
        X, atoms = _numbers(X, "codes"), _numbers(self.components_, "components_")
        if X.shape[1] != len(atoms):
            raise ValueError(f"codes must be (n_samples, {len(atoms)}), not {X.shape}")
        return X @ atoms

    def score(self, X, y=None):
        """1 − Σ‖x − Dz‖² / Σ‖x‖² for ``X`` (n, m), the share of Σ‖x‖² that codes and dictionary explain."""
        estimate = self.inverse_transform(self.transform(X))
        x = self._check(X, reset=False).numpy().astype(np.float64)
        return float(1 - np.square(x - estimate).sum() / max(np.square(x).sum(), np.finfo(float).tiny))

    @property
    def _n_features_out(self):
        return len(self.components_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check(self, X, *, reset: bool) -> torch.Tensor:
        return torch.from_numpy(np.array(validate_data(self, _array(X), dtype=[np.float64, np.float32], reset=reset)))

    def _dictionary(self, x: torch.Tensor) -> torch.Tensor:
        """D (m, p) in the type of the samples ``x`` (n, m), from ``components_``, which may have been set by hand."""
        atoms = _numbers(self.components_, "components_")
        if atoms.shape[1] != x.shape[1]:
            raise ValueError(f"components_ must be (n_components, {x.shape[1]}) for these samples, not {atoms.shape}")
        return torch.from_numpy(atoms.T.copy()).to(x.dtype)

    def _start(self, x: torch.Tensor) -> None:
        self._random, self._scale = check_random_state(self.random_state), power_of_two(x)
        if self.dict_init is not None:
            atoms = torch.from_numpy(np.array(_numbers(self.dict_init, "dict_init"))).to(x.dtype)
            if atoms.shape != (self.n_components, x.shape[1]):
                raise ValueError(f"dict_init must be ({self.n_components}, {x.shape[1]}), not {tuple(atoms.shape)}")
            if not atoms.any(dim=1).all():
                raise ValueError(
                    f"dict_init: atom {int(atoms.any(dim=1).int().argmin())} is 0; its code and gradient would stay 0"
                )
        else:
            drawn = self._random.choice(len(x), self.n_components, replace=self.n_components > len(x))
            noise = self._random.standard_normal((self.n_components, x.shape[1]))
            x = x / self._scale
            spread = x.std(dim=0, correction=0).mean()
            if not spread > 0:  # all samples are the same
                spread = torch.ones_like(spread)
            # with noise all atoms are different, and none is zero
            atoms = x[torch.from_numpy(drawn)] + 0.1 * spread * torch.from_numpy(noise).to(x.dtype)
        self._set(atoms / atoms.norm(dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny))

    def _resume(self, x: torch.Tensor) -> None:
        """Set the state of learning if it is missing, as it is after ``components_`` was assigned by the user."""
        if not hasattr(self, "_random"):
            self._random, self._scale = check_random_state(self.random_state), power_of_two(x)
            self._moments = self._sums = None

    def _set(self, atoms: torch.Tensor) -> None:
        self.components_ = atoms.numpy().copy()
        self._moments = self._sums = None

    def _draw_batches(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        return torch.from_numpy(self._random.permutation(len(x))).split(int(self.batch_size))

    def _pass(self, x: torch.Tensor, fixed: Sequence[torch.Tensor] | None = None) -> float:
        """Make one pass over the samples in batches, new ones or, with "lasso", ``fixed`` ones in a new order; returns the mean loss.

        Samples are divided by a power of two near their root mean square, so that gradients are large compared with Adam's eps.
        """
        x = x / self._scale
        total = self._learn_online(x, fixed) if self.estimator == "lasso" else self._descend(x, self._draw_batches(x))
        return total / len(x) * self._scale**2

    def _sums_of_components(self) -> OnlineLearning:
        """The sums of the last pass, or new ones if ``components_`` are not the atoms that it learned."""
        if self._sums is None or not np.array_equal(self._learned, self.components_):
            self._sums, self._learned = OnlineLearning(*self.components_.shape[::-1]), self.components_.copy()
        return self._sums

    def _learn_online(self, x: torch.Tensor, fixed: Sequence[torch.Tensor] | None) -> float:
        """Learn from lasso codes, starting with the sums of the last pass; returns the sum of the losses."""
        dtype, D, x = x.dtype, self._dictionary(x).double(), x.double()
        sums = self._sums_of_components()
        settings = {"nonnegative": self.nonnegative, "random": self._random}
        if self.weight_decay is not None:
            settings["weight_decay"] = float(self.weight_decay) / self._scale**2
        if fixed is None:
            numbered = [(None, batch) for batch in self._draw_batches(x)]
        else:
            numbered = [(int(k), fixed[k]) for k in self._random.permutation(len(fixed))]
        losses = [
            sums.update(x[chosen], D, self._level(self._scale), batch=number, **settings) * len(chosen)
            for number, chosen in numbered
        ]
        self.components_, self._moments = D.T.to(dtype).numpy().copy(), None
        self._learned = self.components_.copy()
        return sum(losses)

    def _descend(self, x: torch.Tensor, batches: Sequence[torch.Tensor]) -> float:
        """Descend along the gradients, starting with Adam's moments of the last pass; returns the sum of the losses."""
        D = self._dictionary(x)
        # float: torch does not accept all number types of numpy
        settings = {"lr": float(self.learning_rate), "eps": float(self.adam_eps)}
        adam = torch.optim.Adam([D], **settings)
        if self._moments is not None:
            adam.load_state_dict(self._moments)
            adam.param_groups[0].update(settings)  # they may have changed since the last pass
        descent = ConstrainedDescent(adam, normalize_atoms if self.weight_decay is None else None)
        total = 0.0
        for chosen in batches:
            with one_thread():
                batch, unrolling = x[chosen], self._unrolling(D, self._scale)
            gradient, _, loss = unrolled_gradient(batch, D, self.estimator, unrolling)
            total += loss * len(chosen)
            with one_thread():
                if self.weight_decay is not None:
                    gradient.add_(D, alpha=float(self.weight_decay) / self._scale**2)
                descent.update(gradient)
        if not torch.isfinite(D).all():
            raise FloatingPointError(f"the dictionary diverged: lower step={self.step} or learning_rate={self.learning_rate}")
        self.components_, self._moments, self._sums = D.T.numpy().copy(), adam.state_dict(), None
        return total

    def _level(self, scale: float = 1.0) -> float:
        """λ in units of ``scale``. Raises :class:`PudleError` for a hard threshold, which the lasso does not have."""
        if self.threshold is not None:
            raise PudleError(
                "estimator 'lasso' needs lam: it has no hard threshold; choose 'dec' or 'ae-ls', or threshold=None"
            )
        return self.lam / scale

    def _unrolling(self, D: torch.Tensor, scale: float = 1.0) -> Unrolling:
        step = 1 / (_squared_norm(D) or 1.0) if self.step is None else self.step
        kind = {"lam": self.lam / scale} if self.threshold is None else {"threshold": self.threshold / scale}
        return Unrolling(**kind, step=step, n_layers=self.n_layers, nonnegative=self.nonnegative)


def _array(X):
    """``X`` itself; a tensor of any device and floating type as an array, in float64 where numpy does not have its type."""
    if not isinstance(X, torch.Tensor):
        return X
    X = X.detach().cpu()
    return (X.double() if X.is_floating_point() and X.dtype != torch.float32 else X).numpy()


def _numbers(X, name: str) -> np.ndarray:
    """``X`` as a matrix of finite numbers in float64 or float32; errors call it ``name``."""
    return check_array(_array(X), dtype=[np.float64, np.float32], input_name=name)


def _squared_norm(D: torch.Tensor) -> float:
    """‖D‖₂², from the eigenvalues of the smaller of DDᵀ and DᵀD, which is faster than singular values."""
    D = D.double()
    return max(float(torch.linalg.eigvalsh(D @ D.T if D.shape[0] < D.shape[1] else D.T @ D)[-1]), 0.0)
