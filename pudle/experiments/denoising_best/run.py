"""Train a denoiser with ae-ls and test it on entire images during training, without and with averaging over shifts of the grid of codes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from pudle.core import convolution
from pudle.data.catalogue import data_root
from pudle.data.images import check_scores, check_sizes, load_images, refuse_overlap
from pudle.experiments._shared import training
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record) -> None:
    train, test = (load_images(settings[which], data_root()) for which in ("train", "test"))
    check_sizes(train, settings["crop"], settings["train"])
    refuse_overlap(train, test, settings["train"], settings["test"])
    kernel, stride = settings["kernel"], settings["stride"]
    test = {name: convolution.fit_size(torch.as_tensor(image), kernel, stride) for name, image in test.items()}
    check_scores(test, settings["test"])
    for seed in seeds:
        noisy = training.with_noise(test, settings["sigma"], seed)

        def evaluate(denoiser: training.NetworkDenoiser, update: int, noisy=noisy) -> None:
            every = settings.get("shift_average_every")
            averaged = every and update and (update % every == 0 or update == settings["updates"])
            for name in ("plain", "shift-averaged") if averaged else ("plain",):
                chosen = replace(denoiser, shift_average=name == "shift-averaged")
                estimates = {image: chosen(pixels) for image, pixels in noisy.items()}
                training.score(test, estimates, update, record, estimate=name)

        with record.seed(seed):
            record.add(0, {"n_images": len(test), "n_train_images": len(train)})
            training.score(test, noisy, 0, record, prefix="noisy_")
            denoiser = training.train(settings | {"estimator": "ae-ls"}, train, seed, record, evaluate)
            for name, array in denoiser.network._asdict().items():
                if array is not None:
                    record.array(name, array)
