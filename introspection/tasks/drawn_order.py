"""A drawn order of any number of things that takes no memory."""

import hashlib


def permuted(index: int, size: int, seed: int) -> int:
    """Where a drawn order of `size` things puts the thing of place `index`; takes no memory.

    A Feistel network over the next power of four, walked until it is back inside (Black & Rogaway 2002).
    """
    half = max((size - 1).bit_length() + 1, 2) // 2
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            key = f"{seed} {turn} {right}".encode()
            drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
            left, right = right, left ^ (drawn & mask)
        index = left << half | right
        if index < size:
            return index
