"""Learning-rate schedules that torch does not have."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class DelayedStepLR(LRScheduler):
    """Constant at first; from step ``start`` on multiplied by ``factor`` every ``every`` steps.

    The first multiplication is at ``start`` itself, as in the authors' code. A function of the step
    alone, as long as ``step()`` is called once per optimiser step.

    Args:
        optimizer: Whose learning rates to set.
        start: Optimiser step of the first multiplication; 50,000 is where scheduled sampling ends.
        every: Steps between two multiplications.
        factor: By how much.

    Raises:
        ValueError: ``start`` is negative or ``every`` below 1.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler, rates = DelayedStepLR(optimizer, start=2, every=2, factor=0.5), []
        >>> for _ in range(6):
        ...     optimizer.step()
        ...     rates += scheduler.get_last_lr()
        ...     scheduler.step()
        >>> rates
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, start: int = 50_000, every: int = 2_000, factor: float = 0.9
    ) -> None:
        if start < 0 or every < 1:
            raise ValueError(f"expected start >= 0 and every >= 1, got {start} and {every}")
        self.start = start
        self.every = every
        self.factor = factor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        times = max(0, (self.last_epoch - self.start) // self.every + 1)
        return [float(rate) * self.factor**times for rate in self.base_lrs]
