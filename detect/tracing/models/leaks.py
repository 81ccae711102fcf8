"""What a leak would look like: parts of the signal by traffic, and how far chance takes them.

Marked text that stands in public was written for accounts of every cohort, in proportion to what
each was served. A model that read it learned from documents j, each of cohort b with probability
pi_b, independent of each other and of the part w_j of the trace that the document left. Long
documents and repeated ones leave more. With B_j = 1 where document j is of cohort b, the part that
is b's is sum w_j B_j, and exceeds x > pi_b with probability at most exp(-2 M (x - pi_b)^2),
M = 1 / sum w_j^2 (Hoeffding's bound of weighted sums, JASA 58, 1963, theorem 2).

M is the effective number of documents: their number where all leave the same trace, fewer
otherwise. Chernoff's bound of counts would be sharper, and is false of unequal traces. Few
documents are concentrated by chance; no test of the model can tell them from a campaign, and M is
not known. It is presumed, and said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from watermark.errors import ConfigError
from watermark.storage.files import read_json

__all__ = ["Leak", "Traffic", "chance_log10", "documents_needed", "read_served"]

# What is tabulated for a reader who knows better than we do how much leaked.
_DOCUMENTS: Final = (10, 30, 100, 300, 1000)
_HALF: Final = 0.5


@final
@dataclass(frozen=True)
class Leak:
    """What a leak may look like, as far as one key is concerned.

    Attributes:
        traffic: the key's part of what was served.
        share: part of the signal that a leak gives it at most; beyond is a campaign.
        log10_chance: log10 probability that a leak exceeds it all the same, where that is paid
            for; -inf where `share` is meant as it is.
        documents: the effective number of documents that was presumed; None where none was.
        part: of all traffic that of the keys which are compared; the rest is that of revoked keys.
    """

    traffic: float
    share: float
    log10_chance: float
    documents: int | None = None
    part: float = 1.0

    @property
    def odds(self) -> float:
        """`share` against the rest."""
        return self.share / (1 - self.share) if self.share < 1 else math.inf

    def to_dict(self, alpha: float) -> dict[str, Any]:
        """Return JSON values: among them how probable such a leak is, by its documents."""
        return {
            "traffic_share": self.traffic,
            "share_allowed": self.share,
            "presumed_documents": self.documents,
            "documents_needed": documents_needed(self.traffic, self.share, alpha, self.part),
            "by_documents": [
                {
                    "documents": m,
                    "log10_p": chance_log10(m * self.part**2, self.traffic, self.share),
                }
                for m in _DOCUMENTS
            ],
        }


@final
@dataclass(frozen=True)
class Traffic:
    """What is known of how much was served under each key.

    Attributes:
        served: exchanges by the keys' names; None if nothing is known.
        documents: M, the effective number of independent documents that a leak is presumed to
            hold at least; used only with counters.
    """

    served: Mapping[str, int] | None = None
    documents: int = 100

    def leak(
        self, name: str, n_keys: int, level: float, among: Sequence[str] | None = None
    ) -> Leak:
        """Tell what a leak would give a key.

        Without counters: at most half of the signal, whatever the traffic. With them: as much as M
        documents drawn by traffic give it with probability 1 - level.

        Where some keys are not compared, having been revoked, the part is one of the others' trace:
        with T_j = 1 where document j is of a key that is compared, and pi_T its probability, the
        widths of B_j - x T_j are still 1, and Hoeffding's bound of P(sum w_j B_j > x sum w_j T_j)
        is exp(-2 M pi_T^2 (x - pi_b / pi_T)^2): M pi_T^2 stands for M.

        Args:
            name: the key's name.
            n_keys: keys that were served.
            level: of the chance that is paid for.
            among: names of the keys that are compared, its own among them; None means all.

        Returns:
            The leak.
        """
        if self.served is None:
            n_compared = n_keys if among is None else len(among)
            return Leak(1 / n_compared, _HALF, -math.inf, part=n_compared / n_keys)
        compared = sum(self.served[one] for one in (self.served if among is None else among))
        traffic, part = self.served[name] / compared, compared / sum(self.served.values())
        share = self._share(traffic, level, part)
        return Leak(traffic, share, math.log10(level), self.documents, part)

    def _share(self, traffic: float, level: float, part: float) -> float:
        """Find the least x at which Hoeffding's bound is `level`; 1 if there is none below."""
        documents = self.documents * part**2
        return min(traffic + math.sqrt(math.log(1 / level) / (2 * documents)), 1.0)


def chance_log10(documents: float, traffic: float, share: float) -> float:
    """Bound the probability that a key's part of the documents' trace is `share` or more.

    Args:
        documents: M = 1 / sum w^2, the effective number of independent documents.
        traffic: pi, in (0, 1].
        share: x.

    Returns:
        log10 of Hoeffding's bound, 0 for x <= pi.
    """
    return -2 * documents * max(share - traffic, 0.0) ** 2 / math.log(10)


def documents_needed(traffic: float, share: float, alpha: float, part: float = 1.0) -> int | None:
    """Count the documents from which on chance gives a key `share` with probability `alpha`.

    Args:
        traffic: pi, in (0, 1].
        share: x.
        alpha: the probability.
        part: of all traffic that of the keys that are compared; see `Traffic.leak`.

    Returns:
        The effective number; None if chance always may.
    """
    if share <= traffic:
        return None
    return math.ceil(math.log(1 / alpha) / (2 * (part * (share - traffic)) ** 2))


def read_served(path: str | Path, names: Sequence[str]) -> dict[str, int]:
    """Read how many exchanges were served under each key.

    Args:
        path: a JSON object, name of a key to exchanges.
        names: of the keys under test.

    Returns:
        Exchanges by name, in the order of `names`.

    Raises:
        ConfigError: not such an object, a name that is no key's, a key without a number, or one
            that served nothing.
    """
    payload = read_json(path)
    if not isinstance(payload, dict):
        raise ConfigError(f"{path}: expected a JSON object of exchanges by the keys' names")
    if unknown := sorted(set(payload) - set(names)):
        raise ConfigError(
            f"{path}: no key under test is called {', '.join(unknown)}; they are called "
            f"{', '.join(names)}"
        )
    if missing := [name for name in names if name not in payload]:
        raise ConfigError(
            f"{path}: says nothing of {', '.join(missing)}; a leak is judged by the traffic of "
            "every key under test"
        )
    served = {name: payload[name] for name in names}
    wrong = [n for n, v in served.items() if isinstance(v, bool) or not isinstance(v, int) or v < 1]
    if wrong:
        raise ConfigError(
            f"{path}: expected a whole number of exchanges, at least 1, for {', '.join(wrong)}; a "
            "key that served nothing cannot have leaked: leave it out of the keys"
        )
    return served
