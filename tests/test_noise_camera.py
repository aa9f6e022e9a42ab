"""Noise that moves with the picture: exact for whole cells, and N(0, I) whatever the move."""

import pytest
import torch

from zs2.clip_file import read_settings
from zs2.draws import Draws, neighbour_correlation
from zs2.noise import DependencyNoise, kl, sample_noise
from zs2.noise_camera import CameraNoise, Cells, Move
from zs2.noise_loop import LoopNoise
from zs2.shots.between import Between
from zs2.shots.camera import Camera
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.stream import Stream
from zs2.timeline import Keyframes

SHAPE = (4, 24, 32)


def made(move, frames, lam=0.0, clips=4, shape=SHAPE, **chain):
    model = CameraNoise(DependencyNoise(lam, **chain), (move,) * frames, shape)
    return sample_noise(model, list(range(clips)), frames, shape)


@pytest.mark.parametrize(("x", "y"), [(1, 0), (0, 1), (-2, 0), (3, -1), (0, 0)])
def test_whole_cells_are_copied(x, y):
    noise = made(Move(x, y), 3)
    for before, after in zip(noise.unbind(1)[:-1], noise.unbind(1)[1:], strict=True):
        moved = before.roll((y, x), (-2, -1))
        old = torch.ones(SHAPE[1:], dtype=torch.bool)
        if x:
            old[:, slice(0, x) if x > 0 else slice(x, None)] = False
        if y:
            old[slice(0, y) if y > 0 else slice(y, None)] = False
        assert after[..., old].equal(moved[..., old])
        band = after[..., ~old]  # fresh, but for a number that happens to be there twice
        assert band.numel() == 0 or torch.isin(band, before).float().mean() < 0.01


def test_parts_of_a_cell_add_up():
    noise = made(Move(x=0.25), 9)
    for frame, cells in [(4, 1), (8, 2)]:
        assert noise[:, frame, ..., cells:].equal(noise[:, 0, ..., :-cells])
    steps = [not a.equal(b) for a, b in zip(noise.unbind(1)[:-1], noise.unbind(1)[1:], strict=True)]
    assert sum(steps) == 2


def test_a_zoom_and_a_roll_go_where_they_should():
    cells, move = Cells(32, 32), Move(zoom=1.02, roll=2)
    places = cells.grid.view(-1, 2)  # where the value of each cell should be
    for _ in range(12):
        source = cells.moved(move).flatten()
        places = move(places, 32, 32)[source.clamp(min=0)]
        places = places.where((source >= 0)[:, None], cells.grid.view(-1, 2))
    off = (places - cells.grid.view(-1, 2)).abs().amax(-1)
    assert off.median() < 0.5
    assert off.quantile(0.95) <= 0.61  # as far as a cell reaches


LARGE = [*({"zoom": zoom} for zoom in (0.5, 0.7, 1.5, 2)), {"roll": 20}, {"roll": -90}]


@pytest.mark.parametrize("move", LARGE)
def test_a_large_move_takes_what_was_in_the_picture(move):
    """A camera that comes nearer keeps all values that it sees; another one leaves no gap."""
    cells, move = Cells(32, 24), Move(**move)
    low, high = torch.tensor([2, 2]), torch.tensor([29, 21])

    def inside(places):
        return ((places >= low) & (places <= high)).all(-1)

    source = cells.moved(move)
    seen = torch.zeros(32 * 24, dtype=torch.bool)
    seen[source[source >= 0]] = True
    if move.zoom > 1:
        assert seen.view(32, 24)[inside(move(cells.grid, 32, 24))].all()
    else:
        assert (source >= 0)[inside(move.back(cells.grid, 32, 24))].all()
    outside = ((move.back(cells.grid, 32, 24) + 2 * (low - 1)) < 0).any(-1)
    assert (source < 0)[outside].all()


def test_a_roll_is_clockwise():
    top, right = torch.tensor([0.0, 4.0]), torch.tensor([4.0, 8.0])  # rows go down
    torch.testing.assert_close(Move(roll=90)(top.double(), 9, 9), right.double())


def test_what_comes_in_is_drawn_by_an_address_of_its_own():
    """The chain's candidates have that of step 0."""
    fresh = made(Move(x=SHAPE[2]), 2)[:, 1].flatten(1)
    candidates = Draws(torch.arange(4), fresh.shape[1])(1, candidates=2)
    correlation = torch.einsum("bv,bkv->bk", fresh, candidates) / fresh.shape[1]
    assert correlation.abs().max() < 0.1  # five standard errors of 3072 values


@pytest.mark.parametrize("inertia", [0.0, 0.95])
@pytest.mark.parametrize(
    "move",
    [Move(x=0.3), Move(zoom=1.03), Move(zoom=0.97), Move(roll=2), Move(0.4, -0.2, 1.02, -1.5)],
    ids=str,
)
def test_frame_64_is_normal(move, inertia):
    last = made(move, 64, 0.01, clips=16, inertia=inertia)[:, -1].double()  # (16, C, h, w)
    values = last.numel()
    # Within 4 standard errors of a normal sample.
    assert abs(last.mean()) < 4 / values**0.5
    assert abs(last.var() - 1) < 4 * (2 / values) ** 0.5
    kurtosis = ((last - last.mean()) ** 4).mean() / last.var() ** 2
    assert abs(kurtosis - 3) < 4 * (24 / values) ** 0.5
    for axis in (-1, -2):
        n = last.shape[axis]
        pairs = last.narrow(axis, 0, n - 1), last.narrow(axis, 1, n - 1)
        assert abs((pairs[0] * pairs[1]).mean()) < 4 / pairs[0].numel() ** 0.5


def test_the_kl_is_of_what_was_moved():
    still, moving = (made(Move(x=1), 2, lam, inertia=0) for lam in (0.0, 0.05))
    torch.testing.assert_close(kl(moving[:, 1], still[:, 1]), torch.full((4,), 0.05).double())
    assert neighbour_correlation(0.05) > 0.9


def test_a_direction_moves_too():
    """On one great circle frames follow what they are moved from: eps^3 = 2 c eps^2 - eps^1."""
    noise = made(Move(x=1), 3, 0.05, inertia=1)
    first, second, third = noise[:, 0, ..., :-2], noise[:, 1, ..., 1:-1], noise[:, 2, ..., 2:]
    on_circle = 2 * neighbour_correlation(0.05) * second - first
    angle = torch.cosine_similarity(third.flatten(1), on_circle.flatten(1))
    assert (angle > 0.99).all()  # up to the alpha that each frame's own draw asks for


# ---- the feature


def test_frame_1_is_the_still_and_what_follows_moves(random_pipe):
    still = random_pipe("a ball", frames=1, seed=3).latents
    shot = random_pipe.shot("a ball", frames=3, seed=3, lam=0, features=[Camera(x=2)])
    torch.testing.assert_close(
        torch.cat([m.x for m in Stream(1)(shot) if m.finished], 1)[0, :1],
        still,
        rtol=1e-4,
        atol=1e-4,
    )
    noise = shot.noise(0, 3)
    assert noise[:, 1, ..., 1:].equal(noise[:, 0, ..., :-1])  # 2 pixels are a latent one here


@pytest.mark.parametrize("order", [Stream(2), Stream(5)])
def test_any_order_makes_the_same_clip(random_pipe, order):
    asked = {"frames": 5, "seed": 3, "features": [Camera(1, 1, 1.1, 5), Between(2)]}
    whole, part = random_pipe("a ball", **asked), random_pipe("a ball", order=order, **asked)
    torch.testing.assert_close(part.latents, whole.latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "camera"),
    [
        ("pan=2,0 zoom=1.02 roll=1", Camera(2, 0, 1.02, 1)),
        ("roll=-3.5", Camera(roll=-3.5)),
        (" pan=-1, .5", Camera(-1, 0.5)),
        ("x=0:(2), 8:(0) y=1", Camera(Keyframes(((0, 2.0), (8, 0.0))), 1)),
    ],
)
def test_a_camera_is_read(text, camera):
    assert Camera.parse(text) == camera


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a camera is told as"),
        ("fly", "a camera is told as"),
        ("left pan=1,2", "a camera is told as"),
        ("zoom=1 zoom=2", "each once"),
        ("pan=1", "pan is X,Y"),
        ("pan=1,2 x=3", "pan is X,Y"),
        ("pan=a,b", "the camera's x is a number"),
        ("zoom=fast", "the camera's zoom is a number"),
        ("zoom=3", "the camera's zoom must lie in 0.5..2"),
        ("roll=nan", "the camera's roll must lie in"),
        ("x=9999", "the camera's x must lie in"),
    ],
)
def test_nonsense_is_one_sentence(run, text, said):
    status, _, err = run("a ball", "-o", "x.gif", f"--camera={text}")
    assert (status, err.count("\n")) == (2, 1)
    assert said in err


@pytest.mark.parametrize(
    "beside", [["--loop"], ["--noise", "independent"], ["--method", "ddim"]], ids=str
)
def test_what_a_camera_cannot_move(run, beside):
    status, _, err = run("a ball", "-o", "x.gif", "--camera", "roll=1", *beside)
    assert (status, err.count("\n")) == (2, 1)
    assert "--camera moves dependency noise" in err


def test_what_a_camera_cannot_move_from_python(random_pipe):
    with pytest.raises(ValueError, match="dependency noise model's noise"):
        random_pipe("a ball", noise=LoopNoise(), features=[Camera(1)])
    with pytest.raises(ValueError, match="2 values for 3 frames"):
        random_pipe("a ball", frames=3, features=[Camera([1, 2])])


def test_values_of_each_frame_are_told_as_they_are_read(random_pipe):
    camera = Camera(x=[1.0, 2.0], y=torch.tensor([0.0, 3.0]), zoom=torch.tensor(1.5))
    (told,) = random_pipe.shot("a", frames=2, features=[camera]).settings
    assert told["camera"] == "x=0:(1.0), 1:(2.0) y=0:(0.0), 1:(3.0) zoom=1.5"
    assert Camera.parse(told["camera"]).parts() | {"roll": 0.0} == {
        "x": Keyframes(((0, 1.0), (1, 2.0))),
        "y": Keyframes(((0, 0.0), (1, 3.0))),
        "zoom": 1.5,
        "roll": 0.0,
    }


@pytest.mark.parametrize("method", [FrameByFrame(), Text2VideoZero()])
def test_other_methods_have_no_camera(random_pipe, method):
    with pytest.raises(ValueError, match="leave it or the other method out"):
        random_pipe.shot("a", frames=2, steps=50, features=[Camera(x=2), method])


def test_it_is_made_again(run, tmp_path):
    from zs2 import media, sample
    from zs2.cli.describe_clip import describe_clip

    words = ("a ball", "--frames", "3", "--seed", "1", "--camera", "x=0:(2), 2:(4) roll=5")
    assert run(*words, "-o", "a.webp")[0] == 0
    assert read_settings(tmp_path / "a.webp")["camera"] == "x=0:(2.0), 2:(4.0) roll=5.0"
    import shlex

    *_, line = describe_clip(tmp_path / "a.webp")
    assert sample.main(shlex.split(line)[3:]) == 0
    again = next(p for p in tmp_path.iterdir() if p.name != "a.webp")
    assert media.read_frames(again).equal(media.read_frames(tmp_path / "a.webp"))
