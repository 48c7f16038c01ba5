# SPDX-License-Identifier: Apache-2.0
"""torch CPU tensors: every dtype, in place, gradients' buffers, and what is refused."""

import pytest
import torch

import manta

DTYPES = [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32,
          torch.int64, torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
          torch.float8_e4m3fn, torch.float8_e5m2]


def values(tensor):
    return tensor.to(torch.float64).tolist()


def every_dtype(comm):
    size, rank = comm.size, comm.rank
    for dtype in DTYPES:
        mine = torch.full((3, 2), rank + 1).to(dtype)
        total = comm.allreduce(mine)
        assert total.dtype == dtype and total.shape == (3, 2)
        assert values(total) == [[sum(range(1, size + 1))] * 2] * 3, dtype
        assert comm.allreduce(mine, "max", out=mine) is mine
        assert values(mine) == [[size] * 2] * 3
        data = torch.full((5,), 4 if rank == 1 else 0).to(dtype)
        assert comm.broadcast(data, 1) is data and values(data) == [4.0] * 5
        gathered = comm.allgather(torch.full((2,), rank).to(dtype))
        assert gathered.dtype == dtype and gathered.shape == (2 * size,)
        assert values(gathered) == [float(other) for other in range(size) for _ in range(2)]
        part = comm.reduce_scatter(torch.ones(4 * size, 3).to(dtype))
        assert part.shape == (4, 3) and values(part) == [[size] * 3] * 4
        root = comm.reduce(mine, "min", root=0)
        assert (root is None) == (rank != 0)


def test_dtypes(ranks):
    ranks.run(every_dtype, 3)


def parameters(comm):
    """What data parallel training does: parameters broadcast, flat gradients averaged."""
    torch.manual_seed(comm.rank)
    layer = torch.nn.Linear(10, 7)
    with torch.no_grad():
        for parameter in layer.parameters():
            assert comm.broadcast(parameter) is parameter
    flat = torch.zeros(77)
    layer.weight.grad, layer.bias.grad = flat[:70].view(7, 10), flat[70:]
    layer(torch.full((4, 10), float(comm.rank))).sum().backward()
    comm.allreduce(flat, "avg", out=flat)
    assert values(flat) == [4 * (comm.size - 1) / 2] * 70 + [4.0] * 7
    return values(torch.cat([parameter.detach().reshape(-1) for parameter in layer.parameters()]))


def test_parameters_and_gradients(ranks):
    first, *others = ranks.run(parameters, 4)
    assert all(other == first for other in others)


def mixed(comm):
    import numpy

    tensor = torch.ones(4)
    array = numpy.zeros(4, numpy.float32)
    assert comm.allreduce(tensor, out=array) is array and array.tolist() == [comm.size] * 4
    apart = [torch.zeros(4) for _ in range(comm.size)]
    comm.allgather(tensor + comm.rank, out=apart)
    assert [piece[0].item() for piece in apart] == [1.0 + rank for rank in range(comm.size)]
    request = comm.allreduce_post(tensor)
    request.wait()
    assert isinstance(request.result, torch.Tensor) and request.result[0] == comm.size
    pair = comm.allreduce(torch.full((2,), 1 + 1j))
    assert pair.tolist() == [comm.size * (1 + 1j)] * 2


def test_mixed_with_numpy(ranks):
    ranks.run(mixed, 2)


@pytest.mark.parametrize("tensor, words", [
    (torch.ones(3, 4).t(), "not contiguous"),
    (torch.ones(4)[::2], "not contiguous"),
    (torch.ones(3, device="meta"), "not on the CPU"),
    (torch.ones(1, dtype=torch.complex64).conj(), "lazy view"),
    (torch.ones(1, dtype=torch.complex64).conj().imag, "lazy view"),
    (torch.ones(2, dtype=torch.bool), "booleans"),
])
def test_refused(alone, tensor, words):
    with pytest.raises(manta.InvalidArgumentError, match=words):
        alone.allreduce(tensor)


def test_refused_dtype_and_layout(alone):
    with pytest.raises(TypeError, match="dtype torch.complex32"):
        alone.allreduce(torch.ones(2, dtype=torch.complex32))
    with pytest.raises((RuntimeError, manta.InvalidArgumentError)):
        alone.allreduce(torch.eye(3).to_sparse())
    with pytest.raises(manta.InvalidArgumentError, match="shape"):
        alone.allreduce(torch.ones(3), out=torch.ones(4))


class Marked(torch.Tensor):
    pass


def test_subclasses(alone):
    data = torch.arange(6.0).reshape(2, 3).as_subclass(Marked)
    total = alone.allreduce(data)
    assert total.tolist() == data.tolist() and total is not data
    with pytest.raises(manta.InvalidArgumentError, match="shape"):
        alone.allreduce(data, out=torch.ones(3, 2))
    parts = alone.reduce_scatter(torch.nn.Parameter(torch.ones(2, 3)))
    assert parts.shape == (2, 3) and not parts.requires_grad


def test_shape_that_cannot_be_had(alone):
    class Shapeless(torch.Tensor):
        @property
        def shape(self):
            raise RuntimeError("no shape today")

    data = torch.ones(4).as_subclass(Shapeless)
    assert alone.allreduce(data, out=data) is data  # nobody needs it
    for call in (lambda: alone.allreduce(data, out=torch.ones(4)),
                 lambda: alone.reduce_scatter(data), lambda: alone.allgather(data)):
        with pytest.raises(RuntimeError, match="no shape today"):
            call()


def test_result_does_not_require_grad(alone):
    parameter = torch.nn.Parameter(torch.ones(3))
    total = alone.allreduce(parameter)
    assert not total.requires_grad and type(total) is torch.Tensor
    channels_last = torch.ones(2, 1, 3, 3).to(memory_format=torch.channels_last)
    assert alone.allreduce(channels_last).is_contiguous()


def test_explain_takes_torch_dtypes(alone):
    assert alone.explain("allreduce", 10, torch.bfloat16)
