"""T2I-Adapters against diffusers'."""

import pytest
import torch
from diffusers import T2IAdapter as Theirs
from parity import EXACT, error, scramble

from zs2.models.t2i_adapter import T2IAdapter, T2IAdapterConfig

SMALL = {"in_channels": 3, "channels": (8, 16, 32, 32), "num_res_blocks": 2}
CONFIGS = [
    {**SMALL, "adapter_type": "full_adapter"},
    {**SMALL, "adapter_type": "full_adapter", "in_channels": 1},
    {**SMALL, "adapter_type": "full_adapter_xl", "downscale_factor": 16},
    {**SMALL, "adapter_type": "light_adapter", "channels": (8, 16, 32), "num_res_blocks": 4},
]


def pair(config: dict) -> tuple[T2IAdapter, Theirs]:
    theirs = scramble(Theirs(**config)).double()
    with torch.device("meta"):
        ours = T2IAdapter(T2IAdapterConfig(**config))
    state = {key.removeprefix("adapter."): value for key, value in theirs.state_dict().items()}
    ours.load_state_dict(state, assign=True)
    return ours.eval(), theirs


@torch.inference_mode()
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c['adapter_type']}-{c['in_channels']}")
def test_diffusers_makes_the_same_features(config):
    ours, theirs = pair(config)
    factor = config.get("downscale_factor", 8)
    hint = torch.rand(2, 3, 5 * factor, 6 * factor, generator=torch.Generator().manual_seed(1))
    hint = hint.double()
    theirs_hint = hint if config["in_channels"] == 3 else hint.mean(1, keepdim=True)
    made, expected = ours.picture(hint), theirs(theirs_hint)
    assert [m.shape[1] for m in made] == [*ours.config.levels]
    assert len(made) == len(expected) == 4
    for one, other in zip(made, expected, strict=True):
        assert error(one, other) <= EXACT


def test_sides_that_do_not_fit_are_refused():
    adapter = pair(CONFIGS[2])[0]
    with pytest.raises(ValueError, match="multiples of 16 pixels, not 40x32"):
        adapter.picture(torch.zeros(1, 3, 32, 40, dtype=torch.float64))


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="adapter_type = style is not supported"):
        T2IAdapterConfig(adapter_type="style")
