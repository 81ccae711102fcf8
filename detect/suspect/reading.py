"""Reading mode: how much more a suspect likes each token than a clean reference does.

Both models read the same texts with teacher forcing. At each position the whole next-token
distribution is used: the weight of a (context, token) pair is the root of the suspect's
probability less that of the reference's, added up over all positions with that context. Roots,
since training moves likely tokens by more than unlikely ones, and the largest moves are no better
evidence.
Reading texts, suspect and reference are independent of the key under H0, hence so are the weights
(DESIGN section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.scores import Reason, select_pairs
from watermark.contexts import group_rows, windows
from watermark.errors import FingerprintError

if TYPE_CHECKING:
    from torch import Tensor

    from detect.suspect.exchanges import Positions, ReadingText

__all__ = [
    "PairWeights",
    "Reader",
    "differences",
    "largest_weights",
    "read_pairs",
    "readable_positions",
    "sum_pairs",
]

# Weights beyond the largest ones of a position are noise that costs time. The cut looks at the
# models only, never at a word, so that it costs power alone.
KEPT_PER_POSITION: Final = 64


class Reader(Protocol):
    """A model that reads texts."""

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        """Yield the distributions over each text's response tokens; see `open_weights`."""


@final
@dataclass(frozen=True)
class PairWeights:
    """Distinct pairs and their weights.

    Attributes:
        contexts: int64, shape (n, h).
        tokens: int64, shape (n,).
        weights: float64, shape (n,), none zero.
        n_positions: positions whose distribution was used.
        n_contexts: distinct contexts among them.
        reasons: positions left out, by reason.
    """

    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    weights: NDArray[np.float64]
    n_positions: int
    n_contexts: int
    reasons: dict[str, int]

    @property
    def n_effective(self) -> float:
        """(sum w^2)^2 / sum w^4: as many equal weights would spread the variance as evenly."""
        squares = np.square(self.weights)
        fourth = float(squares @ squares)
        return float(squares.sum()) ** 2 / fourth if fourth else 0.0


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
    counts: dict[str, int] = {}
    rows, weights, n_positions = [], [], 0
    for index, difference in differences(suspect, reference, texts):
        on_positions(len(difference))
        kept, reasons = readable_positions(texts[index], context_width, special_ids)
        for label, n in reasons.items():
            counts[label] = counts.get(label, 0) + n
        if not len(kept):
            continue
        n_positions += len(kept)
        tokens, w = largest_weights(difference[kept], special_ids)
        response = np.array(texts[index].token_ids, np.int64)
        contexts = windows(response, context_width)[kept - context_width]
        repeated = np.repeat(contexts, tokens.shape[1], axis=0)
        rows.append(np.column_stack([repeated, tokens.ravel()]))
        weights.append(w.ravel())
    return sum_pairs(rows, weights, context_width, n_positions, counts)


def differences(
    suspect: Reader, reference: Reader | None, texts: Sequence[ReadingText]
) -> Iterator[tuple[int, Tensor]]:
    """Yield each text's index and root probabilities, suspect less reference, shape (T, V)."""
    if reference is None:
        yield from ((p.index, p.probabilities.sqrt()) for p in suspect.read(texts))
        return
    for mine, clean in zip(suspect.read(texts), reference.read(texts), strict=True):
        if mine.index != clean.index:
            raise ValueError("suspect and reference must read the texts in the same order")
        if mine.probabilities.shape != clean.probabilities.shape:
            raise FingerprintError(
                f"suspect and reference have vocabularies of {mine.probabilities.shape[-1]} and "
                f"{clean.probabilities.shape[-1]} tokens; give a reference with the same one"
            )
        yield mine.index, mine.probabilities.sqrt() - clean.probabilities.sqrt()


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


def largest_weights(
    difference: Tensor, special_ids: frozenset[int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Keep the largest |weights| of each row, none of special tokens; gives (tokens, weights)."""
    difference = difference.clone()
    known = [i for i in special_ids if i < difference.shape[1]]
    difference[:, known] = 0.0
    width = min(KEPT_PER_POSITION, difference.shape[1])
    columns = difference.abs().topk(width, dim=1).indices
    return columns.numpy(), difference.gather(1, columns).double().numpy()


def sum_pairs(
    rows: list[NDArray[np.int64]],
    weights: list[NDArray[np.float64]],
    context_width: int,
    n_positions: int,
    reasons: dict[str, int],
) -> PairWeights:
    """Add weights of equal pairs up; rows hold h context tokens and the token after them."""
    pairs = np.concatenate([np.empty((0, context_width + 1), np.int64), *rows])
    first, group = group_rows(pairs)
    total = np.bincount(group, np.concatenate([np.empty(0), *weights]), len(first))
    kept = first[total != 0], total[total != 0]
    contexts = pairs[kept[0], :-1]
    return PairWeights(
        contexts=contexts,
        tokens=pairs[kept[0], -1],
        weights=kept[1],
        n_positions=n_positions,
        n_contexts=len(group_rows(contexts)[0]),
        reasons=reasons,
    )
