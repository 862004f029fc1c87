"""Wrong gradients for negative controls."""

from collections.abc import Callable


def wrong_sign(gradient: Callable, *estimators: str) -> Callable:
    """``gradient(x, dictionary, estimator, …)`` with the opposite sign for ``estimators``."""

    def wrong(x, dictionary, estimator, *arguments, **options):
        result = gradient(x, dictionary, estimator, *arguments, **options)
        return result._replace(gradient=-result.gradient) if estimator in estimators else result

    return wrong


def shuffled_codes(gradient: Callable) -> Callable:
    """``gradient(…)`` with the codes of each sample assigned to the next sample."""

    def wrong(*arguments, **options):
        result = gradient(*arguments, **options)
        return result._replace(codes=result.codes.roll(1, 0))

    return wrong


def detached(gradient: Callable) -> Callable:
    """``gradient(…)`` with dec in place of ae-ls, as if back-propagation omitted the layers."""

    def wrong(x, dictionary, estimator, *arguments, **options):
        return gradient(x, dictionary, "dec" if estimator == "ae-ls" else estimator, *arguments, **options)

    return wrong
