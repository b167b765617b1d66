"""STAU, the spatiotemporal-aware unit (Chang et al., 2022)."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from vidpred.cells.base import Norm
from vidpred.cells.mau import MAUState, MotionAware
from vidpred.cells.wiring import Ladder, LadderFlow

Domain = Literal["temporal", "spatial"]


class STAUCell(MotionAware[LadderFlow]):
    r"""Spatiotemporal-aware unit: each domain attends with weights that the other one supervises.

    .. math::
        \hat{S} &= W_s * S_t^{k-1} \qquad \hat{T} = W_t * T_{t-1}^k \\
        T_{att} &= \sum_{i=1}^{\tau} softmax_i(\langle S_{t-i}^{k-1}, \hat{S} \rangle / \sqrt{d})
            T_{t-i}^k \\
        S_{att} &= \sum_{i=1}^{\theta} softmax_i(\langle T_{t-1}^{k-i+1}, \hat{T} \rangle /
            \sqrt{d}) S_t^{k-i} \\
        T_{AMI} &= \sigma(\hat{T}) \odot T + (1 - \sigma(\hat{T})) \odot T_{att} \\
        S_{AAI} &= \sigma(\hat{S}) \odot S + (1 - \sigma(\hat{S})) \odot S_{att} \\
        T' &= U_T \odot (W_{tt} * T_{AMI}) + (1 - U_T) \odot (W_{st} * S_{AAI}) \\
        S' &= U_S \odot (W_{ss} * S_{AAI}) + (1 - U_S) \odot (W_{ts} * T_{AMI}) + \gamma S

    with :math:`U_T = \sigma(W_{tu} * T_{AMI})`, :math:`U_S = \sigma(W_{su} * S_{AAI})`; each
    :math:`W * \cdot` is followed by the norm. Stays: the past ``tau`` of ``T`` and ``S``. Rises:
    ``S`` and the lower layers' ``(S, T)``. Wiring: :class:`~vidpred.cells.Ladder`.

    Args:
        in_channels: Channels of ``S``; must equal ``hidden_channels``.
        hidden_channels: Channels of ``T``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        tau: How many past steps the temporal attention sees; before the first frame they are zero.
        theta: How many layers, its own included, the spatial attention sees.
        gamma: Weight of the residual term: 0 (Moving MNIST) or 1 (natural video).
        temporal_attention: The domain whose states give the weights of the temporal attention:
            ``"spatial"`` (the unit), ``"temporal"`` (its own: the paper's Fig. 5a) or ``None``
            (without TAM: :math:`T_{AMI} = T`).
        spatial_attention: Likewise for the spatial attention: ``"temporal"`` (the unit),
            ``"spatial"`` (Fig. 5b) or ``None`` (without SAM: the MAU).
        scaled: Divide the attention scores by :math:`\sqrt{CHW}`.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Raises:
        ValueError: An attention that is none of these, or that leaves one of :math:`W_s, W_t`
            without use: ``None`` beside ``None`` or beside the other domain's own.

    Shape:
        ``S`` of ``(B, hidden_channels, H, W)`` to the same; any H, W.

    Reference:
        Chang et al., STAU, arXiv:2204.09456. Differs: the scores are scaled, as in the authors'
        code (the paper's unscaled softmax saturates: ``scaled=False``).

    Example:
        >>> import torch
        >>> ladder = Ladder([STAUCell(8, 8), STAUCell(8, 8)])
        >>> s = torch.zeros(2, 8, 16, 16)
        >>> s, state = ladder(s, ladder.init_state(s))
        >>> s.shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = Ladder

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        *,
        tau: int = 5,
        theta: int = 5,
        gamma: float = 0.0,
        temporal_attention: Domain | None = "spatial",
        spatial_attention: Domain | None = "temporal",
        scaled: bool = True,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            hidden_channels,
            kernel_size,
            tau=tau,
            gamma=gamma,
            scaled=scaled,
            norm=norm,
            size=size,
        )
        if theta < 1:
            raise ValueError(f"theta must be at least 1 layer (the unit's own), got {theta}")
        for domain in (temporal_attention, spatial_attention):
            if domain not in (*get_args(Domain), None):
                raise ValueError(
                    "temporal_attention and spatial_attention must be 'temporal', 'spatial' or "
                    f"None, got {domain!r}"
                )
        if (temporal_attention, spatial_attention) in {
            (None, None),
            (None, "spatial"),
            ("temporal", None),
        }:
            raise ValueError(
                f"temporal_attention={temporal_attention!r} with spatial_attention="
                f"{spatial_attention!r} leaves a convolution of the unit without use; let at least "
                "one attention be supervised by the other domain"
            )
        self.theta = theta
        self.temporal_attention = temporal_attention
        self.spatial_attention = spatial_attention

    def forward(self, flow: LadderFlow, state: MAUState) -> tuple[LadderFlow, MAUState]:
        t, s = state.past_t[-1], flow.s.to(state.past_s[-1].dtype)
        rungs = (*flow.rungs, (s, t))[-self.theta :]
        t_new, s_new = self.update(t, s, state, rungs)
        return LadderFlow(s_new, rungs), self.remember(state, t_new, s)

    def update(
        self, t: Tensor, s: Tensor, past: MAUState, rungs: tuple[tuple[Tensor, Tensor], ...]
    ) -> tuple[Tensor, Tensor]:
        """The equations: ``(T', S')`` from ``T``, ``S``, the histories and the layers up to k."""
        t_hat, s_hat = self.conv_t_next(t), self.conv_s_next(s)
        lower_s, lower_t = zip(*rungs, strict=True)
        t_ami, s_aai = t, s
        if self.temporal_attention == "spatial":
            t_ami = self.augment(t, t_hat, s_hat, past.past_s, past.past_t, "temporal")
        elif self.temporal_attention == "temporal":
            t_ami = self.augment(t, t_hat, t_hat, past.past_t, past.past_t, "temporal")
        if self.spatial_attention == "temporal":
            s_aai = self.augment(s, s_hat, t_hat, lower_t, lower_s, "spatial")
        elif self.spatial_attention == "spatial":
            s_aai = self.augment(s, s_hat, s_hat, lower_s, lower_s, "spatial")
        return self.fuse(t_ami, s_aai, s)
