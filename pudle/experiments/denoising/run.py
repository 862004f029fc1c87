"""Learn filters that denoise, or run another denoiser, and test them on entire images.

All methods are compared on the same noisy images: test images are cropped to a size that the filters cover, and their noise comes from
random streams that depend on the seed and the image only.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pudle import denoisers
from pudle.core import convolution, networks
from pudle.core.random import stream
from pudle.data.catalogue import data_root
from pudle.data.images import check_scores, check_sizes, load_images, refuse_overlap
from pudle.errors import PudleError
from pudle.experiments._shared import training
from pudle.experiments.denoising.pictures import GALLERY, centre
from pudle.harness.record import Record

GALLERY_CROP = 128  # pixels
Images = Mapping[str, Mapping[str, Tensor]]  # data set → name → (h, w)


def run(settings: Mapping, seeds: Sequence[int], record: Record, gradient: Callable = networks.network_gradient) -> None:
    """Run one cell. Only negative controls override ``gradient``."""
    train, test = load(settings)
    for seed in seeds:
        limit, trained = settings.get("time_limit"), "denoiser" not in settings
        with record.seed(seed, limit=limit, guard=not trained):
            noisy = {name: training.with_noise(images, settings["sigma"], seed) for name, images in test.items()}
            for name, images in test.items():
                record.add(0, {"n_images": len(images), "n_train_images": len(train)}, data_set=name)
                training.score(images, noisy[name], 0, record, prefix="noisy_", data_set=name)
            work = _train if trained else _denoise
            denoised = work(settings, train, test, noisy, seed, record, gradient)
            if record.is_first(seed, seeds):
                _keep_gallery(test, noisy, denoised, record)


def load(settings: Mapping) -> tuple[dict[str, np.ndarray], Images]:
    """Training images, and test images cropped to kernel plus a multiple of stride.

    Raises :class:`PudleError` if images are too small or belong to both sets.
    """
    kernel, stride, root = settings["kernel"], settings["stride"], data_root()
    train = load_images(settings["train"], root)
    check_sizes(train, settings.get("crop", kernel), settings["train"])
    test = {}
    for name in settings["test"]:
        images = load_images(name, root)
        check_sizes(images, kernel, name, "filters")
        refuse_overlap(train, images, settings["train"], name)
        test[name] = {key: convolution.fit_size(torch.as_tensor(image), kernel, stride) for key, image in images.items()}
        check_scores(test[name], name)
    return train, test


def _train(
    settings: Mapping, train: Mapping, test: Images, noisy: Images, seed: int, record: Record, gradient: Callable
) -> Images:
    denoised: dict[str, dict[str, Tensor]] = {}

    def evaluate(denoiser: training.NetworkDenoiser, update: int) -> None:
        for name, images in noisy.items():
            denoised[name] = {key: denoiser(image) for key, image in images.items()}
            training.score(test[name], denoised[name], update, record, each=update == settings["updates"], data_set=name)
        if denoiser.network.analysis is None:
            squared = float(convolution.operator_norm(denoiser.network.filters, stride=denoiser.stride)) ** 2
            record.add(update, {"step_times_squared_norm": settings["step"] * squared})  # α‖D‖₂²; layers may diverge above 2

    denoiser = training.train(settings, train, seed, record, evaluate, gradient)
    record.array("filters", denoiser.network.filters[:, 0])
    return denoised


def _denoise(settings: Mapping, train: Mapping, test: Images, noisy: Images, seed: int, record: Record, _) -> Images:
    denoiser = denoisers.create(
        settings["denoiser"], settings["denoiser_settings"], settings["sigma"] / 255, stream(seed, "denoiser")
    )
    denoiser.fit(train)
    denoised = {}
    for name, images in noisy.items():
        denoised[name] = {
            key: _checked(denoiser.denoise(image.numpy(force=True).copy()), image, key) for key, image in images.items()
        }
        training.score(test[name], denoised[name], 0, record, data_set=name)
    return denoised


def _checked(estimate: np.ndarray, noisy: Tensor, name: str) -> Tensor:
    if np.shape(estimate) != tuple(noisy.shape):
        raise PudleError(f"the estimate of image {name!r} has shape {np.shape(estimate)}, the noisy image {tuple(noisy.shape)}")
    return torch.as_tensor(np.asarray(estimate, np.float32))


def _keep_gallery(test: Images, noisy: Images, denoised: Images, record: Record) -> None:
    """Keep the centres of the first images of each data set and of the images denoised worst and best."""
    for name, images in test.items():
        quality = {key: training.METRICS["psnr"](image, denoised[name][key]) for key, image in images.items()}
        shown = {*list(images)[:GALLERY], min(quality, key=quality.get), max(quality, key=quality.get)}
        for key in sorted(shown):
            for kind, found in (("clean", test), ("noisy", noisy), ("denoised", denoised)):
                record.array(f"{kind}/{name}/{key}", centre(found[name][key], GALLERY_CROP, GALLERY_CROP))
