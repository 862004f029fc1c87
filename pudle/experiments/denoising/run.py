"""Learn filters that denoise: codes from noisy crops, loss against the clean ones; tested on whole images after so many updates."""

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pudle import convolution
from pudle.coding import Unrolling
from pudle.data.catalogue import data_root
from pudle.data.images import check_sizes, load_images, random_crops
from pudle.data.streams import stream
from pudle.harness.record import Record
from pudle.initialization import random_filters
from pudle.metrics import psnr, psnr_as_published, ssim

METRICS = {"psnr": psnr, "psnr_as_published": psnr_as_published, "ssim": ssim}
GALLERY_CROP = 128  # pixels


def run(settings: Mapping, seeds: Sequence[int], record: Record, gradient: Callable = convolution.filter_gradient) -> None:
    """``gradient`` is only ever another one in negative controls."""
    train, test = (load_images(settings[which], data_root()) for which in ("train", "test"))
    check_sizes(train, settings["crop"], settings["train"])
    kernel, stride = settings["kernel"], settings["stride"]
    test = {name: convolution.fit_size(torch.from_numpy(image), kernel, stride) for name, image in test.items()}
    for seed in seeds:
        with record.seed(seed):
            _train(settings, train, test, seed, record, gradient)


def _train(
    settings: Mapping,
    train: Mapping[str, np.ndarray],
    test: Mapping[str, Tensor],
    seed: int,
    record: Record,
    gradient: Callable,
) -> None:
    sigma, stride = settings["sigma"] / 255, settings["stride"]
    unrolling = Unrolling(lam=settings["lam"], step=settings["step"], n_layers=settings["n_layers"])
    filters = random_filters(settings["n_filters"], settings["kernel"], seed)
    adam = torch.optim.Adam([filters], lr=settings["learning_rate"], eps=settings["adam_eps"])
    noisy_test = {name: image + sigma * _normal(image.shape, seed, f"test noise {name}") for name, image in test.items()}
    batches, noise = stream(seed, "batches"), stream(seed, "noise")
    _score(test, noisy_test, 0, record, prefix="noisy_")
    for update in tqdm(range(settings["updates"] + 1), desc=f"seed {seed}", mininterval=10, file=sys.stderr):
        if update % settings["evaluate_every"] == 0 or update == settings["updates"]:
            denoised = {name: _denoise(image, filters, unrolling, stride) for name, image in noisy_test.items()}
            _score(test, denoised, update, record)
        if update == settings["updates"]:
            break
        clean = torch.from_numpy(random_crops(train, settings["crop"], settings["batch"], batches))
        noisy = clean + sigma * torch.from_numpy(noise.standard_normal(clean.shape, dtype=np.float32))
        filters.grad, _, loss = gradient(
            noisy, filters, settings["estimator"], unrolling, stride=stride, targets=clean, l1_weight=_l1_weight(settings)
        )
        record.check(loss=loss, step=update)
        adam.step()
        filters /= torch.linalg.vector_norm(filters, dim=(1, 2, 3), keepdim=True)
    record.array("filters", filters[:, 0])
    for name in test:
        for kind, images in (("clean", test), ("noisy", noisy_test), ("denoised", denoised)):
            record.array(f"{kind}/{name}", _centre(images[name]))


def _l1_weight(settings: Mapping) -> float:
    """``released``: residual averaged over pixels, ℓ1 norm over code positions, the whole then scaled to a sum over pixels."""
    if settings.get("l1_weighting", "objective") == "objective":
        return 1.0
    positions = (settings["crop"] - settings["kernel"]) // settings["stride"] + 1
    return (settings["crop"] / positions) ** 2


def _denoise(image: Tensor, filters: Tensor, unrolling: Unrolling, stride: int) -> Tensor:
    codes = convolution.encode(image[None, None], filters, **vars(unrolling), stride=stride)
    return convolution.decode(codes, filters, stride=stride)[0, 0]


def _score(clean: Mapping[str, Tensor], estimates: Mapping[str, Tensor], step: int, record: Record, prefix: str = "") -> None:
    """Every metric for each image, and its mean over the images (the rows without an image)."""
    scores = {
        name: {prefix + metric: score(clean[name], estimates[name]) for metric, score in METRICS.items()} for name in clean
    }
    for name, values in scores.items():
        record.add(step, values, image=name)
    record.add(
        step, {metric: np.mean([values[metric] for values in scores.values()]) for metric in next(iter(scores.values()))}
    )


def _normal(shape: Sequence[int], seed: int, purpose: str) -> Tensor:
    return torch.from_numpy(stream(seed, purpose).standard_normal(shape, dtype=np.float32))


def _centre(image: Tensor) -> Tensor:
    top, left = ((size - min(size, GALLERY_CROP)) // 2 for size in image.shape)
    return image[top : top + GALLERY_CROP, left : left + GALLERY_CROP]
