"""What STRPM puts around its units: the temporal, the spatial and the output domain.

Each has an encoder and a decoder of its own. On the way through the predictor the three feature
maps lie side by side in the channels, in this order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells import RPMCell, RPMZigzag, ZigzagFlow, ZigzagState
from vidpred.models.autoencoder import ConvDecoder, ConvEncoder, Decoder, Encoder, PatchEncoder

DOMAINS = ("t", "s", "o")


class DomainEncoder(Encoder):
    """An encoder for each domain, a :class:`ConvEncoder` with ReLU, on the frame's folded patches.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of a domain's feature maps.
        downsamplings: How often the sides of the folded frame are halved.
        patch: Side of the squares that are folded into channels, in pixels.

    Example:
        >>> import torch
        >>> [tuple(f.shape) for f in DomainEncoder(1, 8, 2, patch=2)(torch.zeros(2, 1, 32, 24))]
        [(2, 24, 4, 3)]
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, downsamplings: int, patch: int
    ) -> None:
        super().__init__()
        self.fold = PatchEncoder(in_channels, patch)
        folded = in_channels * patch**2
        self.domains = nn.ModuleDict(
            {
                domain: ConvEncoder(folded, hidden_channels, downsamplings, slope=0.0)
                for domain in DOMAINS
            }
        )
        self.in_channels = in_channels
        self.stride = patch * 2**downsamplings
        self.patch = patch

    def forward(self, frames: Tensor) -> list[Tensor]:
        (folded,) = self.fold(frames)
        return [torch.cat([encode(folded)[-1] for encode in self.domains.values()], dim=1)]


class DomainDecoder(Decoder):
    r"""A decoder for each domain, then :math:`o \odot \tanh(W_{1 \times 1} * [t, s])`, unfolded.

    Args:
        hidden_channels: Channels of a domain's feature maps.
        out_channels: Channels of a frame.
        upsamplings: How often the sides are doubled before the unfolding.
        patch: Side of the squares that are unfolded, in pixels.

    Example:
        >>> import torch
        >>> DomainDecoder(8, 1, 2, patch=2)(torch.zeros(2, 24, 4, 3), []).shape
        torch.Size([2, 1, 32, 24])
    """

    def __init__(
        self, hidden_channels: int, out_channels: int, upsamplings: int, patch: int
    ) -> None:
        super().__init__()
        self.patch = patch
        n, folded = hidden_channels, out_channels * patch**2
        self.domains = nn.ModuleDict(
            {domain: ConvDecoder(n, n, folded, upsamplings, slope=0.0) for domain in DOMAINS}
        )
        self.merge = nn.Conv2d(2 * folded, folded, 1)

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        maps = zip(self.domains.values(), x.chunk(3, dim=1), strict=True)
        t, s, o = (decode(feature_map, ()) for decode, feature_map in maps)
        return F.pixel_shuffle(o * torch.tanh(self.merge(torch.cat([t, s], dim=1))), self.patch)


class DomainZigzag(RPMZigzag):
    """A zigzag of RPMs that the three domains enter, and from whose top c, m and o rise.

    Args:
        cells: From bottom to top; the lowest for three inputs.

    Example:
        >>> import torch
        >>> zigzag = DomainZigzag([RPMCell(3 * 8, 8), RPMCell(8, 8)])
        >>> x = torch.zeros(2, 3 * 8, 16, 16)
        >>> zigzag(x, zigzag.init_state(x))[0].shape
        torch.Size([2, 24, 16, 16])
    """

    def __init__(self, cells: Sequence[RPMCell]) -> None:
        super().__init__(cells)
        self.hidden_channels = len(DOMAINS) * cells[-1].hidden_channels

    def forward(self, flow: Tensor, state: ZigzagState) -> tuple[Tensor, ZigzagState]:
        top, cells = self.stack(ZigzagFlow(flow, state.m), state.cells)
        domains = (cells[-1].past_c[-1], top.m.maps[-1], top.o)
        return torch.cat(domains, dim=1), ZigzagState(cells, top.m)
