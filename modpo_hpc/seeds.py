"""Randomness that belongs to the item: any sharding, order or number of workers gives the same draw."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**63) from (study seed, stage, item id, ...), by SHA-256 of their text."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def rng_of(*parts: object) -> np.random.Generator:
    """A NumPy generator (PCG64) seeded by ``seed_of(*parts)``."""
    import numpy as np  # every command imports this module, and few draw

    return np.random.Generator(np.random.PCG64(seed_of(*parts)))
