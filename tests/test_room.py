"""Whether a model fits into the memory is told before it is loaded."""

import warnings

import pytest
import torch
from folders import refused

import zs2
from zs2 import device
from zs2.checkpoint.load import load_weights
from zs2.device import check_room, pick_dtype
from zs2.errors import InputError

CPU = torch.device("cpu")
SDXL = 3_469_000_000  # values of its four networks
GIB = 2**30


@pytest.fixture
def free(monkeypatch):
    def of(gib: float | None) -> None:
        size = None if gib is None else int(gib * GIB)
        monkeypatch.setattr(device, "free_memory", lambda _: size)

    return of


@pytest.fixture
def no_bf16(monkeypatch):
    """A processor that multiplies no bf16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.mark.parametrize(
    ("gib", "values", "expected"),
    [
        (24, SDXL, torch.bfloat16),  # 13 GiB in fp32
        (64, SDXL, torch.float32),
        (24, 1_066_000_000, torch.float32),  # SD 1.5
        (7, 1_066_000_000, torch.bfloat16),
        (None, SDXL, torch.float32),
    ],
)
def test_a_large_model_has_half_the_bits_on_a_cpu(free, no_bf16, gib, values, expected):
    free(gib)
    assert pick_dtype("auto", CPU, values) == expected
    assert pick_dtype("fp32", CPU, values) == torch.float32
    assert pick_dtype("auto", torch.device("cuda"), values) == torch.float16


def test_what_cannot_fit_is_refused(free):
    free(10)
    message = "xl takes 13 GiB in fp32, and 10 GiB are free on cpu: use --dtype bf16"
    with pytest.raises(InputError, match=message):
        check_room("xl", SDXL, torch.float32, CPU)
    free(5)
    with pytest.raises(InputError, match=r"takes 6.5 GiB in bf16, and 5 GiB are free on cpu: free"):
        check_room("xl", SDXL, torch.bfloat16, CPU)


def test_what_takes_much_of_the_memory_is_told(free):
    free(20)
    with pytest.warns(UserWarning, match=r"xl takes 6.5 GiB in bf16, and 20 GiB are free on cpu$"):
        check_room("xl", SDXL, torch.bfloat16, CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for gib in (27, None):
            free(gib)
            check_room("xl", SDXL, torch.bfloat16, CPU)


def test_it_is_known_before_a_weight_is_read(written, free, monkeypatch):
    free(1e-4)
    monkeypatch.setattr("zs2.checkpoint.build._read", lambda *_: pytest.fail("was read"))
    refused(written, "takes .* in fp32, .* are free on cpu: use --dtype bf16")


@pytest.mark.parametrize(("gib", "dtype"), [(8, torch.float32), (0.004, torch.bfloat16)])
def test_a_pipeline_has_what_was_chosen(written, free, no_bf16, gib, dtype):
    free(gib)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = zs2.load(written, device="cpu")
    assert pipe.dtype == dtype
    assert pipe.weights.vae.quant_conv.weight.dtype == dtype
    assert load_weights(written, dtype=torch.float16).unet.conv_in.weight.dtype == torch.float16


def test_too_little_memory_is_known_by_what_went_before():
    """The end of a CUDA graph's recording raises an error of its own."""

    def record(words):
        try:
            raise RuntimeError(words)
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    for words, known in (("CUDA out of memory. Tried", True), ("invalid argument", False)):
        with pytest.raises(RuntimeError, match="during capture") as raised:
            record(words)
        assert device.out_of_memory(raised.value) is known
