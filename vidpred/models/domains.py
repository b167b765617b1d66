"""Encoders and decoders by domain: what changes in time and what is seen in space, each its own.

On the way through the predictor the domains' feature maps lie side by side in the channels, always
in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vidpred.models.autoencoder import (
    ConvDecoder,
    ConvEncoder,
    Decoder,
    Encoder,
    upsample,
)


class DomainEncoder(Encoder):
    """A :class:`ConvEncoder` for each domain, of a folded frame.

    The maps that can be recalled are those between the finest and the coarsest: of each size one by
    domain, the domains in turn. The finest is the widest map of the model, and not kept.

    Args:
        in_channels: Channels of a folded frame, or of a clip: its frames side by side.
        hidden_channels: Channels of a domain's feature maps.
        downsamplings: How often the sides are halved.
        domains: Their names, in order.
        slope: Of the LeakyReLU below zero; 0 makes it a ReLU.
        depth: Makes the encoders 3D, for clips of so many frames. ``None``: 2D.

    Example:
        >>> import torch
        >>> encoder = DomainEncoder(4, 8, 2, domains=("t", "s"))
        >>> [tuple(f.shape) for f in encoder(torch.zeros(2, 4, 16, 12))]
        [(2, 8, 8, 6), (2, 8, 8, 6), (2, 16, 4, 3)]
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        downsamplings: int,
        domains: Sequence[str],
        slope: float = 0.2,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        sizes = in_channels, hidden_channels, downsamplings
        self.domains = nn.ModuleDict({name: ConvEncoder(*sizes, slope, depth) for name in domains})
        self.in_channels = in_channels
        self.stride = 2**downsamplings
        self.depth = depth

    def forward(self, frames: Tensor) -> list[Tensor]:
        if self.depth is not None:  # colours by frames, where a clip has frames by colours
            clip = frames.movedim(1, -1).unflatten(-1, (self.depth, -1))
            frames = clip.transpose(-1, -2).flatten(-2).movedim(-1, 1)
        sizes = zip(*(encode(frames) for encode in self.domains.values()), strict=True)
        *finer, coarsest = sizes
        return [*(x for maps in finer[1:] for x in maps), torch.cat(coarsest, dim=1)]


class MergedDecoder(Decoder):
    r"""A :class:`ConvDecoder` for each domain, then :math:`W_{1 \times 1} * [...]`.

    Each recalls, by size, the maps of the encoder of the domain at the other end of the order: that
    is the form of STIP's code.

    Args:
        in_channels: Channels of a domain's feature map, as it comes from the core.
        hidden_channels: Channels of a domain's later feature maps.
        out_channels: Channels of a folded frame.
        upsamplings: How often the sides are doubled.
        domains: Their names, in order.
        recall: Weight of the encoders' feature maps; 0 for none.
        slope: Of the LeakyReLU below zero; 0 makes it a ReLU.
        depth: Makes the decoders 3D, for volumes of so many maps. ``None``: 2D.

    Example:
        >>> import torch
        >>> decoder = MergedDecoder(8, 8, 4, 2, domains=("t", "s"))
        >>> decoder(torch.zeros(2, 16, 4, 3), []).shape
        torch.Size([2, 4, 16, 12])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        upsamplings: int,
        domains: Sequence[str],
        recall: float = 0.0,
        slope: float = 0.2,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        self.recall = recall
        sizes = in_channels, hidden_channels, out_channels, upsamplings
        self.domains = nn.ModuleDict(
            {name: ConvDecoder(*sizes, recall, slope, depth) for name in domains}
        )
        self.merge = nn.Conv2d(len(domains) * out_channels, out_channels, 1)

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.merged(x.chunk(len(self.domains), dim=1), features)

    def merged(self, maps: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """The folded frame, from one feature map for each domain."""
        # The domains' last layers and the merge are linear: their product makes the frame at once,
        # without the widest maps of the model.
        bias = cast(Tensor, self.merge.bias)
        shares = self.merge.weight[:, :, 0, 0].chunk(len(maps), dim=1)
        risen, kernels = [], []
        decoders = cast(Iterable[ConvDecoder], self.domains.values())
        for i, (decoder, x, share) in enumerate(zip(decoders, maps, shares, strict=False)):
            risen.append(decoder.rise(x, features[len(maps) - 1 - i :: len(maps)]))
            kernel, shift = decoder.tail(share)
            kernels.append(kernel)
            bias = bias + shift
        return upsample(torch.cat(risen, dim=1), torch.cat(kernels), bias)
