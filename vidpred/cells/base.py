"""The cell protocol, and the block that every convolution of a cell is made of."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vidpred.cells.checks import check_call

Flow = TypeVar("Flow")
State = TypeVar("State")
Returned = TypeVar("Returned")
Norm = Literal["group", "layer"] | None


class Cell(nn.Module, abc.ABC, Generic[Flow, State]):
    """One step of a recurrence: *state is what stays, flow is what rises*.

    At time t a cell receives the flow rising from the layer below and the state it kept from t-1;
    it returns the flow for the layer above and the state for t+1. A stack of cells is itself a
    cell. Flow and state are a tensor, a tuple or a ``NamedTuple`` of tensors, the batch first.

    A cell never keeps state on itself and never changes the state it is given. The state keeps its
    dtype: under autocast the convolutions return bfloat16, the state stays in float32.

    Attributes:
        wiring: How several of these cells are put on top of each other: a cell class that takes
            the list of cells, lets a feature map in at the bottom and out at the top.
        hidden_channels: Channels of the feature map that rises from the cell.
        volume: Channels and depth of the volume ``(B, C, D, H, W)`` that enters a cell with 3D
            convolutions: the last feature maps, oldest first. ``None`` for a cell that takes one.
        remat: Whether the backward pass computes the cell again (rematerialisation): of its
            activations only flow and state are kept. Numbers and gradients do not change.
    """

    wiring: type[Cell[Tensor, Any]]
    hidden_channels: int
    volume: tuple[int, int] | None = None
    remat: bool = False

    def __call__(self, flow: Flow, state: State) -> tuple[Flow, State]:
        check_call(self, flow, state)
        call = super().__call__
        return recomputed(call, flow, state) if self.remat else call(flow, state)

    @abc.abstractmethod
    def init_state(self, like: Tensor) -> State:
        """Return the state before the first frame.

        Args:
            like: A feature map ``(B, C, H, W)``, or a volume, as it enters the cell. Batch, size,
                dtype and device of the state are taken from it, the channels are not.
        """

    @abc.abstractmethod
    def forward(self, flow: Flow, state: State) -> tuple[Flow, State]:
        """Advance by one time step: ``(flow from below, state) -> (flow upwards, new state)``."""


def recomputed(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call a function and keep nothing of it but what it returns: the backward pass runs it again.

    Args:
        function: Of these arguments alone, the same at every call.
        arguments: Kept for the backward pass.
    """
    if not torch.is_grad_enabled():
        return function(*arguments)
    # The re-entrant form would not see tensors inside nested tuples.
    return checkpoint(function, *arguments, use_reentrant=False)  # type: ignore[return-value]


class FreeRunning(Cell[Tensor, State]):
    """A cell for feature maps that can go on without them: it observes, and it forecasts.

    A predictor of such a cell (:class:`~vidpred.models.FreeRunningPredictor`) does not encode its
    own predictions. What is observed stays apart in the state: a forecast goes on from it and does
    not change it, so a frame is observed alike whether or not forecasts were made before.

    Attributes:
        stride: The sides of a feature map must be multiples of it (the predictor pads).
    """

    stride: int = 1

    @abc.abstractmethod
    def observe(self, flow: Tensor, state: State) -> State:
        """Take in a feature map: the new state, in which forecasts start anew from what is seen."""

    @abc.abstractmethod
    def forecast(self, state: State) -> tuple[Tensor, State]:
        """Go on by one step without input: ``(the feature map to decode, new state)``."""

    def forward(self, flow: Tensor, state: State) -> tuple[Tensor, State]:
        return self.forecast(self.observe(flow, state))


class Penalty(NamedTuple):
    """A state that is a term of the training loss: what a cell asks for besides good predictions.

    ``total``, ``(B, 1, 1, 1)``, is 0 before the first frame and grows from step to step. Wherever
    in the state of a core it stands, :func:`total_penalty` finds it.
    """

    total: Tensor


def total_penalty(state: Any) -> Tensor | float:
    """Return the sum of the penalties in a state, mean over the batch; 0 where there are none.

    Args:
        state: Of a cell or wiring, after all steps. Divided by their number, the result is
            commensurate with a loss that is the mean over predicted frames.

    Example:
        >>> import torch
        >>> state = (torch.rand(2, 8, 4, 4), Penalty(torch.ones(2, 1, 1, 1)))
        >>> total_penalty(state)
        tensor(1.)
    """
    if isinstance(state, Penalty):
        return state.total.mean()
    return sum(map(total_penalty, state)) if isinstance(state, tuple) else 0.0


class GroupNorm(nn.GroupNorm):
    """Group normalisation in the layout of its input."""

    def forward(self, x: Tensor) -> Tensor:
        # On CUDA torch returns contiguous maps, and gates and states would follow their layout.
        return laid_out_as(x, super().forward(x))


class LayerNorm(nn.Module):
    """Layer normalisation over (C, H, W) or (C, D, H, W), as the published weights have it.

    ``nn.LayerNorm`` is many times slower on a channels-last tensor: normalising as one group and
    applying the affine of every element afterwards gives the same numbers in any layout.
    """

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, *size))
        self.bias = nn.Parameter(torch.zeros(channels, *size))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != self.weight.shape[1:]:
            raise ValueError(
                f"layer norm was built for feature maps of size {tuple(self.weight.shape[1:])}, "
                f"got {tuple(x.shape[2:])}; use norm='group' for any size"
            )
        normed = laid_out_as(x, F.group_norm(x, 1))  # as in GroupNorm
        return normed * self.weight + self.bias  # addcmul would lose the layout


class NoInput(nn.Module):
    """What a convolution adds for a map without channels: nothing.

    Args:
        out_channels: Channels of the zeros it returns.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return zeros(x, self.out_channels)


class ConvNorm(nn.Sequential):
    """A "same"-padded convolution followed by the normalisation of its whole output.

    A cell fuses the convolutions of one input, all its gates, into one of these: the norm then
    runs over the channels of all gates together.

    Args:
        in_channels: Channels of the input; 0 for a cell that goes without this input: its maps
            ``(B, 0, H, W)`` add nothing to the gates, through no weights and no norm.
        out_channels: Channels of the output, all gates together.
        kernel_size: Odd width of the square kernel; or its depth, height and width, for a 3D
            convolution. An even depth sees one map more behind than before, of the later ones.
        norm: ``"group"``: per sample over (C, H, W), affine per channel, any resolution;
            ``"layer"``: the same statistics, affine per (C, H, W), needs ``size``; ``None``.
        size: (H, W) of the feature map, or (D, H, W) of the volume, for ``norm="layer"``.
        stride: Step of the kernel in height and width; (H, W) of the output are smaller by it.

    Raises:
        ValueError: Even kernel, unknown norm, or ``norm="layer"`` without ``size``.

    Example:
        >>> import torch
        >>> ConvNorm(3, 8, 5)(torch.zeros(2, 3, 16, 12)).shape
        torch.Size([2, 8, 16, 12])
        >>> ConvNorm(3, 8, (2, 5, 5))(torch.zeros(2, 3, 4, 16, 12)).shape
        torch.Size([2, 8, 4, 16, 12])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        norm: Norm = "group",
        size: tuple[int, ...] | None = None,
        stride: int = 1,
    ) -> None:
        depth, *widths = (1, kernel_size) if isinstance(kernel_size, int) else kernel_size
        if depth < 1 or any(width < 1 or width % 2 == 0 for width in widths):
            raise ValueError(
                f"kernel_size must be odd and positive to keep the size, got {kernel_size}"
            )
        if in_channels < 0 or out_channels < 1:
            raise ValueError(
                f"a convolution needs at least one channel, got {in_channels} in and "
                f"{out_channels} out; check in_channels and hidden_channels"
            )
        if in_channels == 0:
            super().__init__(NoInput(out_channels))
            self.around = 0, 0
            return
        layers: list[nn.Module] = []
        if isinstance(kernel_size, int):
            padding = kernel_size // 2
            layers.append(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding))
        else:
            padding = 0, kernel_size[1] // 2, kernel_size[2] // 2
            strides = 1, stride, stride
            layers.append(nn.Conv3d(in_channels, out_channels, kernel_size, strides, padding))
        if norm == "group":
            layers.append(GroupNorm(1, out_channels))
        elif norm == "layer":
            if size is None:
                raise ValueError("norm='layer' needs size=(H, W) of the feature map; got none")
            layers.append(LayerNorm(out_channels, size))
        elif norm is not None:
            raise ValueError(f"norm must be 'group', 'layer' or None, got {norm!r}")
        super().__init__(*layers)
        self.around = (depth - 1) // 2, depth // 2

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return super().forward(x)
        # Not padded by the convolution: on CPUs with bfloat16, oneDNN 3.13 (torch 2.15) returns NaN
        # and garbage for the gradient of the weights where it has to pad an even depth. Where
        # torch does not use oneDNN, as in float64, a 3D convolution loses the layout. A slice of a
        # wider volume is in neither, and gets one where it is padded.
        padded = F.pad(x, (0, 0, 0, 0, *self.around))
        return laid_out_as(x if is_channels_last(x) else padded, super().forward(padded))


def same_channels(cell: str, in_channels: int, hidden_channels: int) -> None:
    """Refuse different widths for a unit whose equations add its input to its state."""
    if in_channels != hidden_channels:
        raise ValueError(
            f"{cell} mixes its input with its state: in_channels must equal hidden_channels, got "
            f"{in_channels} and {hidden_channels}; put a 1x1 convolution or an encoder in front"
        )


_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_channels_last(x: Tensor) -> bool:
    """Whether a feature map or a volume is laid out channels-last."""
    return x.dim() in _CHANNELS_LAST and x.is_contiguous(memory_format=_CHANNELS_LAST[x.dim()])


def laid_out_as(like: Tensor, x: Tensor) -> Tensor:
    """``x``, channels-last or contiguous as ``like`` is; either may be a map or a volume."""
    layout = _CHANNELS_LAST[x.dim()] if is_channels_last(like) else torch.contiguous_format
    return x.contiguous(memory_format=layout)


def to_channels_last(module: nn.Module) -> None:
    """Lay out all kernels channels-last; ``Module.to`` can do so for those of one rank only."""
    for parameter in module.parameters():
        if parameter.dim() in _CHANNELS_LAST:
            parameter.data = parameter.data.to(memory_format=_CHANNELS_LAST[parameter.dim()])


def zeros(like: Tensor, channels: int, stride: int = 1) -> Tensor:
    """A zero state with batch, dtype, device and layout of ``like``, and other channels.

    Its sides are those of ``like``, or of what a convolution of this stride makes of it.
    """
    size = (-(-side // stride) for side in like.shape[2:])
    return laid_out_as(like, like.new_zeros(like.shape[0], channels, *size))
