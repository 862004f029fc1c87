"""Codes and derivatives of ``encode`` are the same on every path, and the paths are chosen as its docstring says."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import pudle
from pudle.core import closed_form, encoding
from pudle.core.unrolling import Unrolling
from pudle.kernels import sparse_layers

SETTINGS = {
    "soft": {"lam": 0.2},
    "one-sided": {"lam": 0.2, "nonnegative": True},
    "decay": {"lam": 0.2, "decay": 0.9},
    "fista": {"lam": 0.2, "acceleration": "fista"},
    "hard": {"threshold": 0.3},
    "hard one-sided": {"threshold": 0.3, "nonnegative": True},
}


@pytest.fixture
def problem():
    data = pudle.make_sparse_data(40, 20, 30, 3, noise=0.05, seed=3, dtype=torch.float64)
    return data.x, pudle.perturb_dictionary(data.dictionary, 0.05, seed=3)


@pytest.fixture
def plain_calls(monkeypatch):
    """How often the plain layers have run."""
    calls, plain = [], encoding._plain_codes
    monkeypatch.setattr(encoding, "_plain_codes", lambda *arguments: calls.append(1) or plain(*arguments))
    return calls


def _derivatives(encode, x, D, settings, **layers):
    """Of a weighted sum of codes, with respect to x, D, λ where there is one, and the step."""
    weights = torch.randn(len(x), D.shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(x)
    x, D, step = x.clone().requires_grad_(), D.clone().requires_grad_(), torch.tensor(0.2, dtype=torch.float64).to(x)
    lam = {"lam": torch.tensor(settings["lam"]).to(x).requires_grad_()} if "lam" in settings else {}
    codes = encode(x, D, **settings | lam | layers, step=step.requires_grad_())
    return codes, torch.autograd.grad((weights * codes).sum(), [x, D, step, *lam.values()])


def _plain(x, D, *, lam=None, step, **others):
    unrolling = Unrolling(lam=None if lam is None else lam.item(), step=step.item(), **others)
    return encoding._plain_codes(x, D, lam, step, unrolling)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_derivatives_in_closed_form_are_those_of_the_plain_layers(problem, kind, cached, dtype, monkeypatch):
    """Over 60 layers, so that most are restricted; with W out of the cache there are decoded sums, and dense layers at the end of a decay."""
    monkeypatch.setattr(closed_form, "_cached", lambda dictionary: cached)
    x, D = (array.to(dtype) for array in problem)
    codes, found = _derivatives(pudle.encode, x, D, SETTINGS[kind], n_layers=60)
    plain_codes, wanted = _derivatives(_plain, x.double(), D.double(), SETTINGS[kind], n_layers=60)
    tolerance = 1e-9 if dtype == torch.float64 else 3e-4
    torch.testing.assert_close(codes.double(), plain_codes, atol=tolerance, rtol=tolerance)
    scale = max(float(theirs.abs().max()) for theirs in wanted)  # that of α is a small difference once codes have settled
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize("kind", SETTINGS)
def test_derivatives_are_those_of_finite_differences(problem, kind):
    x, D, settings = problem[0][:3].requires_grad_(), problem[1].requires_grad_(), SETTINGS[kind]
    lam, step = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.2, 0.1))

    def codes(x, D, lam, step):
        return pudle.encode(x, D, **settings | ({"lam": lam} if "lam" in settings else {}), step=step, n_layers=4)

    numbers = (lam if "lam" in settings else lam.detach(), step)
    assert gradcheck(codes, (x, D, *numbers))
    assert gradgradcheck(codes, (x, D, *numbers))


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_what_is_asked_for_is_computed(problem, wanted):
    x, D = (array.clone().requires_grad_(want) for array, want in zip(problem, wanted, strict=True))
    pudle.encode(x, D, lam=0.2, step=0.2, n_layers=60).square().sum().backward()
    assert [array.grad is not None for array in (x, D)] == list(wanted)
    both = _derivatives(pudle.encode, *problem, SETTINGS["soft"], n_layers=60)
    assert all(gradient.isfinite().all() for gradient in both[1])


def test_back_through_a_loss_on_codes_is_the_dictionary_gradient(problem):
    x, D = problem[0], problem[1].clone().requires_grad_()
    codes = pudle.encode(x, D, lam=0.2, step=0.2, n_layers=60)
    (0.5 * (codes @ D.T - x).square().sum() / len(x)).backward()
    wanted = pudle.dictionary_gradient(x, D, "ae-ls", lam=0.2, step=0.2, n_layers=60)
    torch.testing.assert_close(D.grad, wanted)


KEPT = [kind for kind in SETTINGS if kind != "fista"]  # layers with momentum are dense, and run again


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("n_layers", [1, 60])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_kept_layers_are_those_that_run_again(problem, kind, n_layers, dtype, monkeypatch):
    """With the same bits, also if there is room for some samples only, or for none; with one sample of zeros, whose codes are all 0."""
    x, D = (array.to(dtype) for array in problem)
    x = torch.cat([x[:7], torch.zeros_like(x[:1]), x[7:]])
    kept = []

    def run(x, D, unrolling):
        kept.append(closed_form.run_and_keep(x, D, unrolling))
        return kept[-1]

    monkeypatch.setattr(encoding, "run_and_keep", run)
    monkeypatch.setattr(sparse_layers, "KEPT_SHARE", 1.2)  # decay ends with dense codes
    codes, wanted = _derivatives(pudle.encode, x, D, SETTINGS[kind], n_layers=n_layers)
    assert kept[-1] is not None and int(kept[-1][1][-1].sum()) == len(x)
    for share in (0.2, 0.0):
        monkeypatch.setattr(sparse_layers, "KEPT_SHARE", share)
        some_codes, found = _derivatives(pudle.encode, x, D, SETTINGS[kind], n_layers=n_layers)
        assert int(kept[-1][1][-1].sum()) < len(x) or share or n_layers == 1
        assert torch.equal(some_codes, codes) and all(map(torch.equal, found, wanted))
    monkeypatch.setattr(encoding, "run_and_keep", lambda *_: None)
    again_codes, again = _derivatives(pudle.encode, x, D, SETTINGS[kind], n_layers=n_layers)
    torch.testing.assert_close(again_codes, codes)
    torch.testing.assert_close(again, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_kept_layers_do_not_depend_on_threads_or_blocks(threads, monkeypatch):
    data = pudle.make_sparse_data(3000, 20, 30, 3, noise=0.05, seed=3)
    D = pudle.perturb_dictionary(data.dictionary, 0.05, seed=3)
    wanted = _derivatives(pudle.encode, data.x, D, SETTINGS["soft"], n_layers=20)[1]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert all(map(torch.equal, _derivatives(pudle.encode, data.x, D, SETTINGS["soft"], n_layers=20)[1], wanted))
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(closed_form, "BLOCK_CPU", 5_000)
    torch.testing.assert_close(_derivatives(pudle.encode, data.x, D, SETTINGS["soft"], n_layers=20)[1], wanted)


@pytest.mark.parametrize("kind, share", [("soft", 0.45), ("one-sided", 0.3)])
@pytest.mark.parametrize("room", [1.2, 0.2])
def test_dense_layers_at_the_start_are_kept_too(problem, kind, share, room, monkeypatch):
    """The derivatives are those of layers that run again. Many dense layers, and dense ones in several blocks, are not kept."""
    x, D = problem
    monkeypatch.setattr(sparse_layers, "KEPT_SHARE", room)
    monkeypatch.setattr(closed_form, "SHARE_CACHED", share)
    kept, run = [], closed_form.run_and_keep
    monkeypatch.setattr(encoding, "run_and_keep", lambda *inputs: kept.append(run(*inputs)) or kept[-1])
    codes, found = _derivatives(pudle.encode, x, D, SETTINGS[kind], n_layers=60)
    assert kept[-1] is not None and 1 < len(kept[-1][1][0]) < 30
    monkeypatch.setattr(encoding, "run_and_keep", lambda *_: None)
    again_codes, wanted = _derivatives(pudle.encode, x, D, SETTINGS[kind], n_layers=60)
    assert torch.equal(codes, again_codes) and all(map(torch.equal, found, wanted))
    unrolling = Unrolling(**SETTINGS[kind], step=0.2, n_layers=60)
    assert run(x, D, Unrolling(**SETTINGS[kind], step=0.2, n_layers=1)) is None
    assert run(1e3 * x, D, unrolling) is None
    monkeypatch.setattr(closed_form, "BLOCK_CPU", 900)
    assert run(x, D, unrolling) is None


def test_backward_may_run_twice_and_frees_what_was_kept(problem):
    x, D = problem[0], problem[1].clone().requires_grad_()
    codes = pudle.encode(x, D, lam=0.2, step=0.2, n_layers=60)
    first, second = (torch.autograd.grad(codes.sum(), D, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    codes.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        codes.sum().backward()
    codes = pudle.encode(x, D, lam=0.2, step=0.2, n_layers=60)
    with torch.no_grad():
        D.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        codes.sum().backward()


def test_codes_may_be_changed_before_the_backward_pass(problem):
    """What is kept is not the memory of the codes."""
    x, D = problem[0], problem[1].clone().requires_grad_()
    wanted, found = (pudle.encode(x, D, lam=0.2, step=0.2, n_layers=60) for _ in range(2))
    found.mul_(3)
    assert torch.equal(torch.autograd.grad(wanted.sum() * 3, D)[0], torch.autograd.grad(found.sum(), D)[0])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, in forward mode
def test_plain_layers_run_only_where_others_cannot(problem, plain_calls):
    x, D = problem
    layers = {"lam": 0.2, "step": 0.1, "n_layers": 4}
    wanted = pudle.encode(x, D, **layers)
    D.requires_grad_()
    with torch.no_grad():
        assert not pudle.encode(x, D, **layers).requires_grad
    codes = pudle.encode(x, D, **layers)
    codes.sum().backward()
    assert not plain_calls
    assert pudle.encode(x.bfloat16(), D.bfloat16(), **layers).dtype == torch.bfloat16 and len(plain_calls) == 1
    (gradient,) = torch.autograd.grad(pudle.encode(x, D, **layers).sum(), D, create_graph=True)
    assert gradient.requires_grad and len(plain_calls) == 2
    D = D.detach()
    one_by_one = torch.func.vmap(lambda sample: pudle.encode(sample[None], D, **layers)[0])(x)
    torch.testing.assert_close(one_by_one, wanted)
    jacobian = torch.func.jacrev(lambda D: pudle.encode(x[:1], D, **layers))(D)
    with forward_ad.dual_level():
        tangent = torch.ones_like(D)
        codes = pudle.encode(x[:1], forward_ad.make_dual(D, tangent), **layers)
        torch.testing.assert_close(forward_ad.unpack_dual(codes).tangent, (jacobian * tangent).sum((2, 3)))
    assert len(plain_calls) == 5
