"""Which metrics, with which arguments and in which units, make a table of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from torchmetrics import Metric

from vidpred.metrics.base import FrameMetric
from vidpred.metrics.errors import MSE, PSNR, MSESum
from vidpred.metrics.structural import SSIM

STANDARD: Mapping[str, Callable[[int], FrameMetric]] = {"MSE": MSESum, "PSNR": PSNR, "SSIM": SSIM}
_PAPER_SSIM = partial(SSIM, data_range=2)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        metric: Makes the metric from the number of predicted frames.
        meaning: What it is, in a line.
        higher_is_better: Or lower is.
        times: The value is printed times this.
    """

    metric: Callable[[int], Metric]
    meaning: str
    higher_is_better: bool = False
    times: float = 1


def protocols(
    lpips: Callable[[int], Metric] | None = None, fvd: Callable[[int], Metric] | None = None
) -> dict[str, dict[str, Column]]:
    """Return the two tables that scores are reported in.

    ``standard`` takes every metric at its definition for frames in [0, 1]. ``paper`` is what the
    papers of :func:`vidpred.published.published` print: SSIM as scikit-image calculated it for
    floats without a range, which it took for 2, and the units of their tables. A metric that is in
    both is one function in both, so that it need not be calculated twice.

    Args:
        lpips: Such as ``LPIPS``, or ``partial(LPIPS, net="vgg")``. ``None``: no such column.
        fvd: Such as ``partial(FVD, i3d="i3d_torchscript.pt")``. ``None``: no such column.

    Returns:
        The columns of each protocol, by name.

    Example:
        >>> {name: list(columns) for name, columns in protocols().items()}
        {'standard': ['MSE', 'PSNR', 'SSIM'], 'paper': ['MSE', 'MSE x1000', 'PSNR', 'SSIM']}
    """
    summed = "squared error, summed over the pixels and colours of a frame"
    averaged = "squared error, averaged over the pixels and colours of a frame"
    ratio = "peak signal-to-noise ratio of each frame in dB, then averaged"
    similarity = "structural similarity, uniform 7x7 windows, data range {}"
    standard = {
        "MSE": Column(STANDARD["MSE"], summed),
        "PSNR": Column(STANDARD["PSNR"], ratio, True),
        "SSIM": Column(STANDARD["SSIM"], similarity.format(1), True),
    }
    paper = {
        "MSE": standard["MSE"],
        "MSE x1000": Column(MSE, averaged, times=1000),
        "PSNR": standard["PSNR"],
        "SSIM": Column(_PAPER_SSIM, similarity.format(2), True),
    }
    if lpips is not None:
        distance = "distance of deep features, by the lpips package"
        standard["LPIPS"] = Column(lpips, distance)
        paper["LPIPS x100"] = Column(lpips, distance, times=100)
    if fvd is not None:
        sequences = "Fréchet video distance of all predicted to all true sequences"
        standard["FVD"] = paper["FVD"] = Column(fvd, sequences)
    return {"standard": standard, "paper": paper}
