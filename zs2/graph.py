"""A CUDA graph: the thousands of launches of a step, recorded once and replayed as one."""

from collections.abc import Callable

import torch
from torch import Tensor


class Graph:
    """A function of tensors that keep their shapes; its third call is recorded, and then replayed.

    The calls before run as they are, for no recording may compile a kernel or make a workspace: the
    first one starts without a state to go on from, the second with one. The result lies in the same
    memory each time: use it before the next call.

    Raises:
        ValueError: the device is not a CUDA device.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device) -> None:
        if device.type != "cuda":
            raise ValueError(f"graph needs a CUDA device, and this is {device}: leave it out")
        self.function, self.device = function, device
        self.calls = 0
        self.inputs: tuple[Tensor, ...] = ()
        self.output: Tensor | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.calls += 1
        if self.calls < 3:
            return self.function(*inputs)
        self.inputs = self.inputs or tuple(torch.empty_like(x) for x in inputs)
        for kept, x in zip(self.inputs, inputs, strict=True):
            kept.copy_(x)
        if self.output is None:
            self.graph = torch.cuda.CUDAGraph()
            # A stream of its device: torch's own for this is of the device that was first used.
            # What other threads launch meanwhile is no business of the recording.
            stream = torch.cuda.Stream(self.device)
            recording = torch.cuda.graph(
                self.graph, stream=stream, capture_error_mode="thread_local"
            )
            with torch.cuda.device(self.device), recording:
                self.output = self.function(*self.inputs)
        self.graph.replay()
        return self.output
