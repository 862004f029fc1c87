"""The training of `denoising` and `denoising_best`: an unrolled denoiser learns from noisy crops of clean images.

Every denoiser has the settings n_filters, kernel, stride, n_layers, step, and lam or threshold. Optional settings are:

- untied : analysis filters and decoder are learned separately from D
- learn_thresholds : one soft threshold per filter is learned, starting from αλ
- shift_average : estimates, but not training, average over the shifts of the grid of codes
- scaling : "unit-norm" (the default) rescales filters to norm 1 after every update; "operator-norm" divides all filters by ‖D‖ once, before
  training, without constraint afterwards
- loss : "sum" (the default) is ½‖x − Dz‖² + λ‖z‖₁. "mean", with which PUDLE trained, averages the first term over pixels and the second one,
  summed over filters, over the positions of codes. Its gradients are smaller by the number of pixels, so that Adam's eps matters more
- margin : number of pixels along the border of a crop that the loss excludes (default 0)
- schedule : "constant" (the default), or "cosine", which decreases the learning rate to 0
"""

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pudle.core import networks
from pudle.core.convolution import operator_norm
from pudle.core.initialization import random_filters
from pudle.core.metrics import psnr, psnr_as_published, ssim
from pudle.core.networks import Network
from pudle.core.optimization import ConstrainedDescent
from pudle.core.random import stream
from pudle.core.unrolling import Unrolling
from pudle.data.images import random_crops
from pudle.harness.record import Record

METRICS = {"psnr": psnr, "psnr_as_published": psnr_as_published, "ssim": ssim}


@dataclass
class NetworkDenoiser:
    """Maps one noisy image (h, w) to its estimate. Without ``shift_average`` its sides must be kernel plus a multiple of stride."""

    network: Network
    unrolling: Unrolling
    stride: int
    shift_average: bool = False

    def __call__(self, noisy: Tensor) -> Tensor:
        estimate = networks.denoise(
            noisy[None, None], self.network, self.unrolling, stride=self.stride, shift_average=self.shift_average
        )
        return estimate[0, 0]

    @property
    def parameters(self) -> list[Tensor]:
        """The arrays that are learned."""
        return [array for array in self.network if array is not None]


def untrained(settings: Mapping, seed: int) -> NetworkDenoiser:
    """The denoiser that training starts from, with random filters."""
    unrolling = Unrolling(
        lam=settings.get("lam"), threshold=settings.get("threshold"), step=settings["step"], n_layers=settings["n_layers"]
    )
    filters = random_filters(settings["n_filters"], settings["kernel"], seed)
    if settings.get("scaling") == "operator-norm":
        filters /= operator_norm(filters, stride=settings["stride"])
    network = Network(filters)
    if settings.get("untied"):
        network = network._replace(analysis=filters.clone(), decoder=filters.clone())
    if settings.get("learn_thresholds"):
        network = network._replace(thresholds=filters.new_full((len(filters),), unrolling.level(0)))
    return NetworkDenoiser(network, unrolling, settings["stride"], settings.get("shift_average", False))


def train(
    settings: Mapping,
    images: Mapping[str, np.ndarray],
    seed: int,
    record: Record,
    evaluate: Callable[[NetworkDenoiser, int], None],
    gradient: Callable = networks.network_gradient,
) -> NetworkDenoiser:
    """Train on ``images`` and return the denoiser.

    ``evaluate(denoiser, update)`` is called every ``settings["evaluate_every"]`` updates, after those in ``settings["evaluate_at"]`` and
    after the last one. Recorded timings are CPU seconds of the updates, summed over threads. An interrupted run continues from its last
    checkpoint and gives the same numbers. Only negative controls override ``gradient``.
    """
    denoiser, sigma, last = untrained(settings, seed), settings["sigma"] / 255, settings["updates"]
    scale, l1_weight = loss_weights(settings)
    adam = torch.optim.Adam(denoiser.parameters, lr=settings["learning_rate"], eps=settings["adam_eps"])
    descent = ConstrainedDescent(adam, lambda *_: _constrain(denoiser.network, settings))
    draws = {purpose: stream(seed, purpose) for purpose in ("batches", "noise")}
    first, seconds = _restore(record.resume(), denoiser, adam, draws)
    for update in tqdm(
        range(first, last + 1), initial=first, total=last + 1, desc=f"seed {seed}", mininterval=10, file=sys.stderr
    ):
        record.keep(lambda: _state(update, seconds, denoiser, adam, draws))  # noqa: B023 (called at once)
        if update % settings["evaluate_every"] == 0 or update in settings.get("evaluate_at", ()) or update == last:
            evaluate(denoiser, update)
            record.time(update, seconds)
        if update == last:
            break
        clock = time.process_time()
        crops = random_crops(images, settings["crop"], settings["batch"], draws["batches"])
        noise = draws["noise"].standard_normal(crops.shape, np.float32)
        clean, noisy = (torch.from_numpy(array).to(denoiser.network.filters) for array in (crops, crops + sigma * noise))
        found = gradient(
            noisy,
            denoiser.network,
            settings["estimator"],
            denoiser.unrolling,
            stride=denoiser.stride,
            targets=clean,
            l1_weight=l1_weight,
            margin=settings.get("margin", 0),
        )
        record.check(loss=found.loss, step=update)
        adam.param_groups[0]["lr"] = _learning_rate(settings, update)
        descent.update(*(slope.mul_(scale) for slope in found.gradient if slope is not None))
        seconds += time.process_time() - clock
    return denoiser


def with_noise(images: Mapping[str, Tensor], sigma: float, seed: int) -> dict[str, Tensor]:
    """Test images (h, w) with noise of standard deviation ``sigma`` / 255. Each image has its own random stream."""
    draws = {
        name: stream(seed, f"test noise {name}").standard_normal(image.shape, np.float32) for name, image in images.items()
    }
    return {name: image + sigma / 255 * torch.from_numpy(draws[name]).to(image.device) for name, image in images.items()}


def score(
    clean: Mapping[str, Tensor],
    estimates: Mapping[str, Tensor],
    step: int,
    record: Record,
    *,
    each: bool = True,
    prefix: str = "",
    **labels: object,
) -> None:
    """Record the mean of every metric over the images, as rows without an image, and with ``each`` the metrics of each image."""
    scores = {
        name: {prefix + metric: measure(clean[name], estimates[name]) for metric, measure in METRICS.items()} for name in clean
    }
    for name, values in scores.items() if each else ():
        record.add(step, values, image=name, **labels)
    table = [list(values.values()) for values in scores.values()]
    record.add(step, dict(zip(next(iter(scores.values())), np.mean(table, 0), strict=True)), **labels)


def loss_weights(settings: Mapping) -> tuple[float, float]:
    """(c, w) of the loss c (½‖x − Dz‖² + w λ‖z‖₁) of a crop.

    They are (1, 1) for "sum" and (1 / pixels, pixels / positions of codes) for "mean".
    """
    if settings.get("loss", "sum") == "sum":
        return 1.0, 1.0
    pixels = (settings["crop"] - 2 * settings.get("margin", 0)) ** 2
    positions = ((settings["crop"] - settings["kernel"]) // settings["stride"] + 1) ** 2
    return 1 / pixels, pixels / positions


def _learning_rate(settings: Mapping, update: int) -> float:
    rate = settings["learning_rate"]
    if settings.get("schedule", "constant") == "constant":
        return rate
    return rate * (1 + math.cos(math.pi * update / settings["updates"])) / 2


def _constrain(network: Network, settings: Mapping) -> None:
    if settings.get("scaling", "unit-norm") == "unit-norm":
        for filters in (array for array in network[:3] if array is not None):
            filters /= torch.linalg.vector_norm(filters, dim=(1, 2, 3), keepdim=True)
    if network.thresholds is not None:
        network.thresholds.clamp_(min=0)


def _state(update: int, seconds: float, denoiser: NetworkDenoiser, adam: torch.optim.Adam, draws: Mapping) -> dict:
    """The state that later updates depend on."""
    moments = adam.state_dict()["state"]
    return {
        "update": update,
        "seconds": seconds,
        "draws": {purpose: draw.bit_generator.state for purpose, draw in draws.items()},
        **{f"parameter {i}": array.numpy(force=True) for i, array in enumerate(denoiser.parameters)},
        **{f"adam {i} {name}": value.numpy(force=True) for i, values in moments.items() for name, value in values.items()},
    }


def _restore(state: Mapping | None, denoiser: NetworkDenoiser, adam: torch.optim.Adam, draws: Mapping) -> tuple[int, float]:
    """Restore ``state``; returns the next update and the CPU seconds of the updates before it."""
    if state is None:
        return 0, 0.0
    for purpose, draw in draws.items():
        draw.bit_generator.state = state["draws"][purpose]
    moments = {}
    for i, array in enumerate(denoiser.parameters):
        array.copy_(torch.from_numpy(state[f"parameter {i}"]))
        prefix = f"adam {i} "
        moments[i] = {
            name.removeprefix(prefix): torch.from_numpy(value) for name, value in state.items() if name.startswith(prefix)
        }
    adam.load_state_dict(adam.state_dict() | {"state": {i: values for i, values in moments.items() if values}})
    return state["update"], state["seconds"]
