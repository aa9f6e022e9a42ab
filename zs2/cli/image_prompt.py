"""A picture as a prompt, from the words of a command line."""

import argparse

from torch import Tensor

from zs2 import media
from zs2.checkpoint.ip_adapter import load_ip_adapter, read_ip_adapter
from zs2.pipeline import Feature, Pipeline
from zs2.shots.image_prompt import ImagePrompt


def picture(args: argparse.Namespace) -> Tensor | None:
    """The picture of --image, uint8 [H, W, 3]; of a video its first frame.

    Raises:
        InputError: it cannot be read, or --ip-adapter is none: told before a model is loaded.
    """
    if args.ip_adapter is None:
        return None
    read_ip_adapter(args.ip_adapter)
    return media.read_frames(args.image, 1)[0]


def features(args: argparse.Namespace, picture: Tensor | None, pipe: Pipeline) -> list[Feature]:
    """The picture as a prompt, where there is one.

    Raises:
        InputError: the adapter or its encoder cannot be used, or does not fit the model.
    """
    if picture is None:
        return []
    adapter, encoder = load_ip_adapter(args.ip_adapter, pipe.weights.unet, args.image_encoder)
    weight = {} if args.image_weight is None else {"weight": args.image_weight}
    return [ImagePrompt(adapter, encoder, picture, **weight)]
