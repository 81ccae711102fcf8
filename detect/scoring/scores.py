"""Token ids and a key in; a score, or the reason why there is none, for each token out.

Which tokens are scored depends on the text alone, never on the key: that is what makes the null
hold for any text. Repeats of a (context, token) pair have the same word, so that counting one
twice would count one piece of evidence twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.score_tables import Scorer
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig
from watermark.contexts import first_occurrences, group_rows, windows
from watermark.errors import ConfigError, DocumentError
from watermark.markable import stand
from watermark.prf import NATIVE
from watermark.word_sources import KeyedWords, Pairs, WordSource

__all__ = [
    "Reason",
    "Selection",
    "join_pairs",
    "refuse_dependent_words",
    "score_pairs",
    "select_pairs",
    "select_text",
]


class Reason(IntEnum):
    """Why a token was scored or not. The first reason that applies is given."""

    SCORED = 0
    BORDER = 1
    UNMARKED_CHANNEL = 2
    NO_CONTEXT = 3
    SPECIAL_TOKEN = 4
    SPECIAL_CONTEXT = 5
    CONTEXT_IN_PROMPT = 6
    REPEATED_CONTEXT = 7
    LOW_ENTROPY = 8
    REPEATED_PAIR = 9

    @property
    def label(self) -> str:
        """Its name in results."""
        return self.name.lower()


@final
@dataclass(frozen=True)
class Selection:
    """Which tokens of one text are scored.

    Attributes:
        token_ids: int64, shape (T,), all tokens.
        reasons: int8, shape (T,), a `Reason` for each.
        contexts: int64, shape (n, h), contexts of the scored tokens, in text order, as
            `WordSource.canonical` gives them if words are independent.
        tokens: int64, shape (n,), the scored tokens, likewise.
    """

    token_ids: NDArray[np.int64]
    reasons: NDArray[np.int8]
    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]

    @property
    def n_tokens(self) -> int:
        """All tokens."""
        return len(self.token_ids)

    @property
    def n_scored(self) -> int:
        """Tokens in the statistic."""
        return len(self.tokens)

    @classmethod
    def of_pairs(cls, pairs: Pairs) -> Selection:
        """Return pairs of no one text as what is scored."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int8), *pairs)

    def reason_counts(self) -> dict[str, int]:
        """Count the unscored tokens by reason; reasons that never occur are left out."""
        counts = np.bincount(self.reasons, minlength=len(Reason)).tolist()
        return {r.label: counts[r] for r in Reason if r is not Reason.SCORED and counts[r]}


def select_pairs(
    token_ids: NDArray[np.int64],
    context_width: int,
    *,
    prompt_ids: NDArray[np.int64] | None = None,
    special_ids: Iterable[int] = (),
    drop_repeated_contexts: bool,
    source: WordSource = NATIVE,
    reasoning: ReasoningChannel | None = None,
    low_entropy: NDArray[np.bool_] | None = None,
) -> Selection:
    """Decide which tokens of a text may be scored.

    A text with borders of the reasoning channel is read piece by piece: contexts reach back to the
    last border at most, and a repeated context is one of the same piece. A pair that two pieces
    share still counts once.

    Args:
        token_ids: int64, shape (T,), the text in the provider's tokens.
        context_width: h.
        prompt_ids: int64, what the writer could copy from; contexts that occur in it are dropped,
            with h = 0 tokens that occur in it.
        special_ids: ids that carry no text; neither they nor contexts with them are scored.
        drop_repeated_contexts: True for text that may be marked directly (a repeated context is
            not marked again), False for a suspect's text, where only repeated pairs are dropped.
            With h = 0, or a source that marks repeats, only repeated pairs are dropped.
        source: what makes the words; pairs that it cannot tell apart are repeats, unless its null
            takes account of them (`WordSource.layers`).
        reasoning: the deployment's borders; None is a model without.
        low_entropy: bool, shape (T,), tokens that an entropy gate has left, as a public model says
            of the text; None scores them, and they dilute.

    Returns:
        The selection.

    Raises:
        DocumentError: ids below 0 or beyond 32 bits.
    """
    token_ids = _checked(token_ids)
    h = context_width
    contexts, tokens = windows(token_ids, h), token_ids[h:]
    special = np.fromiter(special_ids, np.int64)
    reasons = np.zeros(len(token_ids), np.int8)
    standing = stand(
        token_ids,
        h,
        None if reasoning is None else reasoning.as_read(token_ids),
        marks_repeats=not drop_repeated_contexts or source.marks_repeats,
    )
    _drop(reasons, standing.on_border, Reason.BORDER)
    _drop(reasons, standing.in_unmarked_channel, Reason.UNMARKED_CHANNEL)
    _drop(reasons, standing.without_context, Reason.NO_CONTEXT)
    scored = reasons[h:]
    _drop(scored, np.isin(tokens, special), Reason.SPECIAL_TOKEN)
    unusable = np.append(special, list(source.unkeyed_ids)).astype(np.int64)
    in_context: NDArray[np.bool_] = np.any(np.isin(contexts, unusable), axis=1)
    _drop(scored, in_context, Reason.SPECIAL_CONTEXT)
    if prompt_ids is not None:
        # Without context every copied token keeps its word, so that the token itself is the rule.
        prompt = _checked(prompt_ids)
        seen = _occurs_in(contexts if h else tokens[:, None], prompt)
        _drop(scored, seen | _is_shown(contexts, tokens, prompt, source), Reason.CONTEXT_IN_PROMPT)
    # A context counts as met even where its own token was not scored: it was marked there.
    _drop(reasons, standing.repeats_context, Reason.REPEATED_CONTEXT)
    if low_entropy is not None:
        _drop(scored, low_entropy[h:], Reason.LOW_ENTROPY)
    kept = np.flatnonzero(scored == Reason.SCORED)
    pairs = Pairs(contexts[kept], tokens[kept])
    if source.null != "layers":
        pairs = source.canonical(pairs)
    new = first_occurrences(source.evidence(pairs))
    scored[kept[~new]] = Reason.REPEATED_PAIR
    return Selection(token_ids, reasons, pairs.contexts[new], pairs.tokens[new])


def select_text(
    token_ids: NDArray[np.int64],
    config: WatermarkConfig,
    special_ids: Iterable[int],
    *,
    prompt_ids: NDArray[np.int64] | None = None,
    drop_repeated_contexts: bool = True,
    low_entropy: NDArray[np.bool_] | None = None,
) -> Selection:
    """Decide which tokens of a text may be scored, by its deployment; see `select_pairs`."""
    return select_pairs(
        token_ids,
        config.context_width,
        prompt_ids=prompt_ids,
        special_ids=special_ids,
        drop_repeated_contexts=drop_repeated_contexts,
        source=config.source,
        reasoning=config.reasoning,
        low_entropy=low_entropy,
    )


def join_pairs(selections: Sequence[Selection], context_width: int) -> Pairs:
    """Put the pairs of texts one after another."""
    none = np.empty((0, context_width), np.int64)
    return Pairs(
        np.concatenate([none, *(s.contexts for s in selections)]),
        np.concatenate([np.empty(0, np.int64), *(s.tokens for s in selections)]),
    )


def refuse_dependent_words(source: WordSource) -> None:
    """Refuse marks whose words are dependent, where sums of independent scores are needed.

    Args:
        source: what makes the words.

    Raises:
        ConfigError: such a mark.
    """
    if source.null != "independent":
        raise ConfigError(
            f"words of {source.name} depend on each other, so that this test would be wrong; "
            "heirmark detect, scan and probe --access text take account of it"
        )


def score_pairs(
    selection: Selection,
    config: WatermarkConfig,
    prf: KeyedWords,
    scorer: Scorer | None = None,
) -> NDArray[np.float64]:
    """Score the selected pairs.

    Args:
        selection: what to score.
        config: the deployment.
        prf: the source of words under the key.
        scorer: what scores words; None is the scheme itself.

    Returns:
        float64, shape (n,), scores in text order.
    """
    hashes = prf.context_hashes(np.ascontiguousarray(selection.contexts))
    scorer = scorer or config.scheme
    streams = range(scorer.n_streams)
    words = np.stack([prf.words(hashes, selection.tokens, stream) for stream in streams])
    return scorer.score(words)


def _drop(reasons: NDArray[np.int8], mask: NDArray[np.bool_], reason: Reason) -> None:
    reasons[mask & (reasons == Reason.SCORED)] = reason


def _occurs_in(contexts: NDArray[np.int64], text: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which contexts are runs of tokens of a text (also at its very end)."""
    h = contexts.shape[1]
    if len(text) < h:
        return np.zeros(len(contexts), np.bool_)
    runs = np.lib.stride_tricks.sliding_window_view(text, h)
    _, group = group_rows(np.concatenate([runs, contexts]))
    return np.isin(group[len(runs) :], group[: len(runs)])


def _is_shown(
    contexts: NDArray[np.int64],
    tokens: NDArray[np.int64],
    prompt: NDArray[np.int64],
    source: WordSource,
) -> NDArray[np.bool_]:
    """Tell which pairs share their evidence with a pair of the prompt."""
    h = contexts.shape[1]
    shown = Pairs(windows(prompt, h), prompt[h:])
    rows = [source.evidence(source.canonical(p)) for p in (shown, Pairs(contexts, tokens))]
    _, group = group_rows(np.concatenate(rows))
    return np.isin(group[len(shown.tokens) :], group[: len(shown.tokens)])


def _checked(token_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    ids = np.asarray(token_ids, np.int64)
    if ids.ndim != 1:
        raise DocumentError(f"token ids must be one flat list, got {ids.ndim} dimensions")
    if ids.size and (ids.min() < 0 or ids.max() >= 1 << 32):
        raise DocumentError(f"token ids must lie in [0, 2^32), got {ids.min()} to {ids.max()}")
    return ids
