"""One label and one colour per method, in every figure (Okabe & Ito's palette, safe for the colour-blind)."""

from collections.abc import Callable, Iterator

import pandas as pd

_LOOKS = {
    "dec": ("dec", "#0072B2"),
    "ae-lasso": ("ae-lasso", "#E69F00"),
    "ae-lasso released": ("ae-lasso, released ℓ₁ weight", "#D55E00"),
    "ae-ls": ("ae-ls", "#009E73"),
    "codes": ("codes", "#4D4D4D"),
    "noisy": ("noisy input", "#999999"),
}


def lines(table: pd.DataFrame, method: Callable[..., str], *keys: str) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """The groups of ``table`` by ``keys``, each with the look of ``method(*values of the keys)``, in the order of the palette."""
    groups = {method(*values): group for values, group in table.groupby(list(keys))}
    for name in _LOOKS:
        if name in groups:
            yield look(name), groups[name]


def look(method: str) -> dict[str, str]:
    """Keyword arguments ``label`` and ``color`` for matplotlib."""
    label, color = _LOOKS[method]
    return {"label": label, "color": color}
