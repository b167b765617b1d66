"""How cells with 3D convolutions stand where others do: they see the last feature maps as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidpred.cells.base import Cell, laid_out_as, zeros
from vidpred.cells.wiring import Stack, Zigzag


class Window(Cell[Tensor, tuple[Tensor, ...]]):
    """Shows a feature map together with those before it, as one volume ``(B, C, D, H, W)``.

    Stays: the last ``depth - 1`` maps, zero at the start. Rises: the last ``depth``, oldest first.

    Args:
        channels: Channels of a map.
        depth: How many maps make a volume.

    Example:
        >>> import torch
        >>> window = Window(3, depth=2)
        >>> x = torch.ones(1, 3, 8, 8)
        >>> volume, state = window(x, window.init_state(x))
        >>> volume.shape, volume[0, 0, :, 0, 0]
        (torch.Size([1, 3, 2, 8, 8]), tensor([0., 1.]))
    """

    wiring = Stack

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"a window shows at least one feature map, got depth={depth}")
        self.hidden_channels = channels
        self.depth = depth

    def init_state(self, like: Tensor) -> tuple[Tensor, ...]:
        return tuple(zeros(like, self.hidden_channels) for _ in range(self.depth - 1))

    def forward(self, flow: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = flow.to(state[-1].dtype) if state else flow
        maps = (*state, x)
        return laid_out_as(x, torch.stack(maps, dim=2)), maps[1:]


class WindowedState(NamedTuple):
    """What stays below the core, the last feature maps, and in it."""

    window: tuple[Tensor, ...]
    core: Any


class Windowed(Cell[Tensor, WindowedState]):
    """Lets a core of 3D cells stand where one for feature maps does.

    A :class:`Window` lies below it. What rises from it, ``(B, C, D, H, W)``, becomes one feature
    map of ``C * D`` channels, so that a 2D convolution of it sees the whole depth.

    Args:
        core: A wiring of 3D cells.
        volume: Channels and depth of what enters the core: :attr:`Cell.volume` of its lowest cell.
    """

    wiring = Stack

    def __init__(self, core: Cell[Tensor, Any], volume: tuple[int, int] | None) -> None:
        super().__init__()
        if volume is None:
            raise ValueError("the lowest of these cells takes no volume: it has no 3D convolutions")
        self.window = Window(*volume)
        self.core = core
        self.hidden_channels = core.hidden_channels * self.window.depth

    def init_state(self, like: Tensor) -> WindowedState:
        volume = laid_out_as(like, torch.stack([like] * self.window.depth, dim=2))
        return WindowedState(self.window.init_state(like), self.core.init_state(volume))

    def forward(self, flow: Tensor, state: WindowedState) -> tuple[Tensor, WindowedState]:
        volume, maps = self.window(flow, state.window)
        top, core = self.core(volume, state.core)
        return laid_out_as(flow, top.flatten(1, 2)), WindowedState(maps, core)


class WindowedZigzag(Windowed):
    """A zigzag of 3D cells, for feature maps.

    Args:
        cells: From bottom to top.
    """

    def __init__(self, cells: Sequence[Cell[Any, Any]]) -> None:
        super().__init__(Zigzag(cells), cells[0].volume)


class Volumes(Cell[Tensor, Any]):
    """Lets a core of 3D cells see feature maps each of which holds a volume.

    Channels by depth, it lies in the channels of a map, and so does what rises from the core.

    Args:
        core: A wiring of 3D cells.
        depth: How many maps make a volume.

    Raises:
        ValueError: ``depth`` is below 1.

    Example:
        >>> import torch
        >>> from vidpred.cells import PastZigzag, STAMCell
        >>> core = Volumes(PastZigzag([STAMCell(3, 8)]), depth=2)
        >>> x = torch.zeros(2, 3 * 2, 16, 16)
        >>> core(x, core.init_state(x))[0].shape
        torch.Size([2, 16, 16, 16])
    """

    wiring = Stack

    def __init__(self, core: Cell[Tensor, Any], depth: int) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"a volume has at least one map, got depth={depth}")
        self.core = core
        self.depth = depth
        self.hidden_channels = core.hidden_channels * depth

    def init_state(self, like: Tensor) -> Any:
        return self.core.init_state(self.volume_of(like))

    def forward(self, flow: Tensor, state: Any) -> tuple[Tensor, Any]:
        top, state = self.core(self.volume_of(flow), state)
        return laid_out_as(flow, top.flatten(1, 2)), state

    def volume_of(self, x: Tensor) -> Tensor:
        """``(B, C * depth, H, W)`` as ``(B, C, depth, H, W)``."""
        return laid_out_as(x, x.unflatten(1, (-1, self.depth)))


def cube(kernel_size: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """The depth, height and width of a 3D kernel, of which one number gives all three."""
    if isinstance(kernel_size, int):
        return kernel_size, kernel_size, kernel_size
    return kernel_size
