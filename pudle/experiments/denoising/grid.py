"""One cell for each gradient and level of sparsity or noise, for each variant, and for each denoiser at each noise level.

- The main noise level ``sigma`` has cells for dec and ae-ls at each of ``lams``, for ae-ls with each hard threshold of ``thresholds``, for
  ae-lasso at ``lam``, and for ae-ls (or the variant's ``estimators``) at ``lam`` with the changes of each of ``variants``.
- The other noise levels of ``sigmas`` have cells for dec and ae-ls with λ in proportion to σ.
- Each noise level has cells for all ``denoisers``.
"""

from collections.abc import Iterator, Mapping

from pudle import denoisers
from pudle.experiments._shared import plugin_grid

VARIES = ("sigma", "estimator", "lam", "threshold", "variant", "denoiser_name")
LISTS = ("estimators", "lams", "thresholds", "sigmas", "variants", "denoisers")
FOR_DENOISERS = (
    "train",
    "test",
    "kernel",
    "stride",
    "time_limit",
)  # kernel and stride determine the size that test images are cropped to


def plan(settings: Mapping) -> Iterator[dict]:
    yield from _trained(settings)
    shared = {key: settings[key] for key in FOR_DENOISERS}
    for label, chosen in plugin_grid.chosen(settings["denoisers"]).items():
        for sigma in chosen.get("sigmas", _sigmas(settings)):
            yield shared | {"sigma": sigma} | plugin_grid.cell(denoisers.REGISTRY, label, _without_sigmas(chosen))


def _trained(settings: Mapping) -> Iterator[dict]:
    base = {key: value for key, value in settings.items() if key not in (*LISTS, "lam", "time_limit")}
    sigma, lam, estimators = settings["sigma"], settings["lam"], settings["estimators"]
    for estimator in estimators:
        if estimator == "ae-lasso":
            yield base | {"estimator": estimator, "lam": lam}
            continue
        yield from (base | {"estimator": estimator, "lam": value} for value in settings["lams"])
        for other in _sigmas(settings)[1:]:
            yield base | {"estimator": estimator, "sigma": other, "lam": round(lam * other / sigma, 6)}
    if "ae-ls" in estimators:
        yield from (base | {"estimator": "ae-ls", "threshold": value} for value in settings["thresholds"])
    for name, changes in _variants(settings).items():
        chosen = [estimator for estimator in changes.pop("estimators", ["ae-ls"]) if estimator in estimators]
        yield from (base | {"estimator": estimator, "lam": lam, "variant": name} | changes for estimator in chosen)


def data_sets(settings: Mapping) -> list[str]:
    """The names of the data sets that a cell reads."""
    return [settings["train"], *settings["test"]]


def _sigmas(settings: Mapping) -> list[float]:
    """All noise levels, with the main one first."""
    return list(dict.fromkeys([settings["sigma"], *settings["sigmas"]]))


def _without_sigmas(denoiser: Mapping) -> dict:
    return {key: value for key, value in denoiser.items() if key != "sigmas"}


def _variants(settings: Mapping) -> dict[str, dict]:
    """The variants that are not null, each with its changes."""
    return {name: dict(changes) for name, changes in settings["variants"].items() if changes is not None}
