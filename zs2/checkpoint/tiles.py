"""A VAE that works in tiles: `--tile PIXELS`."""

from dataclasses import dataclass, replace

from zs2.models.tiled_vae import TiledVAE
from zs2.timeline import whole
from zs2.weights import Weights


@dataclass(frozen=True)
class Tiles:
    """An adapter: the weights with a VAE that works in tiles.

    Attributes:
        side: of a tile, in pixels.

    Raises:
        ValueError: a side below 64.
    """

    side: int = 512

    def __post_init__(self) -> None:
        whole("tile", self.side, 64)

    def __call__(self, weights: Weights) -> Weights:
        vae = weights.vae.vae if isinstance(weights.vae, TiledVAE) else weights.vae
        tiled = TiledVAE(vae, self.side // vae.config.factor)
        return replace(weights, vae=tiled, settings={**weights.settings, "tile": self.side})
