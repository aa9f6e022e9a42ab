"""Captioned scenes, drawn by code: the small model's whole training set.

A caption names five things: how many, how big, which colour, what, and where. All that it leaves
unsaid is drawn from the scene's seed, and much of it must agree across the picture: the exact hue,
the pattern and its second colour on every copy, the light, the horizon, the tint and texture of
ground and sky. A model that has to keep these in agreement needs its self-attention.

Shapes are signed distance fields in pixels of a unit square, B scenes at once.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS = {  # ranges of hue, saturation and value, each 0..1
    "red": ((-0.02, 0.015), (0.80, 0.95), (0.70, 0.95)),
    "orange": ((0.065, 0.09), (0.85, 1.00), (0.90, 1.00)),
    "yellow": ((0.145, 0.17), (0.75, 1.00), (0.88, 1.00)),
    "green": ((0.30, 0.40), (0.65, 0.95), (0.45, 0.75)),
    "blue": ((0.58, 0.66), (0.70, 0.95), (0.65, 0.95)),
    "purple": ((0.74, 0.79), (0.60, 0.85), (0.50, 0.80)),
    "pink": ((0.90, 0.95), (0.35, 0.50), (0.92, 1.00)),
    "white": ((0.00, 1.00), (0.00, 0.06), (0.93, 1.00)),
    "black": ((0.00, 1.00), (0.00, 0.30), (0.06, 0.16)),
}
THINGS = (
    *("ball", "cube", "star", "heart", "ring", "moon", "flower", "triangle"),
    *("fish", "house"),
)
PLACES = (
    "on green grass",
    "on yellow sand",
    "in the snow",
    "at night",
    "over the sea",
    "at sunset",
)
SIZES = ("small", "", "big")
COUNTS = ("a", "two", "three")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "count": COUNTS,
    "size": SIZES,
    "colour": tuple(COLOURS),
    "thing": THINGS,
    "place": PLACES,
}
PATTERNS = 5  # plain, stripes, dots, checks, two halves
SPOTS = 18  # stars of a night, flakes of a snowfall, at most


@dataclass(frozen=True)
class Scene:
    """What a caption says."""

    count: str
    size: str
    colour: str
    thing: str
    place: str

    @property
    def caption(self) -> str:
        words = [w for w in (self.size, self.colour) if w]
        if self.count == "a":
            article = "an" if words[0][0] in "aeiou" else "a"
            return " ".join([article, *words, self.thing, self.place])
        several = self.thing if self.thing == "fish" else self.thing + "s"
        return " ".join([self.count, *words, several, self.place])

    @property
    def held_out(self) -> bool:
        """Whether this colour x thing x place is one of the tenth that is never trained on."""
        c, t = list(COLOURS).index(self.colour), THINGS.index(self.thing)
        return (c + 3 * t + 7 * PLACES.index(self.place)) % 10 == 0


def every() -> list[Scene]:
    """All the scenes that can be said, the held-out ones among them."""
    return [Scene(*values) for values in itertools.product(*ATTRIBUTES.values())]


def words() -> list[str]:
    """All the words of all captions."""
    return sorted({word for scene in every() for word in scene.caption.split()})


def sample(n: int, seed: int, held_out: bool = False) -> list[Scene]:
    """n scenes, uniform in each attribute but for "a" and no size, which take half each.

    Args:
        held_out: draw from the combinations that are never trained on, in place of all others.
    """
    generator = torch.Generator().manual_seed(seed)

    def pick(words: Sequence[str]) -> str:
        return words[int(torch.randint(len(words), (), generator=generator))]

    drawn: list[Scene] = []
    while len(drawn) < n:
        scene = Scene(
            pick(("a", "a", "two", "three")),
            pick(("small", "", "", "big")),
            pick(tuple(COLOURS)),
            pick(THINGS),
            pick(PLACES),
        )
        if scene.held_out == held_out:
            drawn.append(scene)
    return drawn


def values(said: Sequence[Scene]) -> dict[str, Tensor]:
    """Which value of each attribute scenes have, [n]."""
    return {
        name: torch.tensor([known.index(getattr(scene, name)) for scene in said])
        for name, known in ATTRIBUTES.items()
    }


class Chance:
    """Each scene's own stream of uniform numbers: a picture depends on its seed alone."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, low: float = 0, high: float = 1, shape: tuple[int, ...] = (1, 1)) -> Tensor:
        """[B, *shape] in low..high."""
        drawn = torch.stack([torch.rand(shape, generator=g) for g in self._generators])
        return low + (high - low) * drawn


def draw(scenes: Sequence[Scene], seeds: Sequence[int], size: int = 128) -> Tensor:
    """Draw each scene with its seed.

    Returns:
        [B, 3, size, size] float32 in -1..1.
    """
    chance = Chance(seeds)
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")  # (H, W), y down
    picture, light = _background(scenes, chance, x, y)
    picture = _things(picture, light, scenes, chance, x, y)
    return picture.clamp(0, 1) * 2 - 1


def hsv(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Colours [B, 3, ...] of hue, saturation and value [B, ...]."""
    k = (torch.tensor([5.0, 3.0, 1.0]).view(3, *(1,) * (h.ndim - 1)) + h[:, None] * 6) % 6
    return v[:, None] * (1 - s[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))


def _range(chance: Chance, ranges: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
    """A colour [B, 3, 1, 1] from each scene's own ranges of hue, saturation and value."""
    ends = torch.tensor(ranges)  # (B, 3, 2)
    h, s, v = (ends[..., 0] + (ends[..., 1] - ends[..., 0]) * chance.uniform(shape=(3,))).unbind(1)
    return hsv(h[:, None, None], s[:, None, None], v[:, None, None])


SKIES = {  # top and horizon
    "on green grass": (
        ((0.54, 0.62), (0.35, 0.65), (0.80, 1.0)),
        ((0.5, 0.6), (0.05, 0.25), (0.9, 1.0)),
    ),
    "on yellow sand": (
        ((0.50, 0.60), (0.40, 0.70), (0.80, 1.0)),
        ((0.5, 0.6), (0.10, 0.3), (0.9, 1.0)),
    ),
    "in the snow": (
        ((0.55, 0.66), (0.08, 0.25), (0.6, 0.78)),
        ((0.55, 0.66), (0.03, 0.12), (0.75, 0.85)),
    ),
    "at night": (
        ((0.60, 0.74), (0.60, 0.90), (0.04, 0.14)),
        ((0.6, 0.76), (0.5, 0.8), (0.15, 0.32)),
    ),
    "over the sea": (
        ((0.53, 0.60), (0.25, 0.50), (0.88, 1.0)),
        ((0.5, 0.6), (0.02, 0.15), (0.92, 1.0)),
    ),
    "at sunset": (
        ((0.75, 0.95), (0.35, 0.65), (0.40, 0.7)),
        ((0.03, 0.11), (0.75, 0.95), (0.92, 1.0)),
    ),
}
GROUNDS = {
    "on green grass": ((0.24, 0.36), (0.50, 0.80), (0.42, 0.72)),
    "on yellow sand": ((0.11, 0.145), (0.40, 0.65), (0.78, 0.95)),
    "in the snow": ((0.52, 0.68), (0.02, 0.12), (0.90, 1.00)),
    "at night": ((0.55, 0.85), (0.30, 0.60), (0.07, 0.16)),
    "over the sea": ((0.48, 0.60), (0.60, 0.90), (0.40, 0.70)),
    "at sunset": ((0.95, 1.08), (0.35, 0.65), (0.18, 0.32)),
}


def _background(
    scenes: Sequence[Scene], chance: Chance, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Sky, ground and what belongs to the place, [B, 3, H, W]; and the light's direction [B, 2]."""
    places = [s.place for s in scenes]

    def at(*names: str) -> Tensor:
        return torch.tensor([float(p in names) for p in places])[:, None, None]

    size = x.shape[0]
    pixel = 1 / size
    horizon = chance.uniform(0.4, 0.68)
    slope = chance.uniform(-0.06, 0.06) * (1 - at("over the sea", "at sunset"))
    line = horizon + slope * (x - 0.5)
    depth = ((y - line) / (1 - horizon)).clamp(0, 1)
    ground = ((y - line) / pixel + 0.5).clamp(0, 1)

    top = _range(chance, [SKIES[p][0] for p in places])
    low = _range(chance, [SKIES[p][1] for p in places])
    sky = top + (low - top) * (y / line).clamp(0, 1).pow(1.3)[:, None]

    # Value noise in three scales: clouds above, texture below.
    fine, coarse = (
        F.interpolate(chance.uniform(-1, 1, (1, n, n)), (size, size), mode="bicubic")[:, 0]
        for n in (14, 6)
    )
    clouds = (coarse - chance.uniform(0.0, 0.8)).clamp(0, 0.6) * chance.uniform(0, 1.2)
    clouds = clouds * at("on green grass", "on yellow sand", "over the sea", "at sunset")
    sky = sky + clouds[:, None] * (torch.tensor([1.0, 0.97, 0.95]).view(3, 1, 1) - sky)

    tint = _range(chance, [GROUNDS[p] for p in places])
    frequency, phase = chance.uniform(14, 30), chance.uniform(0, math.tau)
    bend = chance.uniform(0, 1.5)
    ripple = torch.sin(frequency * (y - line) / (0.35 + depth) + phase + bend * 3 * coarse)
    tufts = torch.sin(frequency * 1.6 * x + 4 * coarse + phase) * fine.abs()
    strength = chance.uniform(0.03, 0.14)
    waves = at("over the sea", "on yellow sand") * ripple + at("on green grass") * 1.3 * tufts
    texture = strength * (waves + 0.4 * fine + 0.6 * coarse) + (depth - 0.5) * chance.uniform(
        -0.3, 0.2
    )
    texture = texture * (1 - 0.6 * at("in the snow"))
    picture = sky + ground[:, None] * (tint * (1 + texture[:, None]) - sky)

    # A sun on the horizon, stars and falling flakes.
    sun_x, sun_r = chance.uniform(0.15, 0.85), chance.uniform(0.07, 0.13)
    distance = ((x - sun_x).square() + (y - line + 0.02).square()).sqrt()
    disc = ((sun_r - distance) / pixel + 0.5).clamp(0, 1) * (1 - ground) * at("at sunset")
    glow = (-(distance / 0.3).square()).exp() * 0.35 * (1 - ground) * at("at sunset")
    picture = picture + (disc + glow)[:, None] * (
        torch.tensor([1.0, 0.9, 0.5]).view(3, 1, 1) - picture
    )

    spots = chance.uniform(shape=(SPOTS, 3))
    count = chance.uniform(0.3, 1)
    reach = torch.where(at("at night") > 0, 0.009, 0.014) * (0.7 + 0.6 * spots[..., 2:])
    apart = (
        (x.reshape(-1) - spots[..., :1]).square() + (y.reshape(-1) - spots[..., 1:2]).square()
    ).sqrt()  # (B, SPOTS, H*W)
    lit = ((reach - apart) / pixel + 0.5).clamp(0, 1) * (torch.arange(SPOTS) / SPOTS < count[:, 0])[
        ..., None
    ]
    lit = lit.amax(1).unflatten(1, (size, size))
    lit = lit * (at("at night") * (1 - ground) + at("in the snow"))
    picture = picture + lit[:, None] * (1 - picture)

    angle = chance.uniform(-2.4, -0.7)[:, 0, 0]
    return picture, torch.stack([angle.cos(), angle.sin()], dim=1)


def _things(
    picture: Tensor, light: Tensor, scenes: Sequence[Scene], chance: Chance, x: Tensor, y: Tensor
) -> Tensor:
    """The matching copies, over the background."""
    pixel = 1 / x.shape[0]
    number = torch.tensor([COUNTS.index(s.count) + 1 for s in scenes])[:, None, None]
    radius = torch.tensor([(0.165, 0.23, 0.31)[SIZES.index(s.size)] for s in scenes])
    radius = radius[:, None, None] * chance.uniform(0.9, 1.1)
    radius = torch.minimum(
        radius * torch.tensor([1.0, 0.82, 0.68])[number - 1],
        (1 - 0.04 * (number + 1)) / (2 * number),
    )
    gap = chance.uniform(0.04, 0.1)
    gap = torch.minimum(gap, (1 - 2 * number * radius) / (number + 1))
    spread = 2 * radius + gap
    width = number * spread - gap
    left = (1 - width) * chance.uniform(0.04, 0.96)
    middle = radius + 0.03 + (0.94 - 2 * radius) * chance.uniform(0.25, 0.95)
    jitter = chance.uniform(-0.07, 0.07, (3, 1))

    colour = _range(chance, [COLOURS[s.colour] for s in scenes])
    second = hsv(chance.uniform(), chance.uniform(0, 0.9), chance.uniform(0.2, 1.0))
    pattern = chance.uniform(0, PATTERNS).long()
    turn = chance.uniform(-0.3, 0.3)
    lean, repeat = chance.uniform(0, math.pi), chance.uniform(4, 7)
    facing_left = chance.uniform() < 0.5
    gloss = chance.uniform(0.1, 0.6)[:, None]
    dark = (colour.mean(1, keepdim=True) < 0.25).float()
    rim_colour = dark * 0.5 + (1 - dark) * colour * 0.35
    airy = torch.tensor([s.place == "over the sea" for s in scenes])[:, None, None]

    for i in range(3):
        here = (number > i).float()
        cx = left + radius + i * spread
        cy = (middle + jitter[:, i : i + 1]).clamp(min=0).minimum(1 - radius - 0.01)
        cy = cy.maximum(radius + 0.01)
        # Contact shadow, where there is ground to take it.
        sx, sy = (x - cx) / radius, (y - cy - radius) / (0.22 * radius)
        shadow = 0.45 * (1 - (sx.square() + sy.square())).clamp(0, 1) * here * (~airy).float()
        picture = picture * (1 - shadow[:, None])

        u, v = (x - cx) / radius, (cy - y) / radius  # v up
        cos, sin = turn.cos(), turn.sin()
        lit_u, lit_v = u, v
        u, v = cos * u - sin * v, sin * u + cos * v
        u = torch.where(facing_left, -u, u)
        kind = torch.tensor([THINGS.index(s.thing) for s in scenes])
        sdf = torch.empty_like(u)
        for number_of, thing in enumerate(THINGS):
            same = kind == number_of
            sdf[same] = SHAPES[thing](u[same], v[same])
        sdf = sdf * radius / pixel  # in pixels, inside below 0

        # Pattern in the thing's own frame: the second colour takes a third at most.
        across = lean.cos() * u + lean.sin() * v
        along = lean.cos() * v - lean.sin() * u
        wave, cross = (repeat * across).sin(), (repeat * along).sin()
        masks = [wave * 0 - 1, wave - 0.5, wave * cross - 0.35, -(wave * cross) - 0.3, across - 0.4]
        mask = torch.stack(masks, dim=1).gather(1, pattern[:, None].expand_as(wave[:, None]))
        mask = (mask * 4 + 0.5).clamp(0, 1)
        paint = colour + mask * (second - colour)

        facing = (lit_u * light[:, 0, None, None] - lit_v * light[:, 1, None, None])[:, None]
        is_cube = (kind == THINGS.index("cube"))[:, None, None, None]
        faces = torch.where(v > 0.577 * u.abs(), 1.15, torch.where(u < 0, 0.85, 0.55))[:, None]
        shade = torch.where(is_cube, faces, (0.85 + 0.28 * facing).clamp(0.5, 1.15))
        spot = (lit_u - 0.42 * light[:, 0, None, None]).square() + (
            lit_v + 0.42 * light[:, 1, None, None]
        ).square()
        highlight = gloss * (-spot / 0.06).exp()[:, None] * (~is_cube).float()
        paint = paint * shade
        paint = paint + highlight * (1 - paint).clamp(min=0)
        rim = ((sdf * (128 * pixel) + 2.2).clamp(0, 1) * 0.85)[:, None]  # as wide in any size
        paint = paint + rim * (rim_colour - paint)
        cover = ((0.5 - sdf).clamp(0, 1) * here)[:, None]
        picture = picture + cover * (paint - picture)
    return picture


def _ball(u: Tensor, v: Tensor) -> Tensor:
    return (u.square() + v.square()).sqrt() - 0.95


def _cube(u: Tensor, v: Tensor) -> Tensor:
    hexagon = torch.maximum(u.abs(), (0.5 * u.abs() + 0.866 * v.abs())) - 0.85
    # The edges between its three faces, as lines.
    upper = 0.866 * (v - 0.577 * u.abs()).abs()
    lower = torch.where(v < 0, u.abs(), (u.square() + v.square()).sqrt())
    return torch.maximum(hexagon, 0.03 - torch.minimum(upper, lower))


def _polar(u: Tensor, v: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Radius, and angle from the nearest of `points` directions, the first upwards."""
    step = math.tau / points
    angle = torch.atan2(u, v)
    return (u.square() + v.square()).sqrt(), (angle + step / 2) % step - step / 2


def _star(u: Tensor, v: Tensor) -> Tensor:
    r, angle = _polar(u, v, 5)
    a = angle.abs()
    px, py = r * a.sin(), r * a.cos()
    # The edge from the tip (0, 1) to the notch between two tips.
    nx, ny = 0.42 * math.sin(math.pi / 5), 0.42 * math.cos(math.pi / 5)
    length = math.hypot(nx, ny - 1)
    return (px * (1 - ny) + (py - 1) * nx) / length


def _heart(u: Tensor, v: Tensor) -> Tensor:
    x, y = 1.12 * u.abs(), 1.12 * v + 0.12
    r = (x.square() + y.square()).sqrt()
    angle = torch.atan2(x, y) / math.pi  # 0 up, 1 down
    edge = (13 * angle - 22 * angle**2 + 10 * angle**3) / (6 - 5 * angle)
    return (r - 1.15 * edge.clamp(min=0.0) - 0.22) * 0.7


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return ((u.square() + v.square()).sqrt() - 0.69).abs() - 0.26


def _moon(u: Tensor, v: Tensor) -> Tensor:
    bite = ((u - 0.42).square() + (v - 0.18).square()).sqrt() - 0.72
    return torch.maximum(_ball(u, v), -bite)


def _flower(u: Tensor, v: Tensor) -> Tensor:
    r, angle = _polar(u, v, 5)
    petals = ((r * angle.sin()).square() + (r * angle.cos() - 0.58).square()).sqrt() - 0.38
    middle = (r - 0.14).abs() - 0.05  # an outline round the flower's eye
    return torch.maximum(torch.minimum(petals, r - 0.35), -middle)


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    v = v + 0.18
    return torch.maximum(-v - 0.55, 0.866 * u.abs() + 0.5 * v - 0.52)


def _fish(u: Tensor, v: Tensor) -> Tensor:
    body = (((u + 0.2) / 0.72).square() + (v / 0.5).square()).sqrt() * 0.5 - 0.5
    tail = torch.maximum(u - 0.95, 0.72 * v.abs() - 0.7 * (u - 0.3))
    eye = ((u + 0.55).square() + (v - 0.12).square()).sqrt() - 0.09
    return torch.maximum(torch.minimum(body, tail), -eye)


def _house(u: Tensor, v: Tensor) -> Tensor:
    walls = torch.maximum(u.abs() - 0.66, (v + 0.38).abs() - 0.5)
    roof = torch.maximum(0.12 - v, 0.66 * u.abs() + 0.75 * (v - 0.92))
    eaves = (v - 0.12).abs() - 0.035
    door = torch.maximum(u.abs() - 0.2, (v + 0.65).abs() - 0.3)
    frame = door.abs() - 0.035
    lines = torch.minimum(torch.maximum(frame, v + 0.3), torch.maximum(eaves, u.abs() - 0.62))
    return torch.maximum(torch.minimum(walls, roof), -lines)


SHAPES = {
    "ball": _ball,
    "cube": _cube,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "moon": _moon,
    "flower": _flower,
    "triangle": _triangle,
    "fish": _fish,
    "house": _house,
}
