# SPDX-License-Identifier: Apache-2.0
"""What must be true of the training, or the demo fails with a sentence that says what is not."""

import math

import torch

TOLERANCE = 1e-4
ACCURACY = 0.95


class DemoFailed(Exception):
    pass


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise DemoFailed(sentence)


def starts(before: list[str], after: list[str]) -> None:
    require(
        len(set(before)) == len(before),
        "the workers did not start from different weights, so the broadcast would prove nothing",
    )
    require(
        set(after) == {before[0]},
        "after the broadcast the workers do not all have rank 0's weights",
    )


def equal_weights(fingerprints: list[str], epoch: int) -> None:
    odd = [rank for rank, text in enumerate(fingerprints) if text != fingerprints[0]]
    require(
        not odd,
        f"after epoch {epoch + 1} the weights of workers {odd} differ bitwise from worker 0's",
    )


def finite(losses: list[float], epoch: int) -> None:
    require(all(map(math.isfinite, losses)), f"in epoch {epoch + 1} the loss is not finite")


def traffic(calls: list[int], sent: list[int], buckets: int, gradient_bytes: int) -> None:
    for step, (call_count, byte_count) in enumerate(zip(calls, sent, strict=True)):
        require(
            call_count == buckets and byte_count == gradient_bytes,
            f"in step {step + 1} manta counted {call_count} calls and {byte_count} bytes of "
            f"allreduce; the gradients are {gradient_bytes} bytes in {buckets} buckets",
        )


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the largest weight."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def agrees(found: torch.Tensor, expected: torch.Tensor, steps: int) -> float:
    relative = difference(found, expected)
    require(
        relative <= TOLERANCE,
        f"after {steps} steps the workers' weights differ from those of a single process fed the "
        f"same batches by {relative:.1e} relative; {TOLERANCE:.0e} is allowed",
    )
    return relative


def accurate(accuracy: float) -> None:
    require(
        accuracy > ACCURACY,
        f"the test accuracy is {accuracy:.1%}; more than {ACCURACY:.0%} is required",
    )
