"""Control by pictures: edges, depths or poses say where things are (ControlNet, T2I-Adapter)."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from zs2.attention import Share
from zs2.clip_file import OWN
from zs2.condition import Condition
from zs2.models.controlnet import ControlNet
from zs2.models.t2i_adapter import XL, T2IAdapter
from zs2.models.unet import Residuals, UNet
from zs2.pipeline import Pipeline
from zs2.schedule import Level
from zs2.shot import Model, Shot
from zs2.shots.given import check_frames
from zs2.timeline import PerFrame, check_range, per_frame

Net = ControlNet | T2IAdapter
Times = tuple[float, float]
"""The first and the last of the timesteps t, low and high, at which a net has its say."""


@dataclass(frozen=True)
class Control:
    """Add what a net makes of pictures to the UNet's feature maps. Several controls add up.

    Comes after the features that shorten the steps (Init, Invert), as `span` counts those that are
    run, and before Text2VideoZero.

    Attributes:
        net: see `zs2.checkpoint.control.load_control`.
        frames: uint8 [F, H, W, 3] of the clip's size; a single one is held for the whole clip.
        weight: how strongly, 0..10, of all frames or one each; 0 is the model without it.
        span: from which to which share of the steps, 0..1.

    Raises:
        ValueError: a value out of range, frames that do not fit the clip, or a net that does not
            fit the model.
    """

    net: Net
    frames: Tensor
    weight: PerFrame = 1.0
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_values(self.weight, self.span)

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        check_frames(pipe, shot, self.frames)
        check_fit(self.net, pipe)
        weights = per_frame("the weight of a control", self.weight, shot.frames)
        strength = torch.tensor(weights if len({*weights}) > 1 else weights[:1])
        strength = strength.to(pipe.device, pipe.dtype)[None, :, None, None, None]
        maps = by_frame(self.net, self.frames, pipe)
        # Where residuals are the same all over the picture (shuffle), they are for the prompt's
        # branch alone, the last one: so in the authors' program and in diffusers.
        pooled = isinstance(self.net, ControlNet) and self.net.config.global_pool_conditions
        none = torch.zeros_like(strength) if pooled else strength
        strengths = [none] * (len(shot.branches) - 1) + [strength]
        branches = tuple(
            replace(b, condition=replace(b.condition, control=(*b.condition.control, (s, *maps))))
            for b, s in zip(shot.branches, strengths, strict=True)
        )
        model = controlled(shot.model, self.net, active(shot.levels, self.span))
        return replace(
            shot, model=model, branches=branches, settings=shot.with_settings(control=OWN)
        )


def check_values(weight: PerFrame, span: tuple[float, float]) -> None:
    """ValueError unless weight and span of a control are in range."""
    check_range("the weight of a control", weight, 10)
    start, end = span
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"the span of a control is two shares of the steps in 0..1, the first below the "
            f"second, not {start} {end}"
        )


def active(levels: Sequence[Level], span: tuple[float, float]) -> Times:
    """The timesteps of the steps that lie in a span whole: of diffusers' control_guidance.

    Raises:
        ValueError: there are none.
    """
    steps = len(levels) - 1
    start, end = span
    times = [
        x.t for i, x in enumerate(levels[:-1]) if i / steps >= start and (i + 1) / steps <= end
    ]
    if not times:
        raise ValueError(
            f"the span {start} {end} of a control holds none of {steps} steps: make it longer"
        )
    # Compared with a tensor's numbers, which are float32.
    low, high = torch.tensor([min(times), max(times)], dtype=torch.float32).tolist()
    return low, high


def check_fit(net: Net, pipe: Pipeline) -> None:
    """ValueError unless a net makes residuals of the shapes of the UNet's feature maps."""
    unet = pipe.weights.unet
    if isinstance(net, ControlNet):
        what, config = "ControlNet", net.config
        factor = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
        fits = (net.maps, config.added) == (unet.maps, unet.config.added)
        fits = fits and config.cross_attention_dim == unet.config.cross_attention_dim
    else:
        what, factor = "T2I-Adapter", net.config.downscale_factor // first_size(net)
        widths, levels = unet.config.block_out_channels, net.config.levels
        maps = dict(enumerate((*unet.maps, widths[-1])))
        fits = levels == tuple(maps.get(i) for i in adapter_maps(net, unet))
        fits = fits and len(levels) == len(widths) + first_size(net) - 1
    if not fits or factor != pipe.multiple:
        raise ValueError(f"this {what} is for another kind of model: its feature maps do not fit")


def first_size(net: T2IAdapter) -> int:
    """Latent pixels to a side of one pixel of an adapter's first feature: 1, or 2 of SDXL's."""
    return 2 if net.config.adapter_type == XL else 1


def adapter_maps(net: T2IAdapter, unet: UNet) -> list[int]:
    """To which of the UNet's feature maps an adapter's features are added, see `unet.Maps`.

    To the last of each level, before it is halved. SDXL's adapters begin after the first halving,
    and their fourth feature is the middle's.
    """
    n = unet.config.layers_per_block + 1
    if first_size(net) == 2:
        return [n, 2 * n - 1, 3 * n - 1, 3 * n]
    return [n * (level + 1) - 1 for level in range(len(net.config.levels))]


@dataclass(frozen=True)
class Part:
    """A net, the timesteps at which it works, and for an adapter the maps that it adds to."""

    net: Net
    times: Times
    maps: Sequence[int]


def controlled(model: Model, net: Net, times: Times) -> "Controlled":
    """The model with one more net that controls it."""
    unet, parts = (model.unet, model.parts) if isinstance(model, Controlled) else (model, ())
    if not isinstance(unet, UNet):
        raise ValueError("only a UNet can be controlled: give controls before what wraps it")
    if any(part.net is net for part in parts):
        # States are kept by module: a net that is there twice needs two of each, with one memory.
        net = copy.deepcopy(net, {id(p): p for p in net.parameters()})
    maps = adapter_maps(net, unet) if isinstance(net, T2IAdapter) else ()
    return Controlled(unet, (*parts, Part(net, times, maps)))


@dataclass(frozen=True)
class Controlled:
    """A UNet and the nets that control it, as one model."""

    unet: UNet
    parts: tuple[Part, ...]

    def prepare(self, condition: Condition) -> Condition:
        """The condition with what each network makes of its prompt."""
        condition = self.unet.prepare(condition)
        for part in self.parts:
            if isinstance(part.net, ControlNet):
                condition = part.net.crossed(condition)
        return condition

    def modules(self) -> Iterator[nn.Module]:
        """The UNet's layers, then each net's."""
        for net in (self.unet, *(part.net for part in self.parts)):
            yield from net.modules()

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, share: Share) -> Tensor:
        clips = len(condition.prompt)

        def rows(maps: Tensor) -> Tensor:
            """[1 or B, 1 or f, c, h, w] to [B*f, c, h, w], a row for each of x."""
            return maps.expand(clips, len(x) // clips, *maps.shape[2:]).flatten(0, 1)

        early: dict[int, Tensor] = {}
        late: dict[int, Tensor] = {}
        for part, (strength, *maps) in zip(self.parts, condition.control, strict=True):
            low, high = part.times
            works = (low <= t) & (t <= high)
            # A GPU's answer would be waited for, and what it has recorded is replayed at any t.
            if t.device.type == "cpu" and not works:
                continue
            strength = strength * works  # frames of strength 0 are computed: others look at them
            given = [rows(m) for m in maps]
            if isinstance(part.net, ControlNet):
                add(late, enumerate(part.net(x, t, condition, share, *given)), rows(strength))
            else:
                add(early, zip(part.maps, given, strict=True), rows(strength))
        return self.unet(x, t, condition, share, Residuals(early, late))


def by_frame(net: Net, frames: Tensor, pipe: Pipeline) -> list[Tensor]:
    """What a net makes of frames uint8 [n, H, W, 3] once a clip: maps [1, n, c, h, w].

    One frame at a time: the first layers are as large as the frames.
    """
    made = []
    for frame in frames.to(pipe.device):
        picture = frame.permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        made.append(net.picture(picture.to(pipe.dtype)))
    return [torch.cat(maps)[None] for maps in zip(*made, strict=True)]


def add(sums: dict[int, Tensor], maps: Iterable[tuple[int, Tensor]], strength: Tensor) -> None:
    """Add numbered maps, times a strength, to what others have added."""
    for i, residual in maps:
        more = strength * residual
        sums[i] = sums[i] + more if i in sums else more
