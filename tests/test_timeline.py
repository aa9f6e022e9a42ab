"""Values over frames: one, a list, or key frames."""

import math

import numpy as np
import pytest
import torch

from zs2.timeline import Keyframes, check_range, number, per_frame


def test_straight_lines_between_constant_outside() -> None:
    keys = Keyframes(((2, 1.0), (6, 3.0), (7, 0.0)))
    assert per_frame("x", keys, 10) == [1, 1, 1, 1.5, 2, 2.5, 3, 0, 0, 0]
    assert per_frame("x", Keyframes(((3, 0.5),)), 5) == [0.5] * 5


def test_points_come_in_any_order() -> None:
    assert Keyframes(((24, 0.1), (0, 0.01))) == Keyframes(((0, 0.01), (24, 0.1)))


def test_inf_beside_inf() -> None:
    keys = Keyframes(((0, math.inf), (4, math.inf)))
    assert per_frame("lam", keys, 6) == [math.inf] * 6


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("0:(0.01), 24:(0.1)", ((0, 0.01), (24, 0.1))),
        ("0:0.01,24:.1", ((0, 0.01), (24, 0.1))),
        (" 24 : ( 1e-1 ) ,0:( 1 )", ((0, 1.0), (24, 0.1))),
        ("0:(-2.)", ((0, -2.0),)),
        ("3:(inf)", ((3, math.inf),)),
    ],
)
def test_deforums_string(text: str, points: tuple) -> None:
    keys = Keyframes.parse(text)
    assert keys.points == points
    assert Keyframes.parse(str(keys)) == keys


def test_str_is_deforums_string() -> None:
    assert str(Keyframes(((24, 0.1), (0, 0.01)))) == "0:(0.01), 24:(0.1)"
    third = Keyframes(((0, 1 / 3), (5, 1e-17)))
    assert Keyframes.parse(str(third)) == third


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not frame:"),
        ("0.01", "'0.01' is not frame:"),
        ("0:(0.01),", "'' is not frame:"),
        ("0:(0.01", "is not frame:"),
        ("0:0.01)", "is not frame:"),
        ("0:(0.1) 24:(0.2)", "is not frame:"),
        ("0:(0.1*t)", "is not frame:"),
        ("-1:(0.1)", "is not frame:"),
        ("1.5:(0.1)", "is not frame:"),
        ("9999999999:(0.1)", "is not frame:"),
        ("0:(1_0)", "is not frame:"),
        ("3:(1), 3:(2)", "frame 3 has two values"),
        ("3:(1), 3:(1)", "frame 3 has two values"),
        ("0:(nan)", "frame 0 is nan"),
        ("0:(0), 8:(inf)", "no straight line"),
        ("0:(inf), 8:(-inf)", "no straight line"),
    ],
)
def test_other_strings_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Keyframes.parse(text)


@pytest.mark.parametrize(
    "points", [(), ((-1, 0.1),), ((0.5, 0.1),), ((True, 0.1),), ((0, "0.1"),), ((0, None),)]
)
def test_bad_points(points: tuple) -> None:
    with pytest.raises(ValueError):
        Keyframes(points)


@pytest.mark.parametrize(
    "one", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5)]
)
def test_one_number(one: object) -> None:
    assert per_frame("lam", one, 3) == [0.5] * 3
    assert all(type(value) is float for value in per_frame("lam", one, 3))


@pytest.mark.parametrize(
    "three",
    [
        [0, 0.5, 1],
        (0, 0.5, 1),
        np.array([0, 0.5, 1]),
        torch.tensor([0, 0.5, 1]),
        [torch.tensor(0), np.float32(0.5), 1],
    ],
)
def test_one_number_a_frame(three: object) -> None:
    assert per_frame("lam", three, 3) == [0, 0.5, 1]
    with pytest.raises(ValueError, match="lam has 3 values for 4 frames: give 1 or 4"):
        per_frame("lam", three, 4)


@pytest.mark.parametrize(
    "value",
    [True, "0.1", None, 1j, [0.1, None], ["a", "b"], {0: 1}, torch.zeros(2, 2), np.array([True])],
)
def test_no_numbers(value: object) -> None:
    for read in (lambda: per_frame("lam", value, 2), lambda: check_range("lam", value, 1)):
        with pytest.raises(ValueError, match="lam "):
            read()


def test_a_number_too_large_for_a_float() -> None:
    with pytest.raises(ValueError, match="lam is too large"):
        number("lam", 10**400)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf, [0.5, 2], Keyframes(((0, 2),))])
def test_out_of_range(bad: object) -> None:
    with pytest.raises(ValueError, match=r"mu must lie in 0\.\.1, got"):
        check_range("mu", bad, 1)


def test_in_range() -> None:
    for good in (0, 1, [0.5, 1], Keyframes(((0, 0), (9, 1))), torch.tensor([0.0, 1.0])):
        check_range("mu", good, 1)
    check_range("x", -1, high=0, low=-2)
    with pytest.raises(ValueError, match=r"x must lie in -2\.\.0, got -3"):
        check_range("x", -3, high=0, low=-2)
