"""For each forward pass, one cell with the codes at D* ("codes") and one for each gradient that learns through this forward pass.

ae-lasso learns with fixed λ only, since its loss has one λ.
"""

from collections.abc import Iterator, Mapping

VARIES = ("forward", "learner")


def plan(settings: Mapping) -> Iterator[dict]:
    rest = {key: value for key, value in settings.items() if key not in ("forward", "estimators")}
    for forward in settings["forward"]:
        for learner in ("codes", *settings["estimators"]):
            if forward == "fixed" or learner != "ae-lasso":
                yield rest | {"forward": forward, "learner": learner}
