"""Recurrent cells and the wirings that put them together.

The units' names end in ``Cell``, and ``UNITS`` lists them; the rest are the protocol, the wirings,
flows and states.
"""

from vidpred.cells.base import Cell, ConvNorm, FreeRunning, Penalty, total_penalty
from vidpred.cells.causal_lstm import CausalLSTMCell, CausalLSTMState, GHUCell, GHUState
from vidpred.cells.convgru import ConvGRUCell, ConvGRUState
from vidpred.cells.convlstm import ConvLSTMCell, ConvLSTMState
from vidpred.cells.decoupled import (
    DecoupledFlow,
    DecoupledSTLSTMCell,
    DecoupledZigzag,
    Decoupling,
)
from vidpred.cells.dgru import DGRUCell, DGRUState, Falling, Fold, FoldState
from vidpred.cells.e3d_lstm import E3DLSTMCell, E3DLSTMState
from vidpred.cells.mau import MAUCell, MAUState
from vidpred.cells.mim import Difference, MIMCell, MIMFlow, MIMState, MIMZigzag
from vidpred.cells.motion_gru import MotionGRUCell, MotionGRUState
from vidpred.cells.motion_lstm import (
    FirstHighway,
    MotionFlow,
    MotionHighwayCell,
    MotionLSTMCell,
    MotionLSTMState,
    MotionZigzag,
)
from vidpred.cells.phycell import PhyCell, PhyCellState
from vidpred.cells.recording import Layer, record
from vidpred.cells.reversible import Inverse, Invertible, Reversible, ReversibleFlow
from vidpred.cells.reversible_pm import ReversiblePMCell, ReversiblePMState, ReversiblePMZigzag
from vidpred.cells.rpm import RPMCell, RPMState
from vidpred.cells.sa_convlstm import SAConvLSTMCell, SAConvLSTMState
from vidpred.cells.stam import STAMCell, STAMState, STAMZigzag
from vidpred.cells.stau import STAUCell
from vidpred.cells.stgru import STGRUCell, STGRUState
from vidpred.cells.stlstm import STLSTMCell, STLSTMState
from vidpred.cells.trajgru import TrajGRUCell, TrajGRUState
from vidpred.cells.volume import Volumes, Window, Windowed, WindowedState, WindowedZigzag
from vidpred.cells.wiring import (
    GatedFlow,
    Ladder,
    LadderFlow,
    PastMemories,
    PastZigzag,
    Remat,
    Stack,
    Zigzag,
    ZigzagFlow,
    ZigzagState,
)

__all__ = [
    "CausalLSTMCell",
    "CausalLSTMState",
    "Cell",
    "ConvGRUCell",
    "ConvGRUState",
    "ConvLSTMCell",
    "ConvLSTMState",
    "ConvNorm",
    "DGRUCell",
    "DGRUState",
    "DecoupledFlow",
    "DecoupledSTLSTMCell",
    "DecoupledZigzag",
    "Decoupling",
    "Difference",
    "E3DLSTMCell",
    "E3DLSTMState",
    "Falling",
    "FirstHighway",
    "Fold",
    "FoldState",
    "FreeRunning",
    "GHUCell",
    "GHUState",
    "GatedFlow",
    "Inverse",
    "Invertible",
    "Ladder",
    "LadderFlow",
    "Layer",
    "MAUCell",
    "MAUState",
    "MIMCell",
    "MIMFlow",
    "MIMState",
    "MIMZigzag",
    "MotionFlow",
    "MotionGRUCell",
    "MotionGRUState",
    "MotionHighwayCell",
    "MotionLSTMCell",
    "MotionLSTMState",
    "MotionZigzag",
    "PastMemories",
    "PastZigzag",
    "Penalty",
    "PhyCell",
    "PhyCellState",
    "RPMCell",
    "RPMState",
    "Remat",
    "Reversible",
    "ReversibleFlow",
    "ReversiblePMCell",
    "ReversiblePMState",
    "ReversiblePMZigzag",
    "SAConvLSTMCell",
    "SAConvLSTMState",
    "STAMCell",
    "STAMState",
    "STAMZigzag",
    "STAUCell",
    "STGRUCell",
    "STGRUState",
    "STLSTMCell",
    "STLSTMState",
    "Stack",
    "TrajGRUCell",
    "TrajGRUState",
    "Volumes",
    "Window",
    "Windowed",
    "WindowedState",
    "WindowedZigzag",
    "Zigzag",
    "ZigzagFlow",
    "ZigzagState",
    "record",
    "total_penalty",
]

UNITS: list[type[Cell]] = [
    unit for name in __all__ if name.endswith("Cell") and (unit := globals()[name]) is not Cell
]
