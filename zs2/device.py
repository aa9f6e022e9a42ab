"""Where to compute, and in which precision, when the user leaves it to us."""

import sys
import warnings
from pathlib import Path

import torch

from zs2.errors import InputError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """auto (CUDA, else Apple's MPS, else the CPU), cpu, cuda, cuda:N or mps.

    Raises:
        InputError: no such device here.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, colon, index = name.partition(":")
    known = kind in ("cpu", "cuda", "mps") and (not colon or (kind == "cuda" and index.isdigit()))
    if not known:
        raise InputError(f"device {name} is not known: use auto, cpu, cuda, cuda:N or mps")
    if (kind == "cuda" and not cuda) or (kind == "mps" and not mps):
        raise InputError(f"device {name} is not available here: use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise InputError(f"device {name} is absent: there are {torch.cuda.device_count()} here")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device, values: int = 0) -> torch.dtype:
    """auto, fp32, bf16 or fp16; auto is the fastest that is safe on the device.

    Args:
        values: of a model. On a CPU, one that would fill half of the free memory in fp32 has bf16.

    Raises:
        InputError: an unknown name.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise InputError(f"dtype {name} is not known: use auto, {', '.join(DTYPES)}")
    if device.type in ("cuda", "mps"):
        return torch.float16
    # bf16 pays where the processor multiplies it: twice as fast as fp32 with AVX-512, six times
    # with AMX, and slower than fp32 everywhere else.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    free = free_memory(device)
    large = free is not None and 4 * values > free / 2
    return torch.bfloat16 if native or large else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """A precision as the command line calls it."""
    return next((name for name, kind in DTYPES.items() if kind == dtype), str(dtype))


def in_words(size: int) -> str:
    """So many bytes, in two digits."""
    return f"{size / 2**30:.2g} GiB" if size >= 2**27 else f"{size / 2**20:.2g} MiB"


def check_room(model: str, values: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a model that the memory cannot hold, and tell of one that fills a quarter of it.

    Raises:
        InputError: what it takes and what is free.
    """
    free, needed = free_memory(device), values * dtype.itemsize
    if free is None or needed <= free / 4:
        return
    sentence = (
        f"{model} takes {in_words(needed)} in {name_of(dtype)}, and {in_words(free)} are free on "
        f"{device}"
    )
    if needed <= free:
        warnings.warn(sentence, stacklevel=3)
        return
    raise InputError(f"{sentence}: {'use --dtype bf16' if dtype.itemsize > 2 else 'free some'}")


def without_overflow(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """A dtype of float32's range: bf16 for fp16 where the device computes in it, else fp32."""
    if dtype != torch.float16:
        return dtype
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def out_of_memory(error: BaseException | None) -> bool:
    """Whether there was too little memory: only CUDA has a class for that, the rest have words.

    An error that ends the recording of a CUDA graph is raised anew, without its words, by the end
    of the recording: they are in the error's context.
    """
    while error is not None:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            return True
        error = error.__context__
    return False


def compile_failed(error: RuntimeError) -> bool:
    """Whether torch.compile, not the model, raised this."""
    dynamo = sys.modules.get("torch._dynamo")  # there once something was compiled: a slow import
    return dynamo is not None and isinstance(error, dynamo.exc.TorchDynamoException)


def peak_memory(device: torch.device) -> int | None:
    """Most bytes used so far: on the GPU, else by this process; None where nobody counts them."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        # Not getrusage: its count begins with the parent's, from which this process was forked.
        return _counted("/proc/self/status", "VmHWM")
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def free_memory(device: torch.device) -> int | None:
    """Bytes that are still to be had, None where nobody counts them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if sys.platform == "linux":
        return _counted("/proc/meminfo", "MemAvailable")
    return None


def _counted(file: str, name: str) -> int | None:
    """Bytes of a line such as "VmHWM:  2048 kB"."""
    lines = (line.split() for line in Path(file).read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words[:1] == [f"{name}:"]), None)
