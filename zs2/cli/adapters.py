"""The options that change a checkpoint when it is loaded: words become adapters."""

import argparse

from zs2.checkpoint.lora import LoRA
from zs2.checkpoint.vae import OtherVAE
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
    return made
