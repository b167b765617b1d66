"""Fréchet video distance: features of an I3D network, their mean and covariance in one pass."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import Metric

from vidpred.metrics.base import future, positive


def frechet_distance(
    mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> Tensor:
    r"""Fréchet distance between two normal distributions, squared as is usual for FID and FVD.

    .. math::
        \lVert \mu_1 - \mu_2 \rVert^2
        + \operatorname{tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2})

    The trace of the last root is the sum of the singular values of
    :math:`\Sigma_1^{1/2} \Sigma_2^{1/2}`, which stays real and exact where covariances are
    singular, as those of fewer sequences than features are.

    Args:
        mean: ``(D,)``.
        covariance: ``(D, D)``, symmetric and positive semidefinite.
        other_mean: ``(D,)``.
        other_covariance: ``(D, D)``.

    Returns:
        A scalar.

    Example:
        >>> zero, one = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
        >>> frechet_distance(zero, one, zero + 3, 4 * one)  # 2 * 3**2 + 2 * (1 + 4 - 2 * 2)
        tensor(20., dtype=torch.float64)
    """
    roots = torch.linalg.svdvals(_root(covariance) @ _root(other_covariance))
    trace = covariance.trace() + other_covariance.trace() - 2 * roots.sum()
    # Rounding may leave a little less than zero of equal distributions.
    return ((mean - other_mean).square().sum() + trace).clamp(min=0)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


class FVD(Metric):
    """Fréchet video distance between all predicted and all true sequences.

    ``update(prediction, target)`` adds a batch of sequences ``(B, T, C, H, W)`` in [0, 1], T the
    predicted frames alone; ``compute()`` returns one number for all sequences so far. Predictions
    are clipped to [0, 1] and grey is repeated to three channels. The sums of the features and of
    their products are kept in float64: memory does not grow with the data, nothing is averaged over
    batches, and processes may see different numbers of sequences, or none. Features are taken
    outside autocast, in float32.

    The network is not part of vidpred. It is a TorchScript file of an I3D that was trained on
    Kinetics-400, commonly ``i3d_torchscript.pt``, called as
    ``i3d(videos, rescale=True, resize=True, return_features=True)`` with ``(B, 3, T, H, W)`` in [0,
    255]; it scales values to [-1, 1] and frames to 224x224, and returns ``(B, D)`` features: for
    that file the 400 logits. It pools time down to pairs, so that it needs at least 9 frames. A
    TorchScript file holds a program, which runs: take it from a source you trust.

    Values compare only at one horizon, one number of sequences and one network. Few sequences raise
    them, all the more below D, where the covariance is singular.

    Args:
        horizon: Number of predicted steps T.
        i3d: The file. A black clip of that length is tried on it at once.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no TorchScript, cannot be called in this way with that many frames or
            does not return finite ``(B, D)``; if ``compute`` comes before the second sequence.

    Reference:
        Unterthiner et al., 2018, arXiv:1812.01717. Differs: no; the sample covariance, as there.

    Example:
        >>> FVD(horizon=10, i3d="i3d.pt")
        Traceback (most recent call last):
        FileNotFoundError: FVD needs an I3D network as a TorchScript file: no file i3d.pt
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, horizon: int, i3d: str | os.PathLike[str]) -> None:
        super().__init__()
        self.horizon = positive(horizon)
        # In a list, which hides it from nn.Module: a frozen network must not be trained, counted
        # or saved with the model that owns this metric.
        self._network = [_load(Path(i3d))]
        self._path = Path(i3d)
        size = self._features(torch.zeros(1, horizon, 3, 64, 64)).shape[1]
        # Of the predicted and of the true sequences.
        zeros = torch.zeros(2, size, size, dtype=torch.float64)
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", zeros[:, 0].clone(), dist_reduce_fx="sum")
        self.add_state("products", zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: Predicted frames ``(B, T, C, H, W)``, grey or colour; clipped to [0, 1].
            target: True frames in [0, 1], same shape.

        Raises:
            ValueError: If shapes, dtypes, T or the range of ``target`` are not as described, or
                features are not finite.
        """
        prediction, target = future("FVD", self.horizon, prediction, target)
        if prediction.shape[2] not in (1, 3):
            raise ValueError(f"FVD needs grey or colour frames, got {prediction.shape[2]} channels")
        clips = prediction.clamp(0, 1), target
        features = torch.stack([self._features(clip.float()).double() for clip in clips])
        self.total = self.total + features.sum(dim=1)
        self.products = self.products + features.mT @ features
        self.count = self.count + len(prediction)

    def compute(self) -> Tensor:
        """Return the distance, a scalar in float64.

        Raises:
            ValueError: If fewer than two sequences were added.
        """
        if self.count < 2:
            raise ValueError(
                f"FVD compares distributions: expected at least 2 sequences, got {int(self.count)}"
            )
        mean = self.total / self.count
        scatter = self.products - self.count * mean[:, :, None] * mean[:, None, :]
        covariance = scatter / (self.count - 1)
        return frechet_distance(mean[0], covariance[0], mean[1], covariance[1])

    def _features(self, clips: Tensor) -> Tensor:
        """Return the ``(B, D)`` features of float32 clips ``(B, T, C, H, W)`` in [0, 1]."""
        network = self._network[0].to(clips.device)
        videos = 255 * clips.expand(-1, -1, 3, -1, -1).transpose(1, 2)
        try:
            with torch.no_grad(), torch.autocast(clips.device.type, enabled=False):
                features = network(videos, rescale=True, resize=True, return_features=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what TorchScript makes of every error
            hint = " (I3D needs at least 9)" if self.horizon < 9 else ""
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                f"{self._path} cannot be called as i3d(videos, rescale=True, resize=True, "
                f"return_features=True) with {self.horizon} frames{hint}: {reason}"
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(clips):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(
                f"{self._path} is not the I3D that FVD needs: expected features "
                f"({len(clips)}, D) of {len(clips)} videos, got {got}"
            )
        if not features.isfinite().all():
            raise ValueError(
                f"{self._path} returns features that are not finite: it is damaged, or the frames "
                "that it is given are not finite"
            )
        return features


def _load(path: Path) -> torch.jit.ScriptModule:
    if not path.is_file():
        raise FileNotFoundError(f"FVD needs an I3D network as a TorchScript file: no file {path}")
    try:
        with warnings.catch_warnings():
            # The format is outdated, but the network is published in no other.
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")
            network = torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise ValueError(
            f"{path} is not a TorchScript file that torch can read: damaged, or weights alone"
        ) from error
    return network.eval()
