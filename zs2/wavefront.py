"""One clip over several processes, exact: a wavefront of chunks.

    torchrun --nproc-per-node 4 -m zs2.sample "PROMPT" --frames 64

Process r takes chunks r, r + N, r + 2N, .. through all steps, as `zs2.stream` does. What a chunk
needs of the one before, the state of each step (Eq. 2), comes from process r - 1 as soon as that
step is done there: process r is one step behind. Process 0 gets the finished frames of all.

States travel through the hosts' memory by gloo, on GPUs as well: 92 MB a step of SD 1.5 at 512x512,
which is little beside the step. So CPUs and GPUs take the same way.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zs2.denoise import Moment, Predictor, States, sampled
from zs2.shot import Model, Shot
from zs2.stream import Stream
from zs2.timeline import whole

STATES, FRAMES = 1, 2  # what a message is of


class EndedError(RuntimeError):
    """Another of the processes has ended."""


@dataclass(frozen=True)
class Wavefront:
    """Chunk by chunk over the processes of torch.distributed, which has been begun with gloo.

    Process 0 yields as `Stream` does; the others, when they run the same shot, yield nothing.

    Attributes:
        chunk: frames at a time; any value makes the same clip.
        together: the guidance branches in one pass; apart they take less memory.

    Raises:
        ValueError: a chunk below 1.
    """

    chunk: int = 8
    together: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk", whole("chunk", self.chunk, 1))

    @property
    def settings(self) -> dict[str, object]:
        return Stream(self.chunk, self.together).settings  # the same clip

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> Iterator[Moment]:
        """As every order.

        Raises:
            EndedError: another process has ended.
        """
        try:
            yield from self.run(shot)
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise EndedError("another of the processes has ended") from error
            raise

    def run(self, shot: Shot) -> Iterator[Moment]:
        rank, ranks = dist.get_rank(), dist.get_world_size()
        device, steps = shot.noise.device, len(shot.levels) - 1
        predictor = Predictor(shot, device, self.together)
        wire = Wire(shot.model, device)
        starts = [*range(0, shot.frames, self.chunk)]
        in_all = len(starts) * steps
        expected: list[tuple[int, Tensor, dist.Work]] = []

        def told(number: int) -> Iterator[Moment]:
            """The chunks before this one that other processes have made."""
            while expected and expected[0][0] < number:
                other, latents, work = expected.pop(0)
                work.wait()
                x = latents.to(device)
                yield Moment(x, x, starts[other], (other + 1) * steps, in_all, True)

        for number, start in enumerate(starts):
            stop = min(start + self.chunk, shot.frames)
            if number % ranks != rank:
                if rank == 0:
                    clips = len(shot.noise.seeds)
                    latents = torch.empty(clips, stop - start, *shot.noise.shape)
                    work = dist.irecv(latents, number % ranks, tag=FRAMES)
                    assert work is not None
                    expected.append((number, latents, work))
                continue

            def predict(x: Tensor, t: Tensor, number: int = number, start: int = start) -> Tensor:
                states = predictor.nothing()
                if number > 0:
                    states = wire.receive((rank - 1) % ranks, len(states))
                prediction = predictor(x, t, start, states)
                if number + 1 < len(starts):
                    wire.send((rank + 1) % ranks, states)
                return prediction

            for step, (x, x0) in enumerate(sampled(shot, predict, start, stop), start=1):
                if rank == 0:
                    if step == steps:
                        yield from told(number)
                    yield Moment(x, x0, start, number * steps + step, in_all, step == steps)
            if rank > 0:
                wire.post(x.cpu(), 0, FRAMES)
        yield from told(len(starts))
        wire.wait()


class Wire:
    """States to the next process, and from the one before.

    A message is what follows of each layer's state, [B, N, C]: a head of their sizes, 0 of a layer
    that has none, and then their values.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self.layers = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
        self.device = device
        self.sent: list[tuple[dist.Work, Tensor]] = []

    def send(self, to: int, states: States) -> None:
        """Without waiting for who receives it."""
        for state in states:
            held = [(state or {}).get(layer) for layer in self.layers]
            sizes = [[0, 0, 0] if tensor is None else [*tensor.shape] for tensor in held]
            self.post(torch.tensor(sizes), to, STATES)
            values = [tensor.flatten() for tensor in held if tensor is not None]
            if values:
                self.post(torch.cat(values).cpu(), to, STATES)

    def receive(self, source: int, count: int) -> States:
        """The states of one prediction."""
        states: States = []
        for _ in range(count):
            sizes = torch.empty(len(self.layers), 3, dtype=torch.int64)
            dist.recv(sizes, source, tag=STATES)
            numbers = sizes.prod(1).tolist()
            values = torch.empty(sum(numbers))
            if sum(numbers):
                dist.recv(values, source, tag=STATES)
            parts = zip(self.layers, sizes.tolist(), values.split(numbers), strict=True)
            states.append(
                {layer: part.view(size).to(self.device) for layer, size, part in parts if any(size)}
            )
        return states

    def post(self, tensor: Tensor, to: int, tag: int) -> None:
        """Send, and hold what is sent until it has arrived."""
        self.sent = [(work, held) for work, held in self.sent if not work.is_completed()]
        work = dist.isend(tensor, to, tag=tag)
        assert work is not None
        self.sent.append((work, tensor))

    def wait(self) -> None:
        """Until all that was sent has arrived."""
        for work, _ in self.sent:
            work.wait()
