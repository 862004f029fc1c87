"""A cell for each gradient and level of sparsity or of noise, for each variant, and for each denoiser at each level of noise.

- at the noise ``sigma``: dec and ae-ls at each of ``lams``, ae-ls with each hard threshold of ``thresholds``, ae-lasso at
  ``lam``, and ae-ls (or the variant's ``estimators``) at ``lam`` with what each of ``variants`` changes;
- at the other noises of ``sigmas``: dec and ae-ls, with λ in proportion to the noise;
- at each noise: every denoiser of ``denoisers``.
"""

from collections.abc import Iterator, Mapping

from pudle import denoisers
from pudle.experiments._shared import plugin_grid

VARIES = ("sigma", "estimator", "lam", "threshold", "variant", "denoiser_name")
LISTS = ("estimators", "lams", "thresholds", "sigmas", "variants", "denoisers")
FOR_DENOISERS = ("train", "test", "kernel", "stride", "time_limit")  # kernel and stride say to which size test images are cut


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
    """Those that a cell reads."""
    return [settings["train"], *settings["test"]]


def _sigmas(settings: Mapping) -> list[float]:
    """``sigma``, and then the others."""
    return list(dict.fromkeys([settings["sigma"], *settings["sigmas"]]))


def _without_sigmas(denoiser: Mapping) -> dict:
    return {key: value for key, value in denoiser.items() if key != "sigmas"}


def _variants(settings: Mapping) -> dict[str, dict]:
    """Those that are not null."""
    return {name: dict(changes) for name, changes in settings["variants"].items() if changes is not None}
