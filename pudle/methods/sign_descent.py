"""The base of Arora's methods and NOODL: hard-thresholded codes and a gradient with the signs of the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pudle.methods import Field, Method, Settings

if TYPE_CHECKING:
    from torch import Tensor


def sign_gradient(x: Tensor, dictionary: Tensor, codes: Tensor) -> Tensor:
    """g = (1/n) Σ (Dz − x) sign(z)ᵀ, (m, p), for samples x (n, m) with codes z (n, p)."""
    return (codes @ dictionary.T - x).T @ codes.sign() / len(x)


class SignDescent(Method):
    """D ← normalise(D − η g). By default codes are HT_{C/2}(Dᵀx), and g is :func:`sign_gradient`."""

    class Settings(Settings):
        learning_rate: float = Field(5.0, gt=0, description="Step size η of the dictionary.")
        amplitude: float = Field(
            1.0, gt=0, description="C, the smallest amplitude of a non-zero code: codes below C/2 count as zero."
        )

    def encode(self, x: Tensor) -> Tensor:
        from pudle.core.unrolling import hard_threshold

        return hard_threshold(x @ self.dictionary, self.settings.amplitude / 2)

    def gradient(self, batch: Tensor) -> Tensor:
        return sign_gradient(batch, self.dictionary, self.encode(batch))

    def update(self, batch):
        self.move_to(self.dictionary - self.settings.learning_rate * self.gradient(batch))
