"""One label and one colour per method, in every figure (Okabe & Ito's palette, safe for the colour-blind)."""

_LOOKS = {
    "dec": ("dec", "#0072B2"),
    "ae-lasso": ("ae-lasso", "#E69F00"),
    "ae-ls": ("ae-ls", "#009E73"),
    "ae-lasso released": ("ae-lasso, released ℓ₁ weight", "#D55E00"),
    "codes": ("codes", "#4D4D4D"),
    "noisy": ("noisy input", "#999999"),
}


def look(method: str) -> dict[str, str]:
    """Keyword arguments ``label`` and ``color`` for matplotlib."""
    label, color = _LOOKS[method]
    return {"label": label, "color": color}
