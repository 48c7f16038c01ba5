# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network, and its gradients as one flat vector cut into buckets."""

import hashlib

import torch
from torch import nn

import manta
from data import Images

LEARNING_RATE, MOMENTUM = 0.05, 0.9


def make(seed: int) -> nn.Module:
    """No batch norm and no dropout: a step depends on the weights and the batch only, so four
    workers with averaged gradients do what one process does with the joint batch."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)


def loss_and_gradients(model: nn.Module, images: Images) -> float:
    loss = nn.functional.cross_entropy(model(images.pixels), images.labels)
    loss.backward()
    return loss.item()


def accuracy(model: nn.Module, images: Images) -> float:
    with torch.no_grad():
        return (model(images.pixels).argmax(1) == images.labels).float().mean().item()


def weights(model: nn.Module) -> torch.Tensor:
    """A copy of all parameters as one vector."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def fingerprint(model: nn.Module) -> str:
    return hashlib.sha256(weights(model).numpy().tobytes()).hexdigest()


class Gradients:
    """All gradients in one flat vector: each parameter's .grad is a view of it, so backward() fills
    the buckets and no copy is needed before they are sent. And the vector is of memory that the
    other workers of this node read in place, so manta copies nothing either."""

    def __init__(self, model: nn.Module, bucket_bytes: int) -> None:
        parameters = list(model.parameters())
        self.flat = manta.empty(sum(parameter.numel() for parameter in parameters), torch.float32)
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.grad = self.flat[start:end].view_as(parameter)
            start = end
        self.buckets = self.flat.split(bucket_bytes // self.flat.element_size())
        self.bytes = self.flat.numel() * self.flat.element_size()

    def clear(self) -> None:
        self.flat.zero_()
