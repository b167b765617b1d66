"""Random numbers as a pure function of integers.

A number depends on its keys alone, never on how many were drawn before, on the process or on the
device. So whatever is random in training (a data item, the order of an epoch, a scheduled-sampling
decision) can be had again after an interruption without saving a generator's state.
"""

import math
import operator
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

# 64 bits: an int64 tensor, or a Python integer kept in the same range.
_Bits: TypeAlias = int | Tensor


def _wrap(value: _Bits) -> _Bits:
    """Reduce a Python integer to a signed 64-bit one, as int64 tensors do by themselves."""
    if isinstance(value, Tensor):
        return value
    return (value + 2**63) % 2**64 - 2**63


# Not 0: then key -1 would lead back to 0, and (-1, k) would equal (k,).
_START = 1234567
_GAMMA = _wrap(0x9E3779B97F4A7C15)
_MIX_1 = _wrap(0xBF58476D1CE4E5B9)
_MIX_2 = _wrap(0x94D049BB133111EB)


def _shift(value: _Bits, places: int) -> _Bits:
    # The shift of a signed integer copies the sign; a logical shift fills with zeros.
    return (value >> places) & (2 ** (64 - places) - 1)


def _fold(state: _Bits, key: _Bits) -> _Bits:
    """Number `key` of the splitmix64 sequence that starts at `state` (Steele et al., 2014)."""
    z = _wrap(state + _wrap((key + 1) * _GAMMA))
    z = _wrap((z ^ _shift(z, 30)) * _MIX_1)
    z = _wrap((z ^ _shift(z, 27)) * _MIX_2)
    return z ^ _shift(z, 31)


def _bits(keys: Sequence[int | Tensor], shape: Sequence[int]) -> Tensor:
    """64 random bits, as int64, for each element of the broadcast keys times `shape`."""
    state = _START
    for key in keys:
        state = _fold(state, _integers(key))
    state = torch.as_tensor(state)
    if shape:
        counter = torch.arange(math.prod(shape), device=state.device).reshape(tuple(shape))
        state = torch.as_tensor(_fold(state.reshape(*state.shape, *(1 for _ in shape)), counter))
    return state


def _integers(key: int | Tensor) -> int | Tensor:
    if not isinstance(key, Tensor):
        return operator.index(key)
    if key.is_floating_point() or key.is_complex():
        raise TypeError(f"random keys are integers, got a tensor of {key.dtype}")
    return key.long()


def uniform(*keys: int | Tensor, shape: Sequence[int] = ()) -> Tensor:
    """Uniform numbers in [0, 1), a pure function of integer keys.

    Distinct keys give independent numbers, also when they are neighbours. Order matters: (1, 2) and
    (2, 1) differ, and so do (1,) and (1, 0).

    Args:
        *keys: Integers, or integer tensors that broadcast with one another.
        shape: Further dimensions at the end. `uniform(k, shape=(n,))` is `uniform(k, arange(n))`.

    Returns:
        float32, broadcast shape of the keys followed by `shape`, on the device of the tensor keys:
        multiples of 2^-24, so the largest is 1 - 2^-24 and none rounds to 1.

    Raises:
        TypeError: A key is not an integer.

    Example:
        >>> seed, step = 7, 1000
        >>> uniform(seed, step, shape=(3,))
        tensor([0.7962, 0.1213, 0.1883])
        >>> uniform(seed, torch.tensor([999, 1000]), 2)
        tensor([0.4217, 0.1883])
    """
    # float32 has 24 bits of precision: a further bit could round up to 1.
    return torch.as_tensor(_shift(_bits(keys, shape), 40)).float() * 2.0**-24


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
        tensor([4, 2, 3, 1, 0])
    """
    # `_fold` is one-to-one in its last key: the bits are distinct, so the order has no ties.
    return _bits(keys, (n,)).argsort()
