"""Online dictionary learning from the lasso's codes: exact gradient, exact steps of the atoms, forgetting, unused atoms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pudle
from pudle.core.gradients import decoder_gradient
from pudle.core.online_learning import USES, OnlineLearning
from pudle.kernels.atoms import descend

SEED = np.random.RandomState


def _data(n=400, m=12, p=18):
    data = pudle.make_sparse_data(n, m, p, 3, seed=0, noise=0.02, dtype=torch.float64)
    return data.x, pudle.perturb_dictionary(data.dictionary, 0.1, 0), data.dictionary


def _objective(x, D, lam, **options):
    z = pudle.lasso(x, D, lam, **options)
    return float((x - z @ D.T).square().sum() / 2 + lam * z.abs().sum()) / len(x)


def _model(n_atoms, **settings):
    return pudle.UnrolledDictionaryLearning(n_atoms, **{"estimator": "lasso", "random_state": 0, **settings})


def test_the_gradient_of_the_lasso_objective_is_that_with_constant_codes():
    x, D, _ = _data(n=40)
    gradient = decoder_gradient(x, D, pudle.lasso(x, D, 0.2))
    way = torch.from_numpy(SEED(1).standard_normal(D.shape))
    slope = (_objective(x, D + 1e-6 * way, 0.2) - _objective(x, D - 1e-6 * way, 0.2)) / 2e-6
    assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-5)


def _quadratic(m, p, seed):
    """A (p, p), B (p, m) and atoms (p, m) of norm at most 1; p samples make A regular."""
    draw = SEED(seed)
    z, x, atoms = draw.standard_normal((p + 3, p)), draw.standard_normal((p + 3, m)), draw.standard_normal((p, m))
    return z.T @ z, z.T @ x, atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def _descend(atoms, gram, target, penalty=0.0, bounded=True, sweeps=1):
    (p, m), wide = atoms.shape, np.zeros((2, len(atoms), -(-atoms.shape[1] // 16) * 16))
    wide[0, :, :m], wide[1, :, :m] = atoms, target
    for _ in range(sweeps):
        descend(*(wide[0], gram, wide[1]), penalty, bounded, np.arange(p, dtype=np.int32), np.empty(p))
    return wide[0, :, :m]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 150), st.integers(1, 20), st.integers(0, 1000), st.booleans())
def test_each_atom_moves_to_its_minimiser(m, p, seed, bounded):
    gram, target, atoms = _quadratic(m, p, seed)
    expected = atoms.copy()
    for j in range(p):
        rest = np.delete(np.arange(p), j)
        atom = (target[j] - gram[j, rest] @ expected[rest]) / gram[j, j]
        expected[j] = atom / max(np.linalg.norm(atom), 1) if bounded else atom
    np.testing.assert_allclose(_descend(atoms, gram, target, bounded=bounded), expected, rtol=1e-9, atol=1e-12)


def test_with_a_penalty_and_no_bound_it_converges_to_the_ridge_solution():
    gram, target, atoms = _quadratic(7, 5, 0)
    found = _descend(atoms, gram, target, penalty=2.0, bounded=False, sweeps=500)
    np.testing.assert_allclose(found, np.linalg.solve(gram + 2 * np.eye(5), target), rtol=1e-8)


def test_atoms_without_codes_stay():
    gram, target, atoms = _quadratic(7, 5, 0)
    gram[2] = gram[:, 2] = target[2] = 0
    np.testing.assert_array_equal(_descend(atoms, gram, target, penalty=1.0)[2], atoms[2])


def _updated(x, D, numbers, sums=None, size=100):
    """Sums after one update by each of the numbered parts of ``x``, with the codes, samples and factor W / (W + n) of each update."""
    sums, log, parts = sums or OnlineLearning(*D.shape), [], x.split(size)
    for number in numbers:
        part, start, before = parts[number], D.clone(), sums._kept
        sums.update(part, D, 0.2, batch=number, random=SEED(0))
        log.append((pudle.lasso(part, start, 0.2), part, np.exp(sums._kept - before)))
    return sums, log


def _check_sums(sums, log):
    """The sums are those of the logged updates, with the factors of all later updates; those of a batch's last update count."""
    weights = [np.prod([factor for _, _, factor in log[k + 1 :]]) for k in range(len(log))]
    last = {id(part): k for k, (_, part, _) in enumerate(log)}
    terms = [(weights[k], *log[k][:2]) for k in last.values()]
    torch.testing.assert_close(sums.gram, sum(w * z.T @ z for w, z, _ in terms), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(sums.target, sum(w * z.T @ part for w, z, part in terms), atol=1e-6, rtol=1e-6)
    assert sums.weight == pytest.approx(sum(w * len(part) for w, _, part in terms))
    assert sums.uses.tolist() == sum((z != 0).sum(0) for _, z, _ in terms).tolist()


def test_the_sums_weigh_each_batch_by_the_factors_since():
    x, D, _ = _data()
    sums, log = _updated(x, D, range(4))
    _check_sums(sums, log)
    codes, _, factor = log[0]
    window = D.shape[0] * D.shape[1] / float((codes != 0).sum(1).double().mean())  # m p / s
    assert factor == pytest.approx(window / (window + 100))


def test_a_batch_that_comes_again_replaces_its_earlier_codes():
    x, D, _ = _data()
    parts = x.split(100)
    sums, log = _updated(x, D, [0, 1, 2, 3, 1, 0, 3, 2, 2])
    _check_sums(sums, [(z, next(p for p in parts if p.data_ptr() == part.data_ptr()), f) for z, part, f in log])


def test_a_new_beginning_takes_out_the_sums_of_before_in_the_first_pass():
    x, D, _ = _data()
    sums, _ = _updated(x[:200], D, [0, 1])
    sums.begin(200)
    before = sums.weight
    _, log = _updated(x[200:], D, [1], sums)
    assert 100 < sums.weight < before + 100 and (sums.uses != (log[0][0] != 0).sum(0)).any()
    _, more = _updated(x[200:], D, [0], sums)
    _check_sums(sums, log + more)


def test_atoms_that_no_code_in_the_sums_uses_have_no_sums():
    x, D, _ = _data()
    sums, _ = _updated(x, D, [0, 1])
    D[:, 3] = -D[:, 3].sign() * 1e-3  # too short for any code
    sums, _ = _updated(x, D, [0], sums)
    assert sums.gram[3, 3] > 0  # batch 1 still uses it
    D[:, 3] *= 1e-3 / D[:, 3].norm()
    sums, _ = _updated(x, D, [1], sums)
    D[:, 3] *= 1e-3 / D[:, 3].norm()
    sums, _ = _updated(x, D, [0], sums)
    assert sums.uses[3] == 0 and not sums.gram[3].any() and not sums.gram[:, 3].any() and not sums.target[3].any()


def test_the_sums_grow_where_noise_is_the_larger_error():
    """The minimisers of batches are drawn around a moving point; the best γ has successive moves with a mean cosine of −γ/4."""
    gamma, draw, n, steps = 0.05, SEED(0), 200, 4000
    speed = np.sqrt(gamma**3 / 4)
    errors, cosines = {}, {}
    for factor in (0.5, 1, 2):
        g, D, last, point, squares, products, lengths = factor * gamma, np.zeros(n), 0, 0.0, [], [], []
        for k in range(steps):
            point += speed
            move = g * (point + draw.standard_normal(n) - D)
            D = D + move
            if k > steps // 4:
                squares.append(np.mean((D - point) ** 2))
                products.append(np.sum(move * last))
                lengths.append(np.sum(move**2))
            last = move
        errors[factor], cosines[factor] = np.mean(squares), np.mean(products) / np.mean(lengths)
    assert errors[1] < errors[0.5] and errors[1] < errors[2]
    assert cosines[1] == pytest.approx(-gamma / 4, rel=0.2)
    for factor, grows in ((0.5, False), (2, True)):
        sums, g = OnlineLearning(n, 1), factor * gamma
        sums.weight = 10 / g
        sums._move = torch.zeros(n, 1, dtype=torch.float64)
        sums._move[0] = 1
        move = torch.full((n, 1), 0.0, dtype=torch.float64)
        move[0], move[1] = cosines[factor], np.sqrt(1 - cosines[factor] ** 2)
        sums._adapt(move, 10)
        assert sums.growth == 10 * grows


def test_a_step_decreases_the_objective_of_its_batch_and_keeps_atoms_in_the_ball():
    x, D, _ = _data()
    sums, losses = OnlineLearning(*D.shape), []
    for _ in range(5):  # the first batch alone: the sums are an upper bound of its objective
        losses.append(sums.update(x, D, 0.2, random=SEED(0)))
        assert float(D.norm(dim=0).max()) <= 1 + 1e-12
    losses.append(_objective(x, D, 0.2))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("nonnegative", [False, True])
def test_an_atom_that_is_not_used_is_replaced_by_a_sample(nonnegative):
    x, D, _ = _data()
    x, D = torch.cat([x, 0 * x[:, :1]], 1), torch.cat([D, 0 * D[:1]])
    D[:, 4] = torch.eye(len(D), dtype=D.dtype)[-1]  # no sample has this feature
    sums, before = OnlineLearning(*D.shape), D[:, 4].clone()
    for part in x.split(40):
        idle = float(sums.idle[4])
        sums.update(part, D, 0.2, nonnegative=nonnegative, random=SEED(0))
        if sums.idle[4] == 0:
            break
        torch.testing.assert_close(D[:, 4], before)
    else:
        idle = 0.0
    assert 0.5 * USES < idle <= USES and float((part @ D[:, 4] / part.norm(dim=1)).max()) == pytest.approx(1)
    assert float(pudle.lasso(x, D, 0.2)[:, 4].abs().max()) > 0


def test_samples_that_are_0_change_nothing():
    _, D, _ = _data()
    sums, before = OnlineLearning(*D.shape), D.clone()
    assert sums.update(torch.zeros(5, len(D), dtype=D.dtype), D, 0.2, random=SEED(0)) == 0
    torch.testing.assert_close(D, before)


def test_it_comes_close_to_the_true_dictionary_with_an_objective_below_that():
    x, start, true = _data(2000)
    model = _model(start.shape[1], lam=0.1, batch_size=200, dict_init=start.T, max_iter=10, tol=0).fit(x)
    learned = torch.from_numpy(model.components_.T)
    assert pudle.dictionary_error(learned, true) < 0.2 * pudle.dictionary_error(start, true)
    assert _objective(x, learned, 0.1) < _objective(x, true, 0.1)
    assert model.loss_curve_[-1] == pytest.approx(_objective(x, learned, 0.1), rel=1e-2)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_codes_of_transform_are_those_of_the_lasso(nonnegative):
    x, start, _ = _data()
    model = _model(start.shape[1], lam=0.2, nonnegative=nonnegative, max_iter=3).fit(x)
    codes = pudle.lasso(x, torch.from_numpy(model.components_.T), 0.2, nonnegative=nonnegative)
    np.testing.assert_allclose(model.transform(x), codes, atol=1e-12)
    assert not nonnegative or codes.min() >= 0


def test_both_precisions_learn_the_same():
    x, start, _ = _data()
    double, single = (_model(start.shape[1], lam=0.2, max_iter=3).fit(x.to(dtype)) for dtype in (torch.float64, torch.float32))
    assert single.components_.dtype == np.float32
    np.testing.assert_allclose(single.components_, double.components_, atol=1e-3)


def test_passes_go_on_from_the_sums_unless_another_gradient_changed_the_dictionary():
    x, _, _ = _data()
    passes = _model(18, batch_size=100).fit(x).partial_fit(x).partial_fit(x)
    assert passes._sums.n_seen == (passes.n_iter_) * len(x)
    passes.set_params(estimator="dec").partial_fit(x)
    again = passes.set_params(estimator="lasso").partial_fit(x)
    assert again._sums.n_seen == len(x)


def test_fit_converges_to_a_stationary_dictionary_of_all_samples():
    """Where atoms have norm 1, the gradient is parallel to them. The sums of ``partial_fit`` keep codes of older dictionaries."""
    x, start, _ = _data()
    settings = {"lam": 0.1, "dict_init": start.T.numpy(), "batch_size": 100, "tol": 0}
    fitted, parts = _model(18, max_iter=100, **settings).fit(x), _model(18, **settings)
    for _ in range(100):
        parts.partial_fit(x)
    remaining = []
    for model in (fitted, parts):
        D = torch.from_numpy(model.components_.T.copy())
        gradient = decoder_gradient(x, D, pudle.lasso(x, D, 0.1))
        remaining.append(float((gradient - D * (D * gradient).sum(0)).norm() / gradient.norm()))
    assert remaining[0] < 1e-3 < remaining[1]


def test_a_warm_start_goes_on_from_the_sums():
    x, start, _ = _data()
    settings = {"lam": 0.1, "dict_init": start.T.numpy(), "batch_size": 100, "tol": 0, "warm_start": True}
    once, parts = _model(18, max_iter=30, **settings).fit(x), _model(18, max_iter=10, **settings)
    objectives = [_objective(x, torch.from_numpy(parts.fit(x).components_.T.copy()), 0.1) for _ in range(3)]
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[-1] == pytest.approx(_objective(x, torch.from_numpy(once.components_.T.copy()), 0.1), rel=1e-3)
    assert not parts._sums._codes  # they are needed within a fit only


def test_sums_start_again_if_the_user_changed_the_atoms():
    x, _, _ = _data()
    model = _model(18, batch_size=100).partial_fit(x)
    model.components_ = model.components_[::-1].copy()
    assert model.partial_fit(x)._sums.n_seen == len(x)


def test_atoms_that_are_idle_together_are_replaced_by_different_samples():
    x, D, _ = _data()
    sums, idle = OnlineLearning(*D.shape), [2, 3, 5]
    sums.idle[idle] = USES + 1.0
    objective = torch.zeros(len(x), dtype=x.dtype)
    sums._replace(x, D, objective, SEED(0))  # every sample is explained, and no atom changes
    assert (sums.idle[idle] > USES).all()
    objective[:2] = 1
    sums._replace(x, D, objective, SEED(0))
    first, second = (sorted(float(x[i] @ D[:, j] / x[i].norm()) for j in idle)[-1] for i in (0, 1))
    assert first == pytest.approx(1) and second == pytest.approx(1) and int((sums.idle[idle] > USES).sum()) == 1


def test_a_hard_threshold_is_refused():
    x, _, _ = _data()
    with pytest.raises(ValueError, match="'lasso' needs lam"):
        _model(5, threshold=0.1).fit(x)
