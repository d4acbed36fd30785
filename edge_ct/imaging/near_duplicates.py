"""Near-duplicate slices by a difference hash, and the groups that links of any kind make.

The hash is the sign of the horizontal differences of a 17 x 16 thumbnail (Krawetz's dHash at 256 bits). On the public
SARS-CoV-2 set a nearest neighbour on it already scores 88.6 % on a random split: what a grouped split must take away.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .exact_resize import block_mean, resize_exact

# Pairs up to here look like the same slice; of 1,800 unrelated phantoms three pairs do.
ALIKE = 30


def difference_hash(pixels: np.ndarray) -> np.ndarray:
    """pixels: uint8 [h, w] -> uint8 [32], 256 packed bits."""
    thumbnail = block_mean(resize_exact(pixels, 16 * 8, 17 * 8), 8, 8).astype(np.int16)
    return np.packbits(thumbnail[:, 1:] > thumbnail[:, :-1])


def distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Hamming distances. hashes: uint8 [n, 32], others: uint8 [m, 32] -> int32 [n, m]."""
    left, right = (np.unpackbits(h, axis=1).astype(np.float32) for h in (hashes, others))
    # |a - b| summed over bits is |a| + |b| - 2 a.b: one matrix product instead of n * m comparisons.
    return np.asarray(left.sum(1)[:, None] + right.sum(1)[None] - 2 * left @ right.T, np.int32)


def single_linkage(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` items the first one that it is linked to, directly or by a chain; itself where by none."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in links:
        first, second = sorted((root(i), root(j)))
        parent[second] = first
    return [root(i) for i in range(count)]
