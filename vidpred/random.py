"""Random numbers as a pure function of integers.

A number depends on its keys alone, never on how many were drawn before, nor on the process. So
whatever is random in training (a data item, the order of a pass, a scheduled-sampling decision) can
be had again after an interruption without saving a generator's state.
"""

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# NumPy, not torch, does the arithmetic: its unsigned integers wrap around and shift as wanted here,
# and on arrays as small as these it takes a third of the time.
_U64 = np.uint64
_GAMMA, _MIX_1, _MIX_2 = (
    _U64(0x9E3779B97F4A7C15),
    _U64(0xBF58476D1CE4E5B9),
    _U64(0x94D049BB133111EB),
)
# Not 0: then key -1 would lead back to 0, and (-1, k) would equal (k,).
_START = _U64(1234567)


def _fold(state: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Number `key` of the splitmix64 sequence that starts at `state` (Steele et al., 2014)."""
    z = state + (key + _U64(1)) * _GAMMA
    z = (z ^ (z >> _U64(30))) * _MIX_1
    z = (z ^ (z >> _U64(27))) * _MIX_2
    return z ^ (z >> _U64(31))


def _bits(keys: Sequence[int | Tensor], shape: Sequence[int]) -> np.ndarray:
    """64 random bits for each element of the broadcast keys times `shape`."""
    state = np.asarray(_START)
    with np.errstate(over="ignore"):  # wrapping around is meant
        for key in keys:
            state = _fold(state, _unsigned(key))
        if shape:
            counter = np.arange(math.prod(shape), dtype=_U64).reshape(shape)
            state = _fold(state.reshape(*state.shape, *(1 for _ in shape)), counter)
    return state


def _unsigned(key: int | Tensor) -> np.ndarray:
    if not isinstance(key, Tensor):
        return np.asarray(operator.index(key) % 2**64, dtype=_U64)
    if key.is_floating_point() or key.is_complex():
        raise TypeError(f"random keys are integers, got a tensor of {key.dtype}")
    return key.long().numpy().view(_U64)


def uniform(*keys: int | Tensor, shape: Sequence[int] = ()) -> Tensor:
    """Uniform numbers in [0, 1), a pure function of integer keys.

    Distinct keys give independent numbers, also when they are neighbours. Order matters: (1, 2) and
    (2, 1) differ, and so do (1,) and (1, 0).

    Args:
        *keys: Integers, or integer tensors on the CPU that broadcast with one another.
        shape: Further dimensions at the end. `uniform(k, shape=(n,))` is `uniform(k, arange(n))`.

    Returns:
        float32, broadcast shape of the keys followed by `shape`, on the CPU: multiples of 2^-24,
        so the largest is 1 - 2^-24 and none rounds to 1.

    Raises:
        TypeError: A key is not an integer.

    Example:
        >>> seed, step = 7, 1000
        >>> uniform(seed, step, shape=(3,))
        tensor([0.7962, 0.1213, 0.1883])
        >>> uniform(seed, torch.tensor([999, 1000]), 2)
        tensor([0.4217, 0.1883])
    """
    # float32 has 24 bits of precision: one more could round up to 1.
    levels = (_bits(keys, tuple(shape)) >> _U64(40)).astype(np.float32)
    return torch.from_numpy(np.asarray(levels * np.float32(2**-24)))


def permutation(n: int, *keys: int) -> Tensor:
    """A random order of 0, ..., n - 1, a pure function of integer keys.

    Args:
        n: Number of elements, at least 0.
        *keys: Integers.

    Returns:
        int64 `(n,)`.

    Raises:
        TypeError: A key is not an integer.

    Example:
        >>> seed, epoch = 7, 2
        >>> permutation(5, seed, epoch)
        tensor([3, 1, 0, 4, 2])
    """
    # `_fold` is one-to-one in its last key: the bits are distinct, so the order has no ties.
    return torch.from_numpy(_bits(keys, (n,)).argsort())
