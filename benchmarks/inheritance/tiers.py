"""How much of the grid a run makes: the small tier and the full one.

The small tier is for two processor cores and 90 minutes; what it took is `costing.cost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from benchmarks.inheritance.grid import COSTLY, ROWS, Row

__all__ = ["FULL", "TIERS", "Tier"]


@final
@dataclass(frozen=True)
class Tier:
    """What a run makes.

    Attributes:
        rows: names of the rows; the untouched base belongs to every tier.
        left_out: tests that it leaves out of every row.
        has_traps: True if it sets the traps as well.
    """

    rows: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    has_traps: bool = True

    def access(self, row: Row) -> list[str]:
        """List the tests that it makes of a row."""
        return [access for access in row.access if access not in self.left_out]


# Students of both sizes, guilty and innocent, a low share and an attack. 90 minutes leave no room
# for durability, two teachers, recipes and the traps, which the package's own tests set as well.
_SMALL: Final = (
    "real, dual h=2",
    "real, neutralised",
    "small, dual h=2",
    "small, share 1 %",
    "small, null 1",
)
FULL: Final = Tier(tuple(ROWS))
TIERS: Final = {"small": Tier(_SMALL, COSTLY, has_traps=False), "full": FULL}
