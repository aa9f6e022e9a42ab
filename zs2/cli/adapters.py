"""The options that change a checkpoint when it is loaded: words become adapters."""

import argparse

from zs2.checkpoint.embedding import Embedding
from zs2.checkpoint.int8 import Int8
from zs2.checkpoint.lora import LoRA
from zs2.checkpoint.tiles import Tiles
from zs2.checkpoint.vae import OtherVAE
from zs2.checkpoint.words import Words
from zs2.cli.request import refused
from zs2.weights import Adapter


def adapters(args: argparse.Namespace) -> list[Adapter]:
    """What changes the checkpoint, in this order.

    Raises:
        InputError: a file is not what its option takes, or a value is out of range.
    """
    made: list[Adapter] = []
    if args.vae is not None:
        made.append(OtherVAE(args.vae))
    if args.lora:
        made.append(LoRA(*args.lora))  # all in one: their sum is added once
    made += [Embedding(file) for file in args.embedding or ()]
    if args.prompt_weights is not None or args.clip_skip is not None:
        made.append(Words(args.prompt_weights, args.clip_skip))
    if args.tile is not None:
        made.append(refused(lambda: Tiles(args.tile)))
    if args.int8:
        made.append(Int8())  # the last: it keeps what the others made
    return made
