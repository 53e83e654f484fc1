"""How well an LMD run's posterior predicts: likelihood, metric and calibration on the test set."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from rung.optim import LMD
from rung.optim.posterior import point_probabilities, predict
from rung.theory import expected_calibration_error, negative_log_likelihood
from rung.train.session import Session
from rung.train.tasks import ImageTask

SAMPLES = 8
"""Weights that the average is over."""


def posterior_record(session: Session) -> dict[str, Any] | None:
    """The field ``posterior`` of summary.json; None unless LMD trained a classifier of images.

    The average over sampled weights, and for comparison the mean and the median of the posterior,
    each with the loss (nats), the task's metric and the expected calibration error in 15 bins; null
    where outputs weren't finite.
    """
    task, optimizer, model = session.task, session.optimizer, session.model
    if not isinstance(optimizer, LMD) or not isinstance(task, ImageTask):
        return None
    size = session.config.options.eval_batch_size
    places = torch.arange(len(task.data.test_labels))
    whole = _OnTestImages(task, model, session.device)
    # The optimizer's noise depends on the run's seed already: here it counts from 0.
    average = predict(whole, optimizer, places, SAMPLES, batch_size=size)
    targets = task.data.test_labels.to(average.device)
    record: dict[str, Any] = {"samples": SAMPLES, **_scores(task, average, targets)}
    for point in ("mean", "median"):
        with optimizer.evaluated(point):
            found = point_probabilities(whole, places, batch_size=size)
        record[point] = _scores(task, found, targets)
    return record


class _OnTestImages(nn.Module):
    """From places in the test set to logits, so that only a batch of images is floats at a time."""

    def __init__(self, task: ImageTask, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.task, self.model, self.device = task, model, device

    def forward(self, places: Tensor) -> Tensor:
        images: Tensor = self.task.still(self.task.data.test_images[places])
        outputs: Tensor = self.model(images.to(self.device))
        return outputs


def _scores(task: ImageTask, probabilities: Tensor, targets: Tensor) -> dict[str, float | None]:
    if not bool(torch.isfinite(probabilities).all()):
        return {"loss": None, "metric": None, "ece": None}
    loss = negative_log_likelihood(probabilities, targets)
    share = float((probabilities.argmax(-1) == targets).double().mean())
    return {
        "loss": loss if math.isfinite(loss) else None,
        "metric": share if task.metric.higher_is_better else 1 - share,
        "ece": expected_calibration_error(probabilities, targets),
    }
