"""Eidetic 3D LSTM, the unit of E3D-LSTM (Wang et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells.base import Cell, ConvNorm, GroupNorm, LayerNorm, Norm, zeros
from vidpred.cells.gates import gate, lstm_memory
from vidpred.cells.recording import show
from vidpred.cells.volume import WindowedZigzag, cube
from vidpred.cells.wiring import ZigzagFlow


class E3DLSTMState(NamedTuple):
    """Hidden state ``h`` and the last ``tau`` temporal memories, oldest first.

    Each is ``(B, hidden_channels, D, H, W)``; the memory C is ``past_c[-1]``.
    """

    h: Tensor
    past_c: tuple[Tensor, ...]


class E3DLSTMCell(Cell[ZigzagFlow, E3DLSTMState]):
    r"""Eidetic 3D long short-term memory: what was remembered long ago is recalled by attention.

    .. math::
        i, r &= \sigma(W_x * x + W_h * h) \qquad g = \tanh(W_x * x + W_h * h) \\
        c' &= i \odot g + LN(c + softmax(r \cdot [c_{t-\tau}, ..., c_{t-1}]^T)
            [c_{t-\tau}, ..., c_{t-1}]) \\
        i', f' &= \sigma(W'_x * x + W_m * m) \qquad g' = \tanh(W'_x * x + W_m * m) \\
        m' &= f' \odot m + i' \odot g' \\
        o &= \sigma(W_{xo} * x + W_{ho} * h + W_{co} * [c', m']) \\
        h' &= o \odot \tanh(W_{1 \times 1 \times 1} * [c', m'])

    All maps are volumes, all convolutions 3D; in the attention every place of ``r`` is a query for
    every place of the past memories, and :math:`c = c_{t-1}`. ``b`` is added in the forget gate
    :math:`f'`; each :math:`W * \cdot` but the 1x1x1 is followed by the norm. Stays: ``h``, the past
    ``tau`` of ``c``. Rises: ``h', m'``. Wiring: :class:`~vidpred.cells.WindowedZigzag`.

    Args:
        in_channels: Channels of the volume arriving from below.
        hidden_channels: Channels of ``h``, ``c`` and ``m``.
        kernel_size: Depth, height and width of the kernels, or one number for all three; height
            and width odd.
        depth: How many feature maps make a volume.
        tau: How many past memories are recalled; before the first frame they are zero.
        forget_bias: The constant ``b`` in the forget gate.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``. Of ``LN`` too,
            which for ``None`` is as for ``"group"``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``x`` of ``(B, in_channels, D, H, W)`` and ``m`` of ``(B, hidden_channels, D, H, W)`` to
        ``h'`` and ``m'`` of ``(B, hidden_channels, D, H, W)``; any H, W.

    Reference:
        Wang et al., ICLR 2019. Differs: a forget bias, as in PredRNN. The code that the authors
        published is, they say, a later reconstruction, and hands on the old ``m``, so that none is
        ever remembered; it has a convolution more, in :math:`f' \odot \tanh(W * m)`, a hyperbolic
        tangent around ``o`` and a history without end. OpenSTL's copy also mixes up channels and
        places in the attention. So the weights of either are for another function than this one,
        which is the paper's, of the size that later papers count.

    Example:
        >>> import torch
        >>> core = WindowedZigzag([E3DLSTMCell(3, 8), E3DLSTMCell(8, 8)])
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> h, state = core(x, core.init_state(x))
        >>> h.shape  # of two maps of 8 channels
        torch.Size([2, 16, 16, 16])
    """

    wiring = WindowedZigzag

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int | tuple[int, int, int] = (3, 5, 5),
        *,
        depth: int = 2,
        tau: int = 5,
        forget_bias: float = 1.0,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if tau < 1:
            raise ValueError(f"tau must be at least 1 past step, got {tau}")
        self.hidden_channels = hidden_channels
        self.volume = in_channels, depth
        self.tau = tau
        self.forget_bias = forget_bias
        kernel, n = cube(kernel_size), hidden_channels
        deep = None if size is None else (depth, *size)
        self.conv_x = ConvNorm(in_channels, 7 * n, kernel, norm, deep)
        self.conv_h = ConvNorm(n, 4 * n, kernel, norm, deep)
        self.conv_m = ConvNorm(n, 3 * n, kernel, norm, deep)
        self.conv_o = ConvNorm(2 * n, n, kernel, norm, deep)
        self.conv_last = nn.Conv3d(2 * n, n, 1, bias=False)
        self.norm_c = LayerNorm(n, deep) if norm == "layer" and deep else GroupNorm(1, n)

    def init_state(self, like: Tensor) -> E3DLSTMState:
        h, *past = (zeros(like, self.hidden_channels) for _ in range(1 + self.tau))
        return E3DLSTMState(h, tuple(past))

    def forward(self, flow: ZigzagFlow, state: E3DLSTMState) -> tuple[ZigzagFlow, E3DLSTMState]:
        (x, m), (h, past) = flow, state
        n = self.hidden_channels
        x_c, x_m, x_o = self.conv_x(x).split([3 * n, 3 * n, n], dim=1)
        h_c, h_o = self.conv_h(h).split([3 * n, n], dim=1)
        i, g, r = (x_c + h_c).chunk(3, dim=1)
        kept = self.norm_c(past[-1] + recall(gate(r, "recall gate"), past))
        c = (kept + gate(i, "input gate of c") * torch.tanh(g)).to(past[-1].dtype)
        i, f, g = (x_m + self.conv_m(m)).chunk(3, dim=1)
        m = lstm_memory(m, i, f, g, self.forget_bias, "m")
        memories = torch.cat([c, m], dim=1)
        o = gate(x_o + h_o + self.conv_o(memories), "output gate")
        h = (o * torch.tanh(self.conv_last(memories))).to(c.dtype)
        return ZigzagFlow(h, m), E3DLSTMState(h, (*past[1:], c))


def recall(query: Tensor, past: Sequence[Tensor]) -> Tensor:
    r"""Attention from every place of a volume to every place of several: :math:`softmax(Q K^T) K`.

    Args:
        query: ``(B, C, D, H, W)``.
        past: Volumes like ``query``, both keys and values. What all places of each of them weigh
            together is shown to :func:`vidpred.cells.record`.

    Example:
        >>> import torch
        >>> ones = torch.ones(1, 2, 1, 4, 4)
        >>> recall(ones, [-ones, ones]).round(decimals=2)[0, 0, 0, 0, 0]  # e^2 to e^-2
        tensor(0.9600)
    """

    def places(volume: Tensor) -> Tensor:
        return volume.flatten(2).transpose(1, 2)

    # One head; the fused kernels, which hold no D*H*W x tau*D*H*W scores, want contiguous rows.
    keys = torch.cat([places(volume) for volume in past], dim=1).unsqueeze(1)
    queries = places(query).contiguous().unsqueeze(1)

    def weights() -> Tensor:
        # Attention to which volume a place is of gives the sums of the weights, without the scores.
        volume = torch.eye(len(past), dtype=keys.dtype, device=keys.device)
        # The fused kernels want values as wide as the keys; zeros change no score.
        width = max(keys.shape[3], len(past))
        volume = F.pad(volume, (0, width - len(past)))
        volume = volume.repeat_interleave(queries.shape[2], dim=0).expand(len(keys), 1, -1, -1)
        q, k = (F.pad(rows, (0, width - rows.shape[3])) for rows in (queries, keys))
        shares = F.scaled_dot_product_attention(q, k, volume, scale=1.0)
        shares = shares[..., : len(past)]
        return shares.squeeze(1).transpose(1, 2).unflatten(2, query.shape[2:])

    show("attention", "attention to past c", weights)
    recalled = F.scaled_dot_product_attention(queries, keys, keys, scale=1.0)
    return recalled.squeeze(1).transpose(1, 2).unflatten(2, query.shape[2:])
