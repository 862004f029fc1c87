"""Learn filters that denoise: codes from noisy crops, loss against the clean ones; tested on whole images after so many updates."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pudle import convolution, networks
from pudle.data.catalogue import data_root
from pudle.data.images import check_sizes, load_images
from pudle.experiments import training
from pudle.harness.record import Record

GALLERY_CROP = 128  # pixels


def run(settings: Mapping, seeds: Sequence[int], record: Record, gradient: Callable = networks.network_gradient) -> None:
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
    noisy = training.with_noise(test, settings["sigma"], seed)
    training.score(test, noisy, 0, record, prefix="noisy_")
    denoised: dict[str, Tensor] = {}

    def evaluate(denoiser: training.Denoiser, update: int) -> None:
        denoised.update({name: denoiser(image) for name, image in noisy.items()})
        training.score(test, denoised, update, record)

    denoiser = training.train(settings, train, seed, record, evaluate, gradient)
    record.array("filters", denoiser.network.filters[:, 0])
    for name in test:
        for kind, images in (("clean", test), ("noisy", noisy), ("denoised", denoised)):
            record.array(f"{kind}/{name}", _centre(images[name]))


def _centre(image: Tensor) -> Tensor:
    top, left = ((size - min(size, GALLERY_CROP)) // 2 for size in image.shape)
    return image[top : top + GALLERY_CROP, left : left + GALLERY_CROP]
