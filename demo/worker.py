# SPDX-License-Identifier: Apache-2.0
"""One worker: a Ray actor that trains its replica and averages gradients with the others.

Only the lines that begin with `collective.` talk to the other workers. They are the same for every
backend of ray.util.collective."""

import time
from dataclasses import dataclass, field

import ray
import torch
from ray.util import collective

import data
import model


@dataclass
class Plan:
    """What all workers are to do."""

    workers: int = 4
    batch: int = 32  # images per worker and step
    epochs: int = 15
    bucket_bytes: int = 256 << 10
    snapshot_step: int = 20  # after this many steps the weights are kept for comparison


@dataclass
class Epoch:
    """What one worker did in one epoch; lists have one entry per step."""

    losses: list[float] = field(default_factory=list)
    compute_s: list[float] = field(default_factory=list)
    communication_s: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)  # as manta counted them
    bytes: list[int] = field(default_factory=list)
    fingerprint: str = ""


@ray.remote(num_cpus=1)
class Worker:
    def __init__(self, rank: int, plan: Plan) -> None:
        torch.set_num_threads(1)
        self.rank, self.plan = rank, plan
        self.train, self.test = data.load()
        self.steps = 0
        self.snapshot: torch.Tensor | None = None

    def start(self, backend: str) -> tuple[str, str]:
        """Join the group and take over rank 0's weights. Fingerprints before and after that."""
        self.backend = backend
        self.model = model.make(seed=self.rank)  # different weights on each worker
        self.optimizer = model.optimizer(self.model)
        self.gradients = model.Gradients(self.model, self.plan.bucket_bytes)
        self.steps, self.snapshot = 0, None
        before = model.fingerprint(self.model)

        collective.init_collective_group(self.plan.workers, self.rank, backend, group_name=backend)
        with torch.no_grad():
            for parameter in self.model.parameters():
                collective.broadcast(parameter, src_rank=0, group_name=backend)
        return before, model.fingerprint(self.model)

    def train_epoch(self, epoch: int) -> Epoch:
        result = Epoch()
        for step in range(data.steps_per_epoch(self.train, self.plan.workers, self.plan.batch)):
            self.train_step(epoch, step, result)
        result.fingerprint = model.fingerprint(self.model)
        return result

    def train_step(self, epoch: int, step: int, result: Epoch) -> None:
        begin = time.perf_counter()
        batch = data.batch_of(
            self.train, self.rank, self.plan.workers, self.plan.batch, epoch, step
        )
        self.gradients.clear()
        loss = model.loss_and_gradients(self.model, batch)

        before = self.counters()
        communication_begin = time.perf_counter()
        for bucket in self.gradients.buckets:
            collective.allreduce(bucket, group_name=self.backend)
        communication = time.perf_counter() - communication_begin
        after = self.counters()

        self.gradients.flat /= self.plan.workers  # the sum becomes the mean
        self.optimizer.step()
        self.steps += 1
        if self.steps == self.plan.snapshot_step:
            self.snapshot = model.weights(self.model)
        result.losses.append(loss)
        result.communication_s.append(communication)
        result.compute_s.append(time.perf_counter() - begin - communication)
        result.calls.append(after[0] - before[0])
        result.bytes.append(after[1] - before[1])

    def counters(self) -> tuple[int, int]:
        """Calls and bytes of allreduce that libmanta has counted in this group."""
        if self.backend != "manta":
            return 0, 0
        stats = collective.collective.get_group_handle(self.backend).communicator.stats()
        return stats["calls"]["allreduce"], stats["bytes"]["allreduce"]

    def gradient_size(self) -> tuple[int, int]:
        """What one step must send: buckets and bytes."""
        return len(self.gradients.buckets), self.gradients.bytes

    def finish(self) -> tuple[float, torch.Tensor | None]:
        """Leave the group. Test accuracy, and the weights after the first steps."""
        collective.destroy_collective_group(self.backend)
        return model.accuracy(self.model, self.test), self.snapshot
