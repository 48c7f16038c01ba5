# SPDX-License-Identifier: Apache-2.0
"""The same training in one process, fed the joint batches: what the workers must agree with."""

from dataclasses import dataclass, field

import torch

import data
import model
from worker import Plan


@dataclass
class Single:
    losses: list[float] = field(default_factory=list)
    snapshot: torch.Tensor | None = None
    accuracy: float = 0.0


def train(plan: Plan) -> Single:
    train_images, test_images = data.load()
    net = model.make(seed=0)  # rank 0's weights
    sgd = model.optimizer(net)
    result = Single()
    for epoch in range(plan.epochs):
        for step in range(data.steps_per_epoch(train_images, plan.workers, plan.batch)):
            sgd.zero_grad()
            batch = data.joint_batch(train_images, plan.workers, plan.batch, epoch, step)
            result.losses.append(model.loss_and_gradients(net, batch))
            sgd.step()
            if len(result.losses) == plan.snapshot_step:
                result.snapshot = model.weights(net)
    result.accuracy = model.accuracy(net, test_images)
    return result
