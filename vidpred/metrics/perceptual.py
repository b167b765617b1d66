"""Learned perceptual image patch similarity, from the ``lpips`` package and a local trunk file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vidpred.files import read_checkpoint, sha256
from vidpred.metrics.base import FrameMetric


class _Trunk(NamedTuple):
    file: str
    smallest: int  # side in pixels below which a pooling layer has no output


_TRUNKS = {
    "alex": _Trunk("alexnet-owt-7be5be79.pth", 31),
    "vgg": _Trunk("vgg16-397923af.pth", 16),
    "squeeze": _Trunk("squeezenet1_1-b8a52dc0.pth", 17),
}


class LPIPS(FrameMetric):
    """Perceptual distance between deep features of two frames; papers print it times 100.

    The calibrated heads ship with the ``lpips`` package. The trunk's ImageNet weights do not: they
    are read from a local file, never downloaded and never replaced by random ones. Grey frames are
    repeated to three channels.

    Args:
        horizon: Number of predicted steps.
        net: Trunk network: ``"alex"``, ``"vgg"`` or ``"squeeze"``.
        weights: File with torchvision's weights of that network, taken as it is. By default the
            file under its standard name in ``$TORCH_HOME/hub/checkpoints``, whose hash must agree
            with its name.

    Raises:
        FileNotFoundError: If the trunk file is missing.
        ValueError: If the file is not what its name says, damaged, or not weights of ``net``.

    Example:
        >>> metric = LPIPS(horizon=10, weights="alexnet.pth")
        Traceback (most recent call last):
        FileNotFoundError: LPIPS needs the weights of its alex trunk: no file alexnet.pth
    """

    higher_is_better = False

    def __init__(
        self,
        horizon: int,
        net: Literal["alex", "vgg", "squeeze"] = "alex",
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(horizon)
        if net not in _TRUNKS:
            raise ValueError(f"net must be one of {', '.join(_TRUNKS)}, got {net!r}")
        self.net = net
        # In a list, which hides it from nn.Module: a frozen network must not be trained, counted
        # or saved with the model that owns this metric, nor put in training mode with it.
        self._network = [_load(net, _find(net) if weights is None else Path(weights))]

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        channels, height, width = prediction.shape[1:]
        smallest = _TRUNKS[self.net].smallest
        if channels not in (1, 3) or min(height, width) < smallest:
            raise ValueError(
                f"LPIPS with {self.net} needs grey or colour frames of at least "
                f"{smallest}x{smallest} pixels, got (C, H, W) = {(channels, height, width)}"
            )
        network = self._network[0].to(prediction.device)
        images = (frames.float().expand(-1, 3, -1, -1) for frames in (prediction, target))
        # `normalize` takes [0, 1] to the [-1, 1] that the network was calibrated on.
        return network(*images, normalize=True).flatten()


def _find(net: str) -> Path:
    """Return the trunk file under its standard name, after checking its hash."""
    name = _TRUNKS[net].file
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if not path.is_file():
        raise FileNotFoundError(
            f"LPIPS needs the weights of its {net} trunk: no file {path}; get it from "
            f"https://download.pytorch.org/models/{name}, or set TORCH_HOME to where it lies"
        )
    digest = sha256(path)
    expected = path.stem.rpartition("-")[2]
    if not digest.startswith(expected):
        raise ValueError(
            f"{path} is damaged: its SHA-256 starts with {digest[:8]}, not {expected}; get it again"
        )
    return path


def _load(net: str, path: Path) -> nn.Module:
    """Build the frozen network with the trunk weights of ``path``."""
    if not path.is_file():
        raise FileNotFoundError(f"LPIPS needs the weights of its {net} trunk: no file {path}")
    file = read_checkpoint(path)

    import lpips

    # Without `pnet_rand` the package would download the trunk. The random one leaves the caller's
    # random state alone, and every one of its tensors is replaced below.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", module="torchvision")
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    # The package cuts the trunk into slices but keeps the layer numbers: slice2.3 is features.3.
    trunk = network.net.state_dict()
    names = {key: f"features.{key.partition('.')[2]}" for key in trunk}
    for key, name in names.items():
        found = file.get(name) if isinstance(file, dict) else None
        if not isinstance(found, Tensor) or found.shape != trunk[key].shape:
            raise ValueError(
                f"{path} does not hold weights of {net}: expected {name} with shape "
                f"{tuple(trunk[key].shape)}"
            )
        if not found.isfinite().all():
            raise ValueError(f"{path} is damaged: {name} is not finite")
    network.net.load_state_dict({key: file[name] for key, name in names.items()})
    return network.eval().requires_grad_(False)
