"""One label, colour and line style per method in all figures.

The gradients have colours of Okabe & Ito, which colour-blind readers can distinguish. Since there are more methods than distinguishable
colours, related methods share a colour and differ in their line styles.
"""

from collections.abc import Callable, Iterator

import pandas as pd

_LOOKS = {
    "dec": ("dec", "#0072B2", "-"),
    "ae-lasso": ("ae-lasso", "#E69F00", "-"),
    "ae-ls": ("ae-ls", "#009E73", "-"),
    "pudle-dec": ("pudle-dec", "#0072B2", "-"),
    "pudle-ae-lasso": ("pudle-ae-lasso", "#E69F00", "-"),
    "pudle-ae-ls": ("pudle-ae-ls", "#009E73", "-"),
    "pudle-truncated": ("pudle-truncated", "#009E73", ":"),
    "pudle-ae-ls-decay": ("pudle-ae-ls-decay", "#56B4E9", "-"),
    "pudle-ae-ls-ht": ("pudle-ae-ls-ht", "#CC79A7", "-"),
    "alternating": ("alternating", "#0072B2", "--"),
    "noodl": ("noodl", "#D55E00", "-"),
    "noodl-as-published": ("noodl-as-published", "#D55E00", "--"),
    "arora-biased": ("arora-biased", "#8C564B", "-"),
    "arora-unbiased": ("arora-unbiased", "#8C564B", "--"),
    "online": ("online", "#7F7F7F", "-"),
    "admm": ("admm", "#7F7F7F", "--"),
    "mod": ("mod", "#9467BD", "-"),
    "k-svd": ("k-svd", "#9467BD", "--"),
    "perturbed": ("perturbed truth", "#332288", "-"),
    "gaussian": ("Gaussian", "#999933", "-"),
    "samples": ("samples", "#44AA99", "-"),
    "arora": ("Arora's pairs", "#8C564B", "-"),
    "ten-minutes": ("ten minutes", "#009E73", "-"),
    "thirty-minutes": ("thirty minutes", "#0072B2", "-"),
    "untied": ("untied, learned thresholds", "#D55E00", "-"),
    "two-hours": ("untied, ten times the updates", "#CC79A7", "-"),
    "codes": ("codes", "#4D4D4D", "-"),
    "true-code": ("true code $z^*$", "#D55E00", "-"),
    "noisy": ("noisy input", "#999999", ":"),
    "nlm": ("non-local means", "#56B4E9", "--"),
    "wavelet": ("wavelets", "#CC79A7", "--"),
    "wavelet-shifts": ("wavelets, shifts averaged", "#CC79A7", ":"),
    "tv": ("total variation", "#D55E00", "--"),
    "patch-dictionary": ("patch dictionary", "#9467BD", "--"),
    "cbpdn": ("convolutional BPDN", "#8C564B", "--"),
    "bm3d": ("BM3D", "#4D4D4D", "--"),
}
_GUESTS = ("#000000", "#E377C2", "#17BECF", "#BCBD22")  # for methods of users, in the order of their names


def lines(table: pd.DataFrame, method: Callable[..., str], *keys: str) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """The groups of ``table`` by ``keys``, each with the look of the method ``method(*values of the keys)``.

    Methods of the palette come first, in its order; other methods follow.
    """
    groups = {method(*values): group for values, group in table.groupby(list(keys))}
    for name in _LOOKS:
        if name in groups:
            yield look(name), groups[name]
    for i, name in enumerate(sorted(set(groups) - set(_LOOKS))):
        yield {"label": name, "color": _GUESTS[i % len(_GUESTS)], "linestyle": "-."}, groups[name]


def look(method: str) -> dict[str, str]:
    """Keyword arguments ``label``, ``color`` and ``linestyle`` for matplotlib."""
    label, color, line = _LOOKS[method]
    return {"label": label, "color": color, "linestyle": line}
