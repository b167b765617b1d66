"""The time loops: which state of which layer and time enters a unit.

Every function takes the layers' weights from bottom to top, the frames, and the states before the
first frame; it returns the top output of every frame, and the states after the last.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.causal_lstm import ghu
from naive.convlstm import convlstm
from naive.crevnet import reversible_pm
from naive.decoupled import decoupling
from naive.e3d_lstm import e3d_lstm
from naive.mau import mau
from naive.mim import mim_block, mim_memory
from naive.motion_gru import motion_gru
from naive.motion_lstm import motion_highway, move
from naive.parts import Weights
from naive.phycell import moment_penalty, phycell
from naive.rpm import rpm
from naive.sa_convlstm import sa_convlstm
from naive.stam import stam
from naive.stau import stau
from naive.stgru import stgru
from naive.stlstm import stlstm_gates

Grid = dict[tuple[int, int], Tensor]  # a state by (t, k): time from 1, layer from 1 (0: the input)


def run_convlstm(
    layers: list[Weights], frames: list[Tensor], H: list[Tensor], C: list[Tensor], **options: Any
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    H, C, outputs = list(H), list(C), []
    for X in frames:
        for k, W in enumerate(layers):
            H[k], C[k] = convlstm(W, X, H[k], C[k], **options)
            X = H[k]
        outputs.append(X)
    return outputs, H, C


def run_sa_convlstm(
    layers: list[Weights], frames: list[Tensor], states: list[list[Tensor]], **options: Any
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """``states``: ``[H, C, M]`` of every layer."""
    states, outputs = [list(state) for state in states], []
    for X in frames:
        for W, state in zip(layers, states, strict=True):
            state[:] = sa_convlstm(W, X, *state, **options)
            X = state[0]
        outputs.append(X)
    return outputs, states


def run_gru(
    unit: Callable[..., Tensor],
    layers: list[Weights],
    frames: list[Tensor],
    H: list[Tensor],
    **options: Any,
) -> tuple[list[Tensor], list[Tensor]]:
    H, outputs = list(H), []
    for X in frames:
        for k, W in enumerate(layers):
            H[k] = unit(W, X, H[k], **options)
            X = H[k]
        outputs.append(X)
    return outputs, H


def run_stgru(
    layers: list[Weights], frames: list[Tensor], T: list[Tensor], **options: Any
) -> tuple[list[Tensor], list[Tensor]]:
    T, outputs = list(T), []
    for S in frames:
        for k, W in enumerate(layers):
            S, T[k] = stgru(W, S, T[k], **options)
        outputs.append(S)
    return outputs, T


def run_zigzag(
    unit: Callable[..., tuple[Tensor, Tensor, Tensor]],
    layers: list[Weights],
    frames: list[Tensor],
    H: list[Tensor],
    C: list[Tensor],
    M: Tensor,
    **options: Any,
) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    H, C, outputs = list(H), list(C), []
    for X in frames:
        for k, W in enumerate(layers):
            H[k], C[k], M = unit(W, X, H[k], C[k], M, **options)
            X = H[k]
        outputs.append(X)
    return outputs, H, C, M


def run_decoupled(
    layers: list[Weights],
    adapter: Weights,
    frames: list[Tensor],
    H: list[Tensor],
    C: list[Tensor],
    M: Tensor,
    penalty: Tensor,
    *,
    weight: float = 0.1,
    **options: Any,
) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor]:
    H, C, outputs = list(H), list(C), []
    for X in frames:
        for k, W in enumerate(layers):
            o, new, C[k], M, (dC, dM) = stlstm_gates(W, X, H[k], C[k], M, **options)
            X = H[k] = o * new
            coupling = decoupling(adapter, dC, dM)[:, None, None, None]
            penalty = penalty + weight * coupling / len(layers)
        outputs.append(X)
    return outputs, H, C, M, penalty


def run_ghu(
    layers: list[Weights], frames: list[Tensor], Z: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    Z, outputs = list(Z), []
    for X in frames:
        for k, W in enumerate(layers):
            Z[k] = ghu(W, X, Z[k])
            X = Z[k]
        outputs.append(X)
    return outputs, Z


def run_mim(
    layers: list[Weights],
    frames: list[Tensor],
    states: list[list[Tensor]],
    M: Tensor,
    before: Tensor | None,
    **options: Any,
) -> tuple[list[Tensor], list[list[Tensor]], Tensor]:
    """``states``: ``[H, C, S, N_hidden, N_memory]`` of every layer; ``before``: the last frame."""
    states, outputs = [list(state) for state in states], []
    for frame in frames:
        X, D = frame, None if before is None else frame - before
        for W, state in zip(layers, states, strict=True):
            H, C, S, N, N_memory = state
            if D is None:  # the first frame differs from nothing
                N, N_memory = torch.zeros_like(N), torch.zeros_like(N_memory)
            else:
                D, N_memory = mim_memory(W, "n", D, N, N_memory, **options)
                N = D
            X, C, S, M = mim_block(W, X, N, H, C, S, M, **options)
            state[:] = [X, C, S, N, N_memory]
        before = frame
        outputs.append(X)
    return outputs, states, M


def run_rpm(
    layers: list[Weights],
    frames: list[Tensor],
    H: list[Tensor],
    C: list[list[Tensor]],
    M: list[Tensor],
    written: int,
    **options: Any,
) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]], list[Tensor]]:
    """``C[k]``, ``M``: the last memories, oldest first; ``written``: how many of ``M`` are."""
    H, C, M, outputs = list(H), [list(past) for past in C], list(M), []
    tau, width = len(M), H[0].shape[1]
    for frame in frames:
        X = list(frame.split(width, dim=1))
        T, S, O = X if len(X) == 3 else X * 3
        for k, W in enumerate(layers):
            M_past = M[-tau:] if written >= tau else [torch.zeros_like(M[-1])] * tau
            H[k], C_t, M_t = rpm(W, T, S, O, H[k], M[-1], C[k][-tau:], M_past, **options)
            C[k].append(C_t)
            M.append(M_t)
            written += 1
            T = S = O = H[k]
        outputs.append(H[-1])
    return outputs, H, [past[-tau:] for past in C], M[-tau:]


def run_e3d_lstm(
    layers: list[Weights],
    frames: list[Tensor],
    H: list[Tensor],
    C: list[list[Tensor]],
    M: Tensor,
    *,
    depth: int,
    tau: int,
    **options: Any,
) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]], Tensor]:
    """``frames`` begin with the ``depth - 1`` before the first; ``C``: the past of every layer."""
    H, C, outputs = list(H), [list(past) for past in C], []
    for t in range(depth, len(frames) + 1):
        X = torch.stack(frames[t - depth : t], dim=2)
        for k, W in enumerate(layers):
            H[k], new, M = e3d_lstm(W, X, H[k], C[k][-tau:], M, **options)
            C[k].append(new)
            X = H[k]
        outputs.append(torch.cat(X.split(1, dim=1), dim=2).squeeze(1))
    return outputs, H, [past[-tau:] for past in C], M


def run_stam(
    layers: list[Weights],
    frames: list[Tensor],
    H: list[Tensor],
    C: list[list[Tensor]],
    M: list[Tensor],
    *,
    depth: int,
    tau: int,
    **options: Any,
) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]], list[Tensor]]:
    """``frames`` begin with the ``depth - 1`` before the first; ``C[k]``, ``M``: what exists."""
    H, C, M, outputs = list(H), [list(past) for past in C], list(M), []
    for t in range(depth, len(frames) + 1):
        X = torch.stack(frames[t - depth : t], dim=2)
        for k, W in enumerate(layers):
            T, S, O = (X, X, X) if "conv_x.0.weight" in W else X.chunk(3, dim=1)
            H[k], _, C_t, M_t = stam(W, T, S, O, H[k], C[k][-tau:], M[-tau:], **options)
            C[k].append(C_t)
            M.append(M_t)
            X = H[k]
        outputs.append(torch.cat(X.split(1, dim=1), dim=2).squeeze(1))
    return outputs, H, [past[-tau:] for past in C], M[-tau:]


def run_reversible_pm(
    layers: list[Weights],
    frames: list[Tensor],
    H: list[Tensor],
    C: list[Tensor],
    M: Tensor,
    *,
    depth: int,
) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    """``frames`` begin with the ``depth - 1`` before the first."""
    H, C, outputs = list(H), list(C), []
    for t in range(depth, len(frames) + 1):
        x1, x2 = torch.stack(frames[t - depth : t], dim=2).chunk(2, dim=1)
        for k, W in enumerate(layers):
            x1, x2, M, H[k], C[k] = reversible_pm(W, x1, x2, M, H[k], C[k])
        channels = [*x1.unbind(dim=1), *x2.unbind(dim=1)]
        outputs.append(torch.cat(channels, dim=1))
    return outputs, H, C, M


def run_motion_gru(
    layers: list[Weights], frames: list[Tensor], offset: list[Tensor], trend: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    offset, trend, outputs = list(offset), list(trend), []
    for X in frames:
        for k, W in enumerate(layers):
            X, offset[k], trend[k] = motion_gru(W, X, offset[k], trend[k])
        outputs.append(X)
    return outputs, offset, trend


def run_motion_rnn(
    first: Weights,
    layers: list[Weights],
    frames: list[Tensor],
    states: list[list[Tensor]],
    M: Tensor,
    **options: Any,
) -> tuple[list[Tensor], list[list[Tensor]], Tensor]:
    """``states``: ``[H, C]`` of every layer, and of one with motion ``[H, C, offset, trend]``."""
    states, outputs = [list(state) for state in states], []
    for X in frames:
        highway = F.conv2d(X, first["conv.weight"])
        for W, state in zip(layers, states, strict=True):
            host = {name.removeprefix("host."): w for name, w in W.items()}
            H, C, *motion = state
            H, C, M = motion_highway(host, X, H, C, M, highway, **options)
            highway = H
            if motion:
                H, *motion = move(W, H, *motion)
            state[:] = [H, C, *motion]
            X = H
        outputs.append(X)
    return outputs, states, M


def run_phycell(
    layers: list[Weights], frames: list[Tensor], H: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[float]]:
    H, outputs = list(H), []
    for X in frames:
        for k, W in enumerate(layers):
            X = H[k] = phycell(W, X, H[k])
        outputs.append(X)
    return outputs, H, [moment_penalty(W["derivatives.weight"]) for W in layers]


def run_mau(
    layers: list[Weights], frames: list[Tensor], S: Grid, T: Grid, *, tau: int = 5, **options: Any
) -> tuple[list[Tensor], Grid, Grid]:
    S, T, outputs = dict(S), dict(T), []
    for t, frame in enumerate(frames, start=1):
        S[t, 0] = frame
        for k, W in enumerate(layers, start=1):
            S_past = [S[t - i, k - 1] for i in range(1, tau + 1)]
            T_past = [T[t - i, k] for i in range(1, tau + 1)]
            S[t, k], T[t, k] = mau(W, S[t, k - 1], S_past, T_past, **options)
        outputs.append(S[t, len(layers)])
    return outputs, S, T


def run_stau(
    layers: list[Weights],
    frames: list[Tensor],
    S: Grid,
    T: Grid,
    *,
    tau: int = 5,
    theta: int = 5,
    **options: Any,
) -> tuple[list[Tensor], Grid, Grid]:
    S, T, outputs = dict(S), dict(T), []
    for t, frame in enumerate(frames, start=1):
        S[t, 0] = frame
        for k, W in enumerate(layers, start=1):
            S_past = [S[t - i, k - 1] for i in range(1, tau + 1)]
            T_past = [T[t - i, k] for i in range(1, tau + 1)]
            S_lower = [S[t, k - i] for i in range(1, min(theta, k) + 1)]
            T_lower = [T[t - 1, k - i + 1] for i in range(1, min(theta, k) + 1)]
            S[t, k], T[t, k] = stau(W, S_past, T_past, S_lower, T_lower, **options)
        outputs.append(S[t, len(layers)])
    return outputs, S, T
