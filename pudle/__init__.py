"""pudle: unrolled dictionary learning, replicated, checked and extended.

The names below are the public interface. They are imported when first used: planning a workflow must not wait for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "encode": "coding",
    "lasso": "lasso_codes",
    "dictionary_gradient": "gradients",
    "make_sparse_data": "data.synthetic",
    "perturb_dictionary": "initialization",
    "dictionary_error": "metrics",
    "psnr": "metrics",
    "psnr_as_published": "metrics",
    "ssim": "metrics",
    "UnrolledDictionaryLearning": "estimator",
    "convolution": None,
    "interpretation": None,
    "methods": None,
    "theory": None,
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'pudle' has no attribute {name!r}")
    home = _HOME[name]
    return getattr(import_module(f"pudle.{home}"), name) if home else import_module(f"pudle.{name}")


def __dir__():
    return sorted(__all__)
