"""What a single file says of its diffusion: prediction, size, the last step's signal."""

from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from single_files import random_networks, single_file, small

from zs2.checkpoint import family as presets
from zs2.checkpoint.family import PRESETS
from zs2.checkpoint.kinds import Family, Kind
from zs2.checkpoint.single_file import _LAST_NORM, plan_file


@pytest.fixture
def file_of(monkeypatch, tmp_path):
    """Write a small file that is read as one of the family."""

    def made(family: Family, change=dict, metadata=None):
        monkeypatch.setitem(presets.PRESETS, family, small(family))
        tensors = single_file(random_networks(small(family)), small(family), family)
        save_file(change(tensors), tmp_path / "sd.safetensors", metadata)
        return tmp_path / "sd.safetensors"

    return made


def with_spread(tensors, spread: float):
    """The biases that tell SD 2.x's prediction, with this standard deviation."""
    bias = torch.linspace(-1, 1, len(tensors[_LAST_NORM]))
    return {**tensors, _LAST_NORM: bias / bias.std() * spread}


V = {"modelspec.prediction_type": "v"}
EPSILON = {"modelspec.prediction_type": "epsilon"}


@pytest.mark.parametrize(
    ("spread", "metadata", "told", "expected"),
    [
        (0.085, None, None, "epsilon"),
        (0.095, None, None, "v_prediction"),
        (0.085, V, None, "v_prediction"),
        (0.095, EPSILON, None, "epsilon"),
        (0.095, None, "epsilon", "epsilon"),
        (0.085, EPSILON, "v", "v_prediction"),
    ],
)
def test_what_sd_2_predicts(spread, metadata, told, expected, file_of):
    """The user's word, the header's, then a tensor; and what goes with it."""
    plans = plan_file(file_of(Family.SD2, partial(with_spread, spread=spread), metadata), told)
    v = expected == "v_prediction"
    assert plans.schedule.prediction_type == expected
    assert plans.networks["unet"].config.upcast_attention == v
    assert plans.networks["unet"].config.sample_size == (12 if v else 8)


def test_of_the_other_families_a_spread_says_nothing(file_of):
    plans = plan_file(file_of(Family.SD1, partial(with_spread, spread=0.2)), None)
    assert plans.schedule.prediction_type == "epsilon"


def test_the_sizes_of_real_ones():
    v = presets.preset_of(Kind("", None, Family.SD2, prediction="v"))
    sizes = [8 * preset.unet.sample_size for preset in (*PRESETS.values(), v)]
    assert sizes == [512, 512, 1024, 768]


@pytest.mark.parametrize(
    ("markers", "metadata", "v", "zero"),
    [
        ((), None, False, False),
        (("v_pred",), None, True, False),
        (("v_pred", "ztsnr"), None, True, True),
        ((), {**V, "ss_zero_terminal_snr": "True"}, True, True),
        ((), {**V, "ss_zero_terminal_snr": "False"}, True, False),
    ],
)
def test_markers_of_sdxl(markers, metadata, v, zero, file_of):
    def marked(tensors):
        return tensors | {marker: torch.zeros(0) for marker in markers}

    schedule = plan_file(file_of(Family.SDXL, marked, metadata), None).schedule
    assert schedule.prediction_type == ("v_prediction" if v else "epsilon")
    assert schedule.rescale_betas_zero_snr == zero
    assert schedule.timestep_spacing == ("trailing" if zero else "leading")


def test_the_vae_of_sdxl_overflows_in_fp16(file_of):
    """A file cannot say that its VAE is one of those that do not."""
    upcast = [plan_file(file_of(f), None).networks["vae"].config.force_upcast for f in Family]
    assert upcast == [False, False, True]
