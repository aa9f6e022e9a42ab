"""A contact sheet: many stills on one picture, each with its seed, to find one worth animating."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from zs2 import media

LABEL = 14
"""Pixels of height that a label takes."""


def write_sheet(path: Path, pictures: Sequence[Tensor], labels: Sequence[str]) -> Path:
    """Write pictures uint8 [H, W, 3] of one size with their labels, as near to a square as it goes.

    A sheet that is there is replaced.
    """
    cells = torch.stack([labelled(p, text) for p, text in zip(pictures, labels, strict=True)])
    columns = round((len(cells) * cells.shape[1] / cells.shape[2]) ** 0.5) or 1
    sheet = media.contact_sheet(cells, min(columns, len(cells)))
    return media.save(path, sheet[None], 1, {"sheet": list(labels)}, overwrite=True)


def labelled(picture: Tensor, text: str) -> Tensor:
    """A picture, at least 96 pixels wide, with a line of text under it."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture.cpu().numpy())
    times = max(1, -(-96 // image.width))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    cell = Image.new("RGB", (image.width, image.height + LABEL), "white")
    cell.paste(image)
    ImageDraw.Draw(cell).text((3, image.height + 1), text, fill="black")
    data = bytearray(cell.tobytes())
    return torch.frombuffer(data, dtype=torch.uint8).reshape(cell.height, cell.width, 3)
