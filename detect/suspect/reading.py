"""Reading mode: how much more a suspect likes each token than a clean reference does.

Both models read the same texts with teacher forcing. At each position the whole next-token
distribution is used. Of a (context, token) pair it is kept how much probability the suspect gives
it beyond the reference, added up over all positions with that context, and how likely the reference
finds it: what bets are made of (`detect.scoring.bets`). Schemes without a likelihood of single
tokens weigh pairs by differences of roots of probabilities instead: training moves likely tokens by
more than unlikely ones, and the largest moves are no better evidence.
Reading texts, suspect and reference are independent of the key under H0, hence so is all of it
(DESIGN section 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.scores import Reason, select_pairs
from watermark.contexts import group_rows, windows
from watermark.errors import FingerprintError

if TYPE_CHECKING:
    from torch import Tensor

    from detect.suspect.exchanges import Positions, ReadingText

__all__ = [
    "Moves",
    "PairSums",
    "PairWeights",
    "Reader",
    "largest_moves",
    "read_pairs",
    "read_together",
    "readable_positions",
]

# Moves beyond the largest ones of a position are noise that costs time. The cut looks at the
# models only, never at a word, so that it costs power alone.
KEPT_PER_POSITION: Final = 64
# Pairs that wait to be added up: some 200 MB.
_MOST_PENDING: Final = 1 << 21


class Reader(Protocol):
    """A model that reads texts."""

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        """Yield the distributions over each text's response tokens; see `open_weights`."""


class Moves(NamedTuple):
    """Tokens and what two models think of them, all of one shape.

    Attributes:
        tokens: int64.
        suspect: float64, probabilities.
        reference: float64, probabilities; None without a reference.
    """

    tokens: NDArray[np.int64]
    suspect: NDArray[np.float64]
    reference: NDArray[np.float64] | None

    @property
    def roots(self) -> NDArray[np.float64]:
        """Root of the suspect's probability, less that of the reference's."""
        roots: NDArray[np.float64] = np.sqrt(self.suspect)
        return roots if self.reference is None else roots - np.sqrt(self.reference)

    @property
    def gained(self) -> NDArray[np.float64]:
        """The suspect's probability, less the reference's."""
        return self.suspect if self.reference is None else self.suspect - self.reference

    @property
    def likely(self) -> NDArray[np.float64]:
        """The reference's probability; without one, the suspect's."""
        return self.suspect if self.reference is None else self.reference


@final
@dataclass(frozen=True)
class PairWeights:
    """Distinct pairs, and what a suspect and a reference think of them.

    Attributes:
        contexts: int64, shape (n, h).
        tokens: int64, shape (n,).
        weights: float64, shape (n,), differences of roots added up over positions, none zero.
        gained: float64, shape (n,), differences of probabilities added up over positions.
        likely: float64, shape (n,), mean probability under the reference; without one, under the
            suspect.
        n_positions: positions whose distribution was used.
        n_contexts: distinct contexts among them.
        reasons: positions left out, by reason.
        coverage: share of the texts' tokens that the suspect has as one token of its own; 1 where
            it shares the provider's tokenizer.
        has_reference: False if the suspect was read alone.
    """

    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    weights: NDArray[np.float64]
    gained: NDArray[np.float64]
    likely: NDArray[np.float64]
    n_positions: int
    n_contexts: int
    reasons: dict[str, int]
    coverage: float = 1.0
    has_reference: bool = True

    def without_contexts_of(self, ids: frozenset[int]) -> PairWeights:
        """Leave out the pairs whose context holds one of some ids."""
        if not ids:
            return self
        kept = ~np.isin(self.contexts, sorted(ids)).any(axis=1)
        return replace(
            self,
            contexts=self.contexts[kept],
            tokens=self.tokens[kept],
            weights=self.weights[kept],
            gained=self.gained[kept],
            likely=self.likely[kept],
            n_contexts=len(group_rows(self.contexts[kept])[0]),
        )


def read_pairs(
    suspect: Reader,
    reference: Reader | None,
    texts: Sequence[ReadingText],
    *,
    context_width: int,
    special_ids: frozenset[int],
    on_positions: Callable[[int], object] = lambda n: None,
) -> PairWeights:
    """Let suspect and reference read, and collect the pairs' weights.

    Args:
        suspect: the model under test.
        reference: a clean model with the same vocabulary, or None for the suspect alone.
        texts: unmarked texts.
        context_width: h.
        special_ids: ids that are neither scored nor part of a context.
        on_positions: called with the number of positions read since the last call.

    Returns:
        The pairs.

    Raises:
        FingerprintError: the models have vocabularies of different sizes.
    """
    counts, sums, n_positions = Counter[str](), PairSums(context_width), 0
    for index, mine, clean in read_together(suspect, reference, texts):
        on_positions(len(mine))
        kept, reasons = readable_positions(texts[index], context_width, special_ids)
        counts.update(reasons)
        if not len(kept):
            continue
        n_positions += len(kept)
        move = largest_moves(mine[kept], None if clean is None else clean[kept], special_ids)
        response = np.array(texts[index].token_ids, np.int64)
        sums.add(windows(response, context_width)[kept - context_width], move)
    return sums.result(n_positions, dict(counts))


def read_together(
    suspect: Reader, reference: Reader | None, texts: Sequence[ReadingText]
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield each text's index and next-token probabilities of both models, shape (T, V).

    Raises:
        FingerprintError: the models have vocabularies of different sizes.
    """
    if reference is None:
        yield from ((p.index, p.probabilities, None) for p in suspect.read(texts))
        return
    for mine, clean in zip(suspect.read(texts), reference.read(texts), strict=True):
        if mine.index != clean.index:
            raise ValueError("suspect and reference must read the texts in the same order")
        if mine.probabilities.shape != clean.probabilities.shape:
            raise FingerprintError(
                f"suspect and reference have vocabularies of {mine.probabilities.shape[-1]} and "
                f"{clean.probabilities.shape[-1]} tokens; give a reference with the same one"
            )
        yield mine.index, mine.probabilities, clean.probabilities


def readable_positions(
    text: ReadingText, context_width: int, special_ids: frozenset[int]
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """List response positions whose context may be used, and count the others by reason."""
    response = np.array(text.token_ids, np.int64)
    # Without special ids: the token that follows plays no part, and must not hide what is wrong
    # with its context.
    reasons = select_pairs(
        response,
        context_width,
        prompt_ids=np.array(text.prompt_ids, np.int64),
        # A model continues a context as it went on before in the same text: copying, no evidence.
        drop_repeated_contexts=True,
    ).reasons
    special = np.isin(windows(response, context_width), sorted(special_ids)).any(axis=1)
    reasons[context_width:][special] = Reason.SPECIAL_CONTEXT
    contextual = (
        Reason.NO_CONTEXT,
        Reason.SPECIAL_CONTEXT,
        Reason.CONTEXT_IN_PROMPT,
        Reason.REPEATED_CONTEXT,
    )
    out = np.isin(reasons, contextual)
    counts = {r.label: int((reasons == r).sum()) for r in contextual}
    return np.flatnonzero(~out), {k: n for k, n in counts.items() if n}


def largest_moves(mine: Tensor, clean: Tensor | None, special_ids: frozenset[int]) -> Moves:
    """Keep the tokens of each row whose root probabilities differ most, none of them special.

    Args:
        mine: shape (T, V), the suspect's probabilities.
        clean: the same of the reference, or None.
        special_ids: ids that are never kept with any weight.

    Returns:
        Moves of shape (T, k).
    """
    difference = mine.sqrt() if clean is None else mine.sqrt() - clean.sqrt()
    known = [i for i in special_ids if i < difference.shape[1]]
    difference[:, known] = 0.0
    width = min(KEPT_PER_POSITION, difference.shape[1])
    columns = difference.abs().topk(width, dim=1).indices
    usable = difference.gather(1, columns) != 0
    suspect, reference = (
        None if p is None else (p.gather(1, columns) * usable).double().numpy()
        for p in (mine, clean)
    )
    assert suspect is not None
    return Moves(columns.numpy(), suspect, reference)


class PairSums:
    """Adds up what is read of equal pairs, as it comes.

    Args:
        context_width: h.
    """

    def __init__(self, context_width: int) -> None:
        self._pairs = [np.empty((0, context_width + 1), np.int64)]
        # Of each pair: roots, gained, likely, times.
        self._sums = [np.empty((0, 4))]
        self._pending = 0
        self._has_reference = False

    def add(self, contexts: NDArray[np.int64], moves: Moves) -> None:
        """Add what was read at some positions.

        Args:
            contexts: int64, shape (n, h), one a position.
            moves: of shape (n, k).
        """
        self._has_reference |= moves.reference is not None
        repeated = np.repeat(contexts, moves.tokens.shape[1], axis=0)
        self._pairs.append(np.column_stack([repeated, moves.tokens.ravel()]))
        columns = (moves.roots, moves.gained, moves.likely, np.ones_like(moves.suspect))
        self._sums.append(np.stack([column.ravel() for column in columns], axis=1))
        self._pending += moves.tokens.size
        if self._pending > _MOST_PENDING:
            self._fold()

    def result(
        self, n_positions: int, reasons: dict[str, int], coverage: float = 1.0
    ) -> PairWeights:
        """Return the pairs that any of the models moves.

        Args:
            n_positions: positions whose distribution was used.
            reasons: positions left out, by reason.
            coverage: see `PairWeights`.
        """
        self._fold()
        pairs, (roots, gained, likely, times) = self._pairs[0], self._sums[0].T
        kept = roots != 0
        contexts = pairs[kept, :-1]
        return PairWeights(
            contexts=contexts,
            tokens=pairs[kept, -1],
            weights=roots[kept],
            gained=gained[kept],
            likely=likely[kept] / times[kept],
            n_positions=n_positions,
            n_contexts=len(group_rows(contexts)[0]),
            reasons={name: n for name, n in reasons.items() if n},
            coverage=coverage,
            has_reference=self._has_reference,
        )

    def _fold(self) -> None:
        pairs, sums = np.concatenate(self._pairs), np.concatenate(self._sums)
        first, group = group_rows(pairs)
        totals = [np.bincount(group, column, len(first)) for column in sums.T]
        self._pairs, self._sums = [pairs[first]], [np.stack(totals, axis=1)]
        self._pending = 0
