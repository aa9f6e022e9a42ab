"""The recording of a step as a CUDA graph: its bookkeeping anywhere, the graph itself on a GPU."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

import zs2
from zs2 import denoise
from zs2.denoise import Whole
from zs2.graph import Graph
from zs2.pipeline import Pipeline


def test_a_recorded_function_sees_each_new_input(monkeypatch):
    """The stand-in replays as a graph does: from the kept inputs into the kept output."""

    class Recorded:
        def replay(self):
            graph.output.copy_(double(*graph.inputs))

    def double(x, t):
        return 2 * x + t

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: nullcontext())
    devices = []
    monkeypatch.setattr(torch.cuda, "Stream", devices.append)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    calls, given = [], []
    graph = Graph(lambda *inputs: calls.append(inputs) or double(*inputs), torch.device("cuda:1"))
    for i in range(5):
        x, t = torch.full((3,), float(i)), torch.tensor(10 * i)
        given.append(x)
        assert graph(x, t).tolist() == [12.0 * i] * 3
        assert [x.tolist() for x in given] == [[float(j)] * 3 for j in range(i + 1)]
    assert devices == [torch.device("cuda:1")]
    assert len(calls) == 3  # twice as it is, once recorded
    # What was recorded reads memory that no caller owns.
    assert calls[2][0] is graph.inputs[0]


@pytest.mark.parametrize("asked", [False, True])
def test_the_loop_records_when_asked(random_pipe, monkeypatch, asked):
    recorded = []
    monkeypatch.setattr(denoise, "Graph", lambda predict, _: recorded.append(predict) or predict)
    shot = random_pipe.shot("a ball", frames=2, steps=2)
    assert len(list(Whole(graph=asked)(shot))) == 2
    assert len(recorded) == asked


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
# The last chunk of 9 frames is a single one: other kernels than the first's.
@pytest.mark.parametrize("options", [{}, {"chunk": 8}, {"together": False}])
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_a_graph_gives_the_same_clip(options, dtype, tolerance):
    """In fp16 sums that other streams take in other orders round to another of 11 bits."""
    pipe = zs2.load(device="cuda", dtype=dtype)
    made = [
        pipe("a ball", frames=9, steps=6, seed=1, order=Whole(graph=graph, **options)).latents
        for graph in (False, True)
    ]
    torch.testing.assert_close(made[1], made[0], rtol=tolerance, atol=tolerance)


def test_what_may_compile_while_a_graph_records_is_refused(random_pipe):
    unet = copy.deepcopy(random_pipe.weights.unet)
    unet.compile()
    pipe = Pipeline(replace(random_pipe.weights, unet=unet), random_pipe.device, random_pipe.dtype)
    with pytest.raises(ValueError, match="compiled"):
        pipe("a ball", order=Whole(graph=True))


def test_only_cuda_has_graphs():
    with pytest.raises(ValueError, match="graph needs a CUDA device, and this is cpu"):
        zs2.load(device="cpu")("a ball", order=Whole(graph=True))
