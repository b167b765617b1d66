"""What STRPM and STAE put around their units: the temporal, the spatial and the output domain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidpred.cells import PastZigzag, RPMCell, STAMCell, ZigzagFlow, ZigzagState
from vidpred.models.autoencoder import ConvDecoder
from vidpred.models.domains import MergedDecoder


class DomainDecoder(MergedDecoder):
    r"""A decoder for each domain, then :math:`o \odot \tanh(W_{1 \times 1} * [t, s])`.

    Args:
        hidden_channels: Channels of a domain's feature maps.
        out_channels: Channels of a folded frame.
        upsamplings: How often the sides are doubled.
        depth: Makes the decoders 3D, for volumes of so many maps. ``None``: 2D.

    Example:
        >>> import torch
        >>> DomainDecoder(8, 4, 2)(torch.zeros(2, 24, 4, 3), []).shape
        torch.Size([2, 4, 16, 12])
    """

    def __init__(
        self,
        hidden_channels: int,
        out_channels: int,
        upsamplings: int,
        depth: int | None = None,
    ) -> None:
        n = hidden_channels
        super().__init__(n, n, out_channels, upsamplings, ("t", "s"), 0.0, 0.0, depth)
        self.domains["o"] = ConvDecoder(n, n, out_channels, upsamplings, slope=0.0, depth=depth)

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        t, s, o = x.chunk(3, dim=1)
        gate = self.domains["o"](o, ())
        return gate * torch.tanh(self.merged((t, s), ()))


class DomainZigzag(PastZigzag):
    """A zigzag that the three domains enter, and from whose top c, m and o rise.

    Args:
        cells: From bottom to top; the lowest for three inputs.

    Example:
        >>> import torch
        >>> zigzag = DomainZigzag([RPMCell(3 * 8, 8), RPMCell(8, 8)])
        >>> x = torch.zeros(2, 3 * 8, 16, 16)
        >>> zigzag(x, zigzag.init_state(x))[0].shape
        torch.Size([2, 24, 16, 16])
    """

    def __init__(self, cells: Sequence[RPMCell | STAMCell]) -> None:
        super().__init__(cells)
        self.hidden_channels = 3 * cells[-1].hidden_channels

    def forward(self, flow: Tensor, state: ZigzagState) -> tuple[Tensor, ZigzagState]:
        top, cells = self.stack(ZigzagFlow(flow, state.m), state.cells)
        domains = (cells[-1].past_c.maps[-1], top.m.maps[-1], top.o)
        return torch.cat(domains, dim=1), ZigzagState(cells, top.m)
