"""The layers that UNet and VAE share."""

import pytest
import torch
import torch.nn.functional as F

from zs2.models.layers import GroupNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(5, 7), (32, 40)])
def test_group_norm_is_torchs_in_every_layout(dtype, layout, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 12, *size, generator=generator).to(dtype).to(memory_format=layout)
    norm = GroupNorm(4, 12, eps=1e-6).to(dtype)
    norm.weight.data.normal_(generator=generator)
    norm.bias.data.normal_(generator=generator)
    exact = F.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), norm.eps)
    # One rounding of the result: half a unit in the last place is 2^-9 in bf16, and 2^-24 in fp32,
    # where the sums add some.
    tolerance = 2**-8 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(norm(x).double(), exact, rtol=tolerance, atol=tolerance)
