"""Claims about the order of the gradients' errors, separately for each variant.

Errors are relative errors of the dictionary, column by column, after the last update.
"""

import pandas as pd

from pudle.analysis.claim import Claim, NotRun, final

VARIANTS = {
    "noise-T100": "under additive noise of 0.12, T = 100",
    "noise-T25": "under additive noise of 0.12, T = 25",
    "batch-4": "with minibatches of 4",
    "batch-16": "with minibatches of 16",
    "batch-64": "with minibatches of 64",
    "rate-1e-4": "at a learning rate of 1e-4",
    "rate-1e-2": "at a learning rate of 1e-2",
    "subgaussian-T100": "with sub-Gaussian codes, T = 100",
    "subgaussian-T25": "with sub-Gaussian codes, T = 25",
    "independent-signs": "with independent signs",
}

_PUBLISHED = {  # final errors of ae-ls / dec at T = 100; those of ae-lasso and dec are equal
    "noise-T100": "0.072 / 0.228",
    "batch-4": "0.0247 / 0.0708",
    "batch-16": "0.0164 / 0.0709",
    "batch-64": "0.0155 / 0.0916",
    "rate-1e-4": "0.0186 / 0.153",
    "rate-1e-2": "0.0137 / 0.145",
    "subgaussian-T100": "0.0024 / 0.0513",
}
_PAPER_SCALE_ONLY = ("rate-1e-4",)  # needs 4 000 updates, which no smaller scale runs
_UNKNOWN = "the published protocol is not known; no interpretation that was tried replicates the figure of the appendix"
_OURS = {
    "noise-T100": _UNKNOWN,
    "noise-T25": _UNKNOWN,
    "subgaussian-T100": _UNKNOWN,
    "subgaussian-T25": _UNKNOWN,
    "independent-signs": "no publication states this for experiments; the theory assumes independent signs, and the released code uses shared "
    "ones",
}


def _ratio(rows: pd.DataFrame, variant: str, over: str, under: list[str]) -> pd.Series:
    if variant in _PAPER_SCALE_ONLY and variant not in set(rows.get("variant", ())):
        raise NotRun("at paper scale only")
    table = final(rows, "dictionary_error", by="method_name", variant=variant)
    for name in (over, *under):
        if name not in table:
            raise NotRun(f"no rows of the method {name}")
    return table[over] / table[under].min(axis=1)


def _best(variant: str, words: str) -> Claim:
    return Claim(
        id=f"ae-ls-best-{variant}",
        kind="ours" if variant in _OURS else "paper",
        statement=f"The final error of ae-ls is below those of dec and ae-lasso {words}.",
        place=_OURS.get(variant, "Appendix, further experiments; figure of the dictionary's error over updates"),
        effect="final error of pudle-ae-ls divided by the smaller of pudle-dec's and pudle-ae-lasso's",
        estimate=lambda rows: _ratio(rows, variant, "pudle-ae-ls", ["pudle-dec", "pudle-ae-lasso"]),
        below=1,
        ratio=True,
        why=f"equal errors give 1; published: {_PUBLISHED.get(variant, 'nothing')}",
        rows=f"dictionary_error of all three after the last update, variant {variant}",
        figure="final_errors",
    )


def _second(variant: str, words: str) -> Claim:
    return Claim(
        id=f"ae-lasso-not-above-dec-{variant}",
        kind="ours",
        statement=f"The final error of ae-lasso is no higher than that of dec {words}.",
        place="no publication states this; in the figures of the appendix the two curves coincide",
        effect="final error of pudle-ae-lasso divided by that of pudle-dec",
        estimate=lambda rows: _ratio(rows, variant, "pudle-ae-lasso", ["pudle-dec"]),
        below=1.05,
        ratio=True,
        why="equal errors give 1, as published at T = 100; we call up to 5 % more no higher",
        rows=f"dictionary_error of both after the last update, variant {variant}",
        figure="final_errors",
    )


CLAIMS = tuple(claim(variant, words) for variant, words in VARIANTS.items() for claim in (_best, _second))
