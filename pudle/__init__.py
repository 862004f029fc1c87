"""pudle: unrolled dictionary learning, replicated, checked and extended.

The names below are the public interface. They are imported when they are first used, since planning a workflow must not wait for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "encode": "core.encoding",
    "lasso": "core.lasso",
    "dictionary_gradient": "core.gradients",
    "make_sparse_data": "data.synthetic",
    "perturb_dictionary": "core.initialization",
    "dictionary_error": "core.metrics",
    "psnr": "core.metrics",
    "psnr_as_published": "core.metrics",
    "ssim": "core.metrics",
    "UnrolledDictionaryLearning": "estimator",
}
_MODULES = {
    "convolution": "core.convolution",
    "interpretation": "core.interpretation",
    "methods": "methods",
    "theory": "core.theory",
}
__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"pudle.{_MODULES[name]}")
    if name in _HOME:
        return getattr(import_module(f"pudle.{_HOME[name]}"), name)
    raise AttributeError(f"module 'pudle' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
