"""Near-duplicate slices by a difference hash, and groups of linked items.

The hash is the sign of the horizontal differences of a 17 x 16 thumbnail (Krawetz's dHash with 256 bits). On the public
SARS-CoV-2 set a nearest neighbour by this hash reaches an accuracy of 88.6 % on a random split; a grouped split must
prevent that.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .exact_resize import block_mean, resize_exact

# Largest distance of near-duplicates; among 1,800 unrelated phantoms three pairs are this close.
ALIKE = 30


def difference_hash(pixels: np.ndarray) -> np.ndarray:
    """Hash a slice: uint8 [h, w] -> uint8 [32], 256 packed bits."""
    thumbnail = block_mean(resize_exact(pixels, 16 * 8, 17 * 8), 8, 8).astype(np.int16)
    return np.packbits(thumbnail[:, 1:] > thumbnail[:, :-1])


def distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return Hamming distances of hashes, uint8 [n, 32], from others, uint8 [m, 32]: int32 [n, m]."""
    left, right = (np.unpackbits(h, axis=1).astype(np.float32) for h in (hashes, others))
    # |a - b| summed over bits is |a| + |b| - 2 a.b: one matrix product instead of n * m comparisons.
    return np.asarray(left.sum(1)[:, None] + right.sum(1)[None] - 2 * left @ right.T, np.int32)


def single_linkage(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Group linked items.

    Args:
        count: Number of items.
        links: Pairs of linked items.

    Returns:
        For each item the first item of its group, which it is linked to directly or through others.
    """
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
