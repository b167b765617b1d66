"""MAU, the motion-aware unit (Chang et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from vidpred.cells.base import Cell, ConvNorm, Flow, Norm, same_channels, zeros
from vidpred.cells.gates import blend
from vidpred.cells.recording import show
from vidpred.cells.wiring import Stack


class MAUState(NamedTuple):
    """The last ``tau`` temporal states and the last ``tau`` spatial inputs, oldest first.

    Each is ``(B, hidden_channels, H, W)``; the temporal state T is ``past_t[-1]``.
    """

    past_t: tuple[Tensor, ...]
    past_s: tuple[Tensor, ...]


def attend(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    scaled: bool,
    name: str,
) -> Tensor:
    r"""Attention over whole feature maps: :math:`\sum_j softmax_j(\langle k_j, q \rangle) v_j`.

    Args:
        query: ``(B, C, H, W)``.
        keys: Feature maps like ``query``.
        values: As many feature maps as ``keys``.
        scaled: Divide the scores by :math:`\sqrt{CHW}`.
        name: What the weights are called, for :func:`vidpred.cells.record`.

    Example:
        >>> import torch
        >>> ones = torch.ones(2, 3, 4, 4)
        >>> attend(ones, [ones, ones], [ones, 3 * ones], True, "attention")[0, 0, 0, 0].item()
        2.0
    """
    # In half precision the sum over a map overflows, and divided before it, small products vanish.
    wide = torch.promote_types(keys[0].dtype, torch.float32)
    # Reference by reference: a stacked history would be copied, and kept for backward, every step.
    scores = torch.stack([(key * query).sum(dim=(1, 2, 3), dtype=wide) for key in keys])
    if scaled:
        scores = scores / query[0].numel() ** 0.5
    shares = scores.softmax(dim=0).to(values[0].dtype)
    show("attention", name, lambda: shares.movedim(0, 1))
    weights = shares[..., None, None, None]
    attended = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        attended.addcmul_(weight, value)
    return attended


class MotionAware(Cell[Flow, MAUState], Generic[Flow]):
    """What MAU and STAU share: the weights, the histories and the fusion module.

    Args:
        in_channels: Channels of ``S``; must equal ``hidden_channels``.
        hidden_channels: Channels of ``T``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        tau: How many past steps the attention sees.
        gamma: Weight of the residual term.
        scaled: Divide the attention scores by the root of their number of terms.
        norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        *,
        tau: int = 5,
        gamma: float = 0.0,
        scaled: bool = True,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        same_channels(type(self).__name__, in_channels, hidden_channels)
        if tau < 1:
            raise ValueError(f"tau must be at least 1 past step, got {tau}")
        self.hidden_channels = hidden_channels
        self.tau = tau
        self.gamma = gamma
        self.scaled = scaled
        self.conv_t_next = ConvNorm(hidden_channels, hidden_channels, kernel_size, norm, size)
        self.conv_s_next = ConvNorm(hidden_channels, hidden_channels, kernel_size, norm, size)
        self.conv_t = ConvNorm(hidden_channels, 3 * hidden_channels, kernel_size, norm, size)
        self.conv_s = ConvNorm(hidden_channels, 3 * hidden_channels, kernel_size, norm, size)

    def init_state(self, like: Tensor) -> MAUState:
        past = [zeros(like, self.hidden_channels) for _ in range(2 * self.tau)]
        return MAUState(tuple(past[: self.tau]), tuple(past[self.tau :]))

    def augment(
        self,
        state: Tensor,
        hat: Tensor,
        query: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        domain: str,
    ) -> Tensor:
        """Blend a state with its attended references, gated by its own modulation ``hat``."""
        attended = attend(query, keys, values, self.scaled, f"{domain} attention")
        return blend(attended, state, hat, state.dtype, f"{domain} fusion gate")

    def fuse(self, t_ami: Tensor, s_aai: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The fusion module: ``(T', S')`` from the augmented states and the residual ``s``."""
        t_u, t_t, t_s = self.conv_t(t_ami).chunk(3, dim=1)
        s_u, s_t, s_s = self.conv_s(s_aai).chunk(3, dim=1)
        t_new = blend(s_t, t_t, t_u, s.dtype, "temporal update gate")
        s_new = blend(t_s, s_s, s_u, s.dtype, "spatial update gate")
        return t_new, torch.add(s_new, s, alpha=self.gamma) if self.gamma else s_new

    def remember(self, state: MAUState, t_new: Tensor, s: Tensor) -> MAUState:
        """Push the new ``T`` and the ``S`` it was made from, drop the oldest."""
        return MAUState((*state.past_t[1:], t_new), (*state.past_s[1:], s))


class MAUCell(MotionAware[Tensor]):
    r"""Motion-aware unit: the temporal state is augmented by the trend of its past.

    .. math::
        \hat{S} &= W_s * S \qquad \hat{T} = W_t * T \\
        T_{att} &= \sum_{i=1}^{\tau} softmax_i(\langle S_{t-i}, \hat{S} \rangle / \sqrt{d})
            T_{t-i} \\
        T_{AMI} &= \sigma(\hat{T}) \odot T + (1 - \sigma(\hat{T})) \odot T_{att} \\
        T' &= U_T \odot (W_{tt} * T_{AMI}) + (1 - U_T) \odot (W_{st} * S) \\
        S' &= U_S \odot (W_{ss} * S) + (1 - U_S) \odot (W_{ts} * T_{AMI}) + \gamma S

    with :math:`U_T = \sigma(W_{tu} * T_{AMI})`, :math:`U_S = \sigma(W_{su} * S)`; each
    :math:`W * \cdot` is followed by the norm. Stays: the past ``tau`` of ``T`` and ``S``. Rises:
    ``S``. Wiring: :class:`~vidpred.cells.Stack`.

    Args:
        in_channels: Channels of ``S``; must equal ``hidden_channels``.
        hidden_channels: Channels of ``T``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        tau: How many past steps the attention sees; before the first frame they are zero.
        gamma: Weight of the residual term: 0 (Moving MNIST) or 1 (natural video).
        scaled: Divide the attention scores by :math:`\sqrt{CHW}`.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``(B, hidden_channels, H, W)`` to the same; any H, W.

    Reference:
        Chang et al., NeurIPS 2021. Differs: the scores are scaled, as in the authors' code (the
        paper's unscaled softmax saturates: ``scaled=False``).

    Example:
        >>> import torch
        >>> cell = MAUCell(8, 8, tau=3)
        >>> s = torch.zeros(2, 8, 16, 16)
        >>> s, state = cell(s, cell.init_state(s))
        >>> s.shape, len(state.past_t)
        (torch.Size([2, 8, 16, 16]), 3)
    """

    wiring = Stack

    def forward(self, flow: Tensor, state: MAUState) -> tuple[Tensor, MAUState]:
        t, s = state.past_t[-1], flow.to(state.past_s[-1].dtype)
        t_new, s_new = self.update(t, s, state)
        return s_new, self.remember(state, t_new, s)

    def update(self, t: Tensor, s: Tensor, past: MAUState) -> tuple[Tensor, Tensor]:
        """The equations: ``(T', S')`` from ``T``, ``S`` and the histories."""
        t_hat, s_hat = self.conv_t_next(t), self.conv_s_next(s)
        t_ami = self.augment(t, t_hat, s_hat, past.past_s, past.past_t, "temporal")
        return self.fuse(t_ami, s, s)
