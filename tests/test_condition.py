"""What a network is told: the part of some frames, and several conditions in one."""

import pytest
import torch

from zs2.condition import Condition, as_long

B, F, D = 2, 5, 3
EACH = torch.arange(B * F).view(B, F, 1, 1).expand(B, F, 7, D)  # a frame's number, everywhere
ALL = torch.arange(B).view(B, 1, 1).expand(B, 7, D) + 100
PICTURES = torch.arange(B * F).view(B, F, 1, 1, 1).expand(B, F, 4, 2, 2) + 200


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (3, 5), (4, 5)])
def test_the_condition_of_some_frames(start, stop):
    part = Condition(EACH, PICTURES).at(start, stop)
    for clip in range(B):
        numbers = [clip * F + frame for frame in range(start, stop)]
        assert part.prompt[clip, :, 0, 0].tolist() == numbers
        assert part.channels[clip, :, 0, 0, 0].tolist() == [200 + n for n in numbers]
    shared = Condition(ALL).at(start, stop)
    assert shared.prompt.equal(ALL)
    assert shared.channels is None


def test_what_is_prepared_stays_with_its_frames():
    cross = {torch.nn.Identity(): (ALL, ALL)}
    assert Condition(ALL, cross=cross).at(1, 2).cross is cross


def test_conditions_in_one_keep_their_order():
    both = Condition.stack([Condition(ALL, PICTURES), Condition(ALL + 10, PICTURES + 10)])
    assert both.prompt[:, 0, 0].tolist() == [100, 101, 110, 111]
    assert both.channels[:, 0, 0, 0, 0].tolist() == [200, 205, 210, 215]
    assert Condition.stack([Condition(ALL)]).channels is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_prompt_for_all_frames_beside_one_for_each(order):
    given = [Condition(ALL), Condition(EACH)]
    both = Condition.stack([given[i] for i in order]).prompt
    assert both.shape == (2 * B, F, 7, D)
    parts = both[..., 0, 0].split(B)
    assert parts[order.index(0)].tolist() == [[100] * F, [101] * F]
    assert parts[order.index(1)].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_pictures_in_one_keep_their_order_and_stay_with_all_frames():
    layers = [torch.nn.Identity(), torch.nn.Identity()]
    said, against = (
        Condition(
            ALL, pictures={layer: (ALL + n + i, ALL + n + i + 5) for i, layer in enumerate(layers)}
        )
        for n in (10, 20)
    )
    both = Condition.stack([said, against])
    assert [both.pictures[layer][0][:, 0, 0].tolist() for layer in layers] == [
        [110, 111, 120, 121],
        [111, 112, 121, 122],
    ]
    assert both.pictures[layers[0]][1][:, 0, 0].tolist() == [115, 116, 125, 126]
    assert both.at(1, 3).pictures is both.pictures
    assert not Condition.stack([Condition(ALL)]).pictures
    with pytest.raises(ValueError, match="some branches have a picture and some have none"):
        Condition.stack([said, Condition(ALL)])


def test_prompts_become_as_long_as_each_other():
    two, three = torch.arange(12.0).view(1, 6, 2), torch.arange(18.0).view(1, 9, 2)
    both = Condition.stack([Condition(two), Condition(three)]).prompt
    assert torch.equal(both, torch.cat([two.repeat(1, 3, 1), three.repeat(1, 2, 1)]))
    each = EACH.float()  # one a frame, of 7 tokens
    longer = as_long([each, torch.ones(2, 14, D)])
    assert torch.equal(longer[0], torch.cat([each, each], dim=2))
    assert Condition.stack([Condition(EACH), Condition(torch.ones(2, 14, D))]).prompt.shape[2] == 14
    same = [torch.ones(1, 77, 2), torch.zeros(2, 77, 2)]
    assert all(a is b for a, b in zip(as_long(same), same, strict=True))


def test_prompts_that_would_be_too_long_together_are_refused():
    with pytest.raises(ValueError, match=r"prompts of 770 and 847 tokens .* BREAK"):
        as_long([torch.ones(1, 770, 2), torch.ones(1, 847, 2)])


MAPS = PICTURES[:1]  # of a control: the same for all clips
STRENGTH = torch.ones(1, 1, 1, 1, 1)


def test_a_control_is_cut_by_frame_and_what_is_held_is_not():
    part = Condition(ALL, control=((STRENGTH, MAPS), (STRENGTH, MAPS[:, :1]))).at(2, 4)
    (strength, maps), (_, held) = part.control
    assert strength.equal(STRENGTH)
    assert maps[0, :, 0, 0, 0].tolist() == [202, 203]
    assert held.shape[1] == 1


def test_controls_that_all_branches_have_stay_one():
    """What differs by branch is put beside each other, a clip's after the other's."""
    one = Condition(ALL, control=((STRENGTH, MAPS),))
    ((strength, maps),) = Condition.stack([one, one]).control
    assert strength is STRENGTH
    assert maps is MAPS
    two = Condition(ALL, control=((STRENGTH * 0, MAPS),))
    ((strength, maps),) = Condition.stack([two, one]).control
    assert strength.flatten().tolist() == [0, 0, 1, 1]
    assert maps is MAPS
    each = Condition(ALL, control=((STRENGTH, PICTURES),))
    ((_, maps),) = Condition.stack([one, each]).control
    assert maps[:, 0, 0, 0, 0].tolist() == [200, 200, 200, 205]


def test_all_branches_are_controlled_or_none():
    with pytest.raises(ValueError, match="some branches are controlled and some are not"):
        Condition.stack([Condition(ALL), Condition(ALL, control=((STRENGTH, MAPS),))])
