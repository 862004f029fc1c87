"""What the paper says of denoising. PSNR is the mean over test images on whole images with peak 1, after the last update."""

import pandas as pd

from pudle.harness.verdicts import Claim, NotRun, final, select

_PLACE = "Section 5, image denoising"


def _final(rows: pd.DataFrame, estimator: str, **where) -> pd.Series:
    table = final(rows, "psnr", by="estimator", image="", **where)
    if estimator not in table:
        raise NotRun(f"no rows with {estimator}")
    return table[estimator]


def _over_noisy(rows: pd.DataFrame, weighting: str) -> pd.Series:
    where = {"image": "", "estimator": "ae-lasso", "l1_weighting": weighting}
    trained = select(rows, "psnr", **where)
    late = trained[trained.step >= trained.step.max() / 2].groupby("seed").value.mean()
    return late - select(rows, "noisy_psnr", **where).set_index("seed").value


def _fails(weighting: str) -> Claim:
    return Claim(
        id=f"ae-lasso-fails-{weighting}",
        statement=f"ae-lasso fails to learn filters that denoise ({weighting} ℓ1 weighting).",
        place=_PLACE,
        effect="PSNR of ae-lasso, mean over the second half of training, minus that of the noisy input, dB",
        estimate=lambda rows: _over_noisy(rows, weighting),
        below=0,
        why="a denoiser that does no better than the noisy input has failed; published: 14 to 19 dB, below the input, swinging, hence the mean",
        rows=f"psnr and noisy_psnr, mean over images, of ae-lasso with the weighting {weighting}; the second half of training",
        figure="test_psnr",
    )


CLAIMS = (
    Claim(
        id="ae-ls-denoises-better",
        statement="ae-ls denoises better than dec.",
        place=_PLACE,
        effect="PSNR of ae-ls minus that of dec, dB",
        estimate=lambda rows: _final(rows, "ae-ls") - _final(rows, "dec"),
        above=0,
        why="equal quality gives 0; published: 25.67 − 25.24 = 0.43 dB",
        rows="psnr, mean over images, of both after the last update",
        figure="test_psnr",
    ),
    _fails("objective"),
    _fails("released"),
)
