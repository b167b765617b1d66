"""Loss functions: of the adversarial training, from what a discriminator makes of frames.

A discriminator gives a logit for every sample and frame; all losses are means over both. The STIP
paper sums over the frames, in every term, so the terms weigh the same against each other. The
authors' code takes the cross-entropy of the probability's mean over the frames, which is at most as
large as the mean of the cross-entropies, and equal where all frames look equally real.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def lp_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""Learned perceptual loss: the mean squared error of a discriminator's features.

    .. math::
        L_{LP} = \mathrm{mean}\, (D_l(v) - D_l(\hat v))^2

    Args:
        real: Features of true frames, any shape.
        fake: Those of the predictions of these frames.

    Reference:
        Chang et al., STIP, arXiv:2206.04381, Eq. 8, at the discriminator's last feature map.

    Example:
        >>> lp_loss(torch.zeros(2, 5, 64, 1, 1), torch.full((2, 5, 64, 1, 1), 0.5))
        tensor(0.2500)
    """
    return F.mse_loss(fake, real)


def gan_loss(fake: Tensor) -> Tensor:
    r"""Adversarial loss of the predictor: small where its frames pass for real.

    .. math::
        L_{GAN}(P) = -\mathrm{mean} \log D(\hat v)

    Args:
        fake: Logits of predicted frames.

    Reference:
        Chang et al., STIP, arXiv:2206.04381, Eq. 10. Differs: a mean, from logits.

    Example:
        >>> gan_loss(torch.zeros(2, 5))  # log 2: the discriminator cannot tell
        tensor(0.6931)
    """
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""Adversarial loss of the discriminator: small where it tells true from predicted frames.

    .. math::
        L_{GAN}(D) = -\mathrm{mean} \left[ \log D(v) + \log (1 - D(\hat v)) \right]

    Args:
        real: Logits of true frames.
        fake: Logits of predicted frames.

    Reference:
        Chang et al., STIP, arXiv:2206.04381, Eq. 10. Differs: a mean, from logits.

    Example:
        >>> discriminator_loss(real=torch.full((2, 5), 3.0), fake=torch.full((2, 5), -3.0))
        tensor(0.0972)
    """
    return gan_loss(real) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
