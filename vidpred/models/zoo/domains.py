"""Models with an encoder and a decoder for each domain, with the papers' settings as defaults."""

from __future__ import annotations

from functools import partial

from vidpred.cells import RPMCell
from vidpred.cells.base import Norm
from vidpred.models.domains import DomainEncoder
from vidpred.models.folding import folded_channels
from vidpred.models.predictor import Predictor
from vidpred.models.pretrained import recorded
from vidpred.models.strpm import DomainDecoder, DomainZigzag
from vidpred.models.zoo.common import Size, feature_size, stack_of


@recorded
def strpm(
    in_channels: int = 1,
    hidden_channels: int = 128,
    layers: int = 16,
    downsamplings: int = 2,
    *,
    kernel_size: int = 5,
    patch: int = 8,
    tau: int = 5,
    norm: Norm = "group",
    size: Size = None,
) -> Predictor:
    """STRPM. The defaults are those for UCF Sports, 512 x 512; its frames have 3 channels.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's feature maps.
        layers: How many units.
        downsamplings: How often the encoders halve the sides of the folded frame (3 for 1024 x
            1024, 4 for 2160 x 3840).
        kernel_size: Odd width of the units' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        tau: How many past memories the units merge.
        norm: The units' norm: ``"group"``, ``"layer"`` (published weights; needs ``size``), None.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Chang et al., CVPR 2022, arXiv:2203.16084; settings of the authors' code. Differs: the
        adversarial training is not here; the units' past ``c`` are the past ones. In weights
        trained with the authors' code, where all of them are the last, first sum each kernel of
        ``att_c`` over the past into the part of the last, and zero the rest.

    Example:
        >>> import torch
        >>> model = strpm(hidden_channels=8, layers=2)
        >>> model(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        RPMCell,
        kernel_size=kernel_size,
        tau=tau,
        norm=norm,
        size=feature_size(size, patch * 2**downsamplings),
    )
    folded = folded_channels(in_channels, patch)
    return Predictor(
        DomainEncoder(folded, hidden_channels, downsamplings, "tso", slope=0.0),
        DomainZigzag(stack_of(cell, 3 * hidden_channels, hidden_channels, layers)),
        DomainDecoder(hidden_channels, folded, downsamplings),
        patch,
    )
