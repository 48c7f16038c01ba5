# SPDX-License-Identifier: Apache-2.0
"""The demo: it passes, it notices corrupted messages, and its checks can fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DEMO = Path(__file__).resolve().parents[2] / "demo"
sys.path.insert(0, str(DEMO))

import checks  # noqa: E402
import data  # noqa: E402
import model  # noqa: E402

import manta  # noqa: E402


def run(folder, *arguments, **variables):
    command = [sys.executable, str(DEMO / "train.py"), "--out", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False,
                          env=os.environ | variables)


def test_training(tmp_path):
    result = run(tmp_path, "--only-manta")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "bitwise equal weights" in result.stdout
    numbers = json.loads((tmp_path / "training.json").read_text())
    manta, = numbers["runs"]
    assert manta["backend"] == "manta" and manta["accuracy"] > 0.95
    assert len(manta["losses"]) == len(numbers["single_process_losses"]) == len(manta["calls"])
    assert set(manta["calls"]) == {3} and len(set(manta["bytes"])) == 1
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_one_epoch_is_compared_at_its_end(tmp_path):
    """11 steps are fewer than the 20 after which a longer training is compared."""
    result = run(tmp_path, "--only-manta", "--epochs", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "accuracy was not checked: 1 of 15 epochs" in result.stdout
    manta, = json.loads((tmp_path / "training.json").read_text())["runs"]
    assert len(manta["losses"]) == 11 and manta["difference"] < checks.TOLERANCE


@pytest.mark.parametrize("epochs", ["0", "-3", "many"])
def test_nonsense_is_refused(tmp_path, epochs):
    result = run(tmp_path, "--epochs", epochs)
    assert result.returncode == 2 and "--epochs" in result.stderr


def test_corrupted_messages_are_noticed(tmp_path):
    """Only MANTA_FAULT is set: the demo chooses the transport that injects faults."""
    result = run(tmp_path, "--only-manta", "--epochs", "2", MANTA_FAULT="corrupt")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "demo failed: " in result.stderr and "weights" in result.stderr
    assert not (tmp_path / "training.json").exists()


def test_shards_are_disjoint_and_joint_batches_are_theirs():
    train, test = data.load()
    assert len(train.labels) == 1437 and len(test.labels) == 360
    seen = []
    for rank in range(4):
        for step in range(data.steps_per_epoch(train, 4, 32)):
            seen += [tuple(image.flatten().tolist()) for image in
                     data.batch_of(train, rank, 4, 32, 0, step).pixels]
    assert len(set(seen)) == len(seen) == 4 * 11 * 32
    joint = data.joint_batch(train, 4, 32, 1, 2)
    third = data.batch_of(train, 2, 4, 32, 1, 2)
    assert torch.equal(joint.pixels[64:96], third.pixels)


def test_gradients_are_views_of_the_buckets():
    net = model.make(0)
    gradients = model.Gradients(net, 256 << 10)
    train, _ = data.load()
    model.loss_and_gradients(net, data.batch_of(train, 0, 4, 32, 0, 0))
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in net.parameters()])
    assert torch.equal(flat, gradients.flat) and flat.abs().sum() > 0
    assert all(manta.memory_info(bucket).in_place for bucket in gradients.buckets)
    assert [bucket.numel() * 4 for bucket in gradients.buckets] == [262144, 262144, 80936]
    assert gradients.bytes == sum(bucket.numel() * 4 for bucket in gradients.buckets)


@pytest.mark.parametrize("check, words", [
    (lambda: checks.starts(["a", "a"], ["a", "a"]), "different weights"),
    (lambda: checks.starts(["a", "b"], ["b", "b"]), "rank 0's weights"),
    (lambda: checks.equal_weights(["a", "a", "b", "a"], 2), r"epoch 3 .* workers \[2\]"),
    (lambda: checks.finite([1.0, float("nan")], 0), "not finite"),
    (lambda: checks.traffic([3, 2], [12, 8], 3, 12), "step 2 manta counted 2 calls and 8 bytes"),
    (lambda: checks.agrees(torch.tensor([1.0, 2.001]), torch.tensor([1.0, 2.0]), 20), "20 steps"),
    (lambda: checks.accurate(0.95), "95.0%"),
])
def test_checks_fail_with_a_sentence(check, words):
    with pytest.raises(checks.DemoFailed, match=words):
        check()


def test_checks_pass():
    checks.starts(["a", "b"], ["a", "a"])
    checks.equal_weights(["a", "a"], 0)
    checks.traffic([3], [12], 3, 12)
    assert checks.agrees(torch.tensor([1.0, 2.0001]), torch.tensor([1.0, 2.0]), 20) < 1e-4
