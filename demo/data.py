# SPDX-License-Identifier: Apache-2.0
"""The images: 1,797 handwritten digits of 8 x 8 pixels, which ship inside scikit-learn."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits

SPLIT_SEED = 7
TEST_IMAGES = 360


@dataclass
class Images:
    pixels: torch.Tensor  # [n, 1, 8, 8], 0 .. 1
    labels: torch.Tensor  # [n]


def load() -> tuple[Images, Images]:
    """Training and test images; always the same split."""
    digits = load_digits()
    pixels = torch.from_numpy(digits.images.astype(np.float32) / 16).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return Images(pixels[train], labels[train]), Images(pixels[test], labels[test])


def steps_per_epoch(train: Images, workers: int, batch: int) -> int:
    return len(train.labels) // workers // batch


def batch_of(train: Images, rank: int, workers: int, batch: int, epoch: int, step: int) -> Images:
    """What one worker sees in one step. Its shard is every `workers`-th image, so the shards are
    disjoint, and it walks through the shard in another order in each epoch."""
    shard = np.arange(rank, len(train.labels), workers)
    order = np.random.default_rng([epoch, rank]).permutation(shard)
    chosen = order[step * batch : (step + 1) * batch]
    return Images(train.pixels[chosen], train.labels[chosen])


def joint_batch(train: Images, workers: int, batch: int, epoch: int, step: int) -> Images:
    """What all workers together see in one step."""
    parts = [batch_of(train, rank, workers, batch, epoch, step) for rank in range(workers)]
    return Images(
        torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts])
    )
