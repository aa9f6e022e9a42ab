"""Damaged files by the thousand: each is read, or refused in one sentence, and nothing else.

    python -m tests.fuzz --count 20000         # a few minutes
    python -m tests.fuzz --case 1234           # one of them again, with its traceback

Every case has its own random numbers. A failure is any exception but InputError, a message of
several lines, more than ten seconds, or a word on stdout or stderr.
"""

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from zs2.checkpoint.build import build
from zs2.checkpoint.header import read_header
from zs2.checkpoint.load import load_weights
from zs2.errors import InputError
from zs2.media import read_clip, read_settings, save
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.tokenizer import END, START, Tokenizer
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.schedule import Schedule

SLOWEST = 10  # seconds
LARGEST = 4 << 30  # bytes of memory beyond what is used before
TEXT = CLIPTextConfig(514, 77, 8, 16, 1, 2)
GIANT, DEEP = "@giant@", "@deep@"  # written as digits and brackets that json.dumps refuses to write
NASTY: list[object] = [
    *(None, True, False, "", "a", "\0", "\x1b[31m", "\ud800", "é\u2028", "x" * 10_000, GIANT, DEEP),
    *(-1, 0, 1, 2, 3, 7, 10**9, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 10**19, 10**400),
    *(0.0, 0.5, -0.0, 1.0, 1e9, 1e308, -1e-308, float("inf"), float("-inf"), float("nan")),
    *([], [[]], {}, {"a": {}}, [0] * 100, [10**9], [[0], 10**9], [1, "a"], [None], [2**62] * 8),
    *("F4", "F6_E2M3", "F8_E4M3FNUZ", "I64", "BOOL", "F128", "../x", "/etc/passwd", "v_prediction"),
]


class Hang(BaseException):
    """Ten seconds have passed."""


@dataclass
class Failure:
    case: int
    kind: str
    what: str


class Seeds:
    """Whole files of every kind, in a folder where damaged ones are made of them."""

    def __init__(self, folder: Path) -> None:
        self.model, self.words, self.clips = folder / "model", folder / "words", folder / "clips"
        self.damaged = folder / "damaged"
        self.damaged.mkdir()
        self._write_model()
        self._write_words()
        self._write_clips()

    def _write_model(self) -> None:
        unet = UNetConfig(
            sample_size=4,
            block_out_channels=(8, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        vae = VAEConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4)
        parts = {"unet": (UNet, unet), "vae": (VAE, vae), "text_encoder": (CLIPText, TEXT)}
        torch.manual_seed(0)
        for name, (model, config) in parts.items():
            where = self.model / name
            where.mkdir(parents=True)
            (where / "config.json").write_text(json.dumps({**asdict(config), "dropout": 0.0}))
            stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
            with torch.device("meta"):
                shapes = model(config).state_dict()  # type: ignore[arg-type]
            tensors = {key: torch.randn(value.shape) for key, value in shapes.items()}
            save_file(tensors, where / f"{stem}.safetensors")
        (self.model / "scheduler").mkdir()
        schedule = json.dumps(asdict(Schedule()))
        (self.model / "scheduler/scheduler_config.json").write_text(schedule)
        (self.model / "zs2.json").write_text('{"size": 8, "steps": 3, "cfg": 4.0}')
        # One component lies in shards.
        where = self.model / "vae"
        names = dict.fromkeys(read_header(next(where.glob("*.safetensors"))), "part.safetensors")
        next(where.glob("*.safetensors")).rename(where / "part.safetensors")
        index = where / "diffusion_pytorch_model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
        self._vocabulary(self.model / "tokenizer")

    def _vocabulary(self, folder: Path) -> dict[str, int]:
        from tokenizers import pre_tokenizers

        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = [*letters, *(letter + "</w>" for letter in letters), START, END]
        words[300] = "at</w>"
        vocabulary = {word: i for i, word in enumerate(words)}
        folder.mkdir()
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\na t</w>\n")
        (folder / "tokenizer_config.json").write_text('{"model_max_length": 77, "pad_token": null}')
        (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": END}}))
        return vocabulary

    def _write_words(self) -> None:
        self.words.mkdir()
        vocabulary = self._vocabulary(self.words / "folder")
        added = [{"content": word, "id": vocabulary.pop(word)} for word in (START, END)]
        model = {"vocab": vocabulary, "merges": ["a t</w>"], "end_of_word_suffix": "</w>"}
        (self.words / "file").mkdir()
        one = json.dumps({"added_tokens": added, "model": model})
        (self.words / "file/tokenizer.json").write_text(one)
        (self.words / "openai").mkdir()
        packed = gzip.compress(b"#version: 0.2\nc a\nca t</w>\n")
        (self.words / "openai/bpe_simple_vocab_16e6.txt.gz").write_bytes(packed)

    def _write_clips(self) -> None:
        from PIL import Image

        self.clips.mkdir()
        frames = torch.randint(0, 256, (3, 16, 24, 3), dtype=torch.uint8)
        for suffix in (".mp4", ".gif", ".webp", ".png"):
            save(self.clips / f"clip{suffix}", frames, 8, {"prompt": "a ball", "seed": 1})
        photo = Image.fromarray(frames[0].numpy())
        photo.save(self.clips / "photo.jpg", comment='{"zs2": {"seed": 1}}')


def damage(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, repeated, or put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 2, 4, 8, 100)))
        match rng.randrange(6):
            case 0:
                del data[at:]
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * rng.choice((1, 3))
            case 3:
                data[at:end] = rng.randbytes(end - at)
            case 4:
                data[at:end] = rng.choice((b"\0", b"\xff", b"\x80")) * (end - at)
            case _:
                data[at:end] = bytes(byte ^ 1 << rng.randrange(8) for byte in data[at:end])
    return bytes(data)


def damage_json(content: bytes, rng: random.Random) -> bytes:
    """Values, keys and nesting changed; then now and then the encoding, or single bytes."""
    value = json.loads(content)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        value = _change(value, rng)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.7)
    text = text.replace(f'"{GIANT}"', rng.choice("19") * rng.choice((20, 4300, 100_000)))
    depth = rng.choice((30, 200, 900, 5000, 200_000))
    text = text.replace(f'"{DEEP}"', "[" * depth + "]" * depth)
    if rng.random() < 0.05 and text.startswith("{") and len(text) > 2:
        text = "{" + text[1:-1] + ", " + text[1:]  # every key twice
    encoding = rng.choice(("utf-8",) * 20 + ("utf-16", "utf-8-sig", "utf-32", "utf-16-le"))
    data = text.encode(encoding, "surrogatepass")
    return damage(data, rng) if rng.random() < 0.15 else data


def _change(value: object, rng: random.Random) -> object:
    if isinstance(value, dict | list) and value and rng.random() < 0.95:
        key = rng.choice([*value] if isinstance(value, dict) else [*range(len(value))])
        if rng.random() < 0.1:
            del value[key]
        elif isinstance(value, dict) and rng.random() < 0.1:
            value[str(rng.choice(NASTY))[:200]] = value.pop(key)
        else:
            value[key] = _change(value[key], rng)
        return value
    if (
        isinstance(value, int) and abs(value) < 2**63 and rng.random() < 0.3
    ):  # what is nearly the same
        return rng.choice((float(value), str(value), value + 1, -value, bool(value)))
    return [value] * rng.choice((1, 2, 50)) if rng.random() < 0.1 else deepcopy(rng.choice(NASTY))


def header(seeds: Seeds, rng: random.Random) -> None:
    content = (seeds.model / "text_encoder/model.safetensors").read_bytes()
    if rng.random() < 0.25:
        content = damage(content, rng)
    else:
        length = struct.unpack("<Q", content[:8])[0]
        text = damage_json(content[8 : 8 + length], rng)
        content = struct.pack("<Q", len(text)) + text + content[8 + length :]
    file = seeds.damaged / "model.safetensors"
    file.write_bytes(content)
    entries = read_header(file)
    with safe_open(file, framework="pt"):  # a header that is read is one that the library reads
        pass
    build(lambda: CLIPText(TEXT), entries, file, "cpu", torch.float32)


def configuration(seeds: Seeds, rng: random.Random) -> None:
    files = [f for f in sorted(seeds.model.rglob("*.json")) if f.parent.name != "tokenizer"]
    with _damaged(rng.choice(files), rng):
        load_weights(seeds.model, dtype=rng.choice((torch.float32, torch.float16)))


def clip(seeds: Seeds, rng: random.Random) -> None:
    file = rng.choice([f for f in sorted(seeds.clips.rglob("*")) if f.is_file()])
    with _damaged(file, rng):
        for read in (read_clip, read_settings):
            for path in (file, file.parent) if file.parent != seeds.clips else (file,):
                _refused(read, path)


def vocabulary(seeds: Seeds, rng: random.Random) -> None:
    file = rng.choice([f for f in sorted(seeds.words.rglob("*")) if f.is_file()])
    with _damaged(file, rng):
        words = Tokenizer.load(file.parent)
        words.encode(["a cat", "", "\U0001f408 <|endoftext|>"])


KINDS = {"header": header, "configuration": configuration, "clip": clip, "vocabulary": vocabulary}
WEIGHTS = (8, 3, 6, 6)  # a configuration takes as long as ten of the others


@contextmanager
def _damaged(file: Path, rng: random.Random) -> Iterator[None]:
    whole = file.read_bytes()
    content = damage_json(whole, rng) if file.suffix == ".json" else damage(whole, rng)
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(whole)


def _refused(read: Callable[..., object], *args: object) -> None:
    try:
        read(*args)
    except InputError as error:
        if "\n" in str(error):
            raise AssertionError(f"a message of several lines: {error}") from error


@contextmanager
def _listening() -> Iterator[Callable[[], int]]:
    """Whatever is written to stdout and stderr, also by C, goes to a file: its size."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = {fd: os.dup(fd) for fd in (1, 2)}
        for fd in kept:
            os.dup2(file.fileno(), fd)
        try:
            yield lambda: os.fstat(file.fileno()).st_size
        finally:
            for fd, copy in kept.items():
                os.dup2(copy, fd)
                os.close(copy)


def run(cases: range, seed: int = 0) -> tuple[list[Failure], Counter[str], float]:
    """Failures, how many cases there were of each kind, and the slowest one's seconds."""

    def interrupt(*_: object) -> None:
        raise Hang

    failures: list[Failure] = []
    count: Counter[str] = Counter()
    slowest, said = 0.0, 0
    before = signal.signal(signal.SIGALRM, interrupt)
    folder = Path(tempfile.mkdtemp())
    try:
        seeds = Seeds(folder)
        with _listening() as size, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for case in cases:
                rng = random.Random(f"{seed} {case}")
                kind = rng.choices([*KINDS], WEIGHTS)[0]
                count[kind] += 1
                began = time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, SLOWEST)
                try:
                    _refused(KINDS[kind], seeds, rng)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    failures.append(Failure(case, kind, "".join(traceback.format_exc())))
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                slowest = max(slowest, time.monotonic() - began)
                if time.monotonic() - began > SLOWEST:
                    failures.append(Failure(case, kind, "too slow"))
                if (now := size()) > said:
                    failures.append(Failure(case, kind, "something was printed"))
                    said = now
    finally:
        signal.signal(signal.SIGALRM, before)
        shutil.rmtree(folder)
    return failures, count, slowest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int)
    args = parser.parse_args()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LARGEST,) * 2)
    cases = range(args.count) if args.case is None else range(args.case, args.case + 1)
    failures, count, slowest = run(cases, args.seed)
    for failure in failures if args.case is not None else failures[:20]:
        lines = failure.what.strip().split("\n")
        print(
            failure.case, failure.kind, failure.what if args.case is not None else lines[-1][:200]
        )
    kinds = ", ".join(f"{number} {kind}s" for kind, number in count.items())
    print(f"{kinds}: {len(failures)} failures, slowest {slowest:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
