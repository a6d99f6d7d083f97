"""Batch normalisation of a trained network: a factor and a summand per channel."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.types import FloatArray

EPSILON: Final = 1e-5  # of torch's batch norm, as in training

Vector = npt.NDArray[np.float64]


def bias_only(key: str, bias: FloatArray) -> dict[str, FloatArray]:
    """Return the tensors of a batch norm `key` that only adds `bias` (C,): for weights with folded norms."""
    ones = np.ones_like(bias)
    return {
        f"{key}.weight": ones,
        f"{key}.bias": bias,
        f"{key}.running_mean": np.zeros_like(bias),
        f"{key}.running_var": ones - np.float32(EPSILON),
    }


def scale_and_shift(state: Mapping[str, FloatArray], key: str) -> tuple[Vector, Vector]:
    """Return the factors and summands (C,) float64 of the batch norm `key`: it maps x to scale x + shift."""
    gamma, beta, mean, variance = (state[f"{key}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var"))
    scale = gamma / np.sqrt(variance + EPSILON)
    return scale, beta - mean * scale
