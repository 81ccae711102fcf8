"""Documents that several accounts wrote in turn, some tokens replaced; who knows what of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.marked_texts import MarkedText
from benchmarks.tracing.searching import N_TOKENS
from detect.scoring.reference_scores import ReferenceScorer, levels_of, reference_tables
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import Reason, select_pairs
from detect.tails.nulls import log_tails, tail
from watermark.config import preset
from watermark.prf import Prf

_LN10 = math.log(10)


class MixedDocument(NamedTuple):
    """A document, and who wrote what.

    `writers`: their texts. `token_ids`, `owner` (whose turn), `place` (in that writer's text) and
    `is_replaced`: shape (T,).
    """

    writers: list[MarkedText]
    token_ids: NDArray[np.int64]
    owner: NDArray[np.int64]
    place: NDArray[np.int64]
    is_replaced: NDArray[np.bool_]


def mix(
    texts: list[MarkedText], n_writers: int, turn: int, edited: float, rng: np.random.Generator
) -> MixedDocument:
    """Let writers take turns, and replace tokens by those of somebody else's text."""
    chosen = [texts[i] for i in rng.choice(len(texts), n_writers + 1, replace=False)]
    *writers, stranger = chosen
    turns = [(k, i) for i in range(0, N_TOKENS, turn) for k in range(n_writers)]
    place = np.concatenate([np.arange(i, min(i + turn, N_TOKENS)) for _, i in turns])
    owner = np.concatenate([np.full(min(turn, N_TOKENS - i), k) for k, i in turns])
    ids = np.stack([text.token_ids for text in writers])[owner, place]
    # As likely as real ones.
    other = rng.permutation(np.resize(stranger.token_ids, len(ids)))
    is_replaced = rng.random(len(ids)) < edited
    return MixedDocument(writers, np.where(is_replaced, other, ids), owner, place, is_replaced)


def known_log10_p(document: MixedDocument, name: str, edited: float) -> list[dict[str, float]]:
    """Compute of each writer what whoever knew more than a search could compute.

    "pairs": who knew which scored pairs the key has marked. "turns": who knew whose turn it was,
    but not which tokens were replaced. Each with the search's own score, and with the likelihood
    ratio given each token's probability under the unmarked model ("and model"). Exact.
    """
    config = preset(name)
    h, scheme = config.context_width, config.scheme
    chosen = select_pairs(document.token_ids, h, drop_repeated_contexts=True)
    at = np.flatnonzero(chosen.reasons == Reason.SCORED)
    typical = choose_scorer(None, scheme, "direct")
    found = []
    for k, writer in enumerate(document.writers):
        prf = Prf.from_key(writer.key)
        hashes = prf.context_hashes(chosen.contexts)
        words = np.stack([prf.words(hashes, chosen.tokens, s) for s in range(scheme.n_streams)])
        in_turn = document.owner[at] == k
        before = at[:, None] - np.arange(h + 1)
        places = document.place[before] + np.arange(h + 1) == document.place[at][:, None]
        whole = (document.owner[before] == k) & ~document.is_replaced[before] & places
        own = select_pairs(writer.token_ids, h, drop_repeated_contexts=True).reasons
        was_marked = own[document.place[at]] != Reason.REPEATED_CONTEXT
        is_marked = in_turn & whole.all(axis=1) & was_marked
        levels = levels_of(writer.log_probs[document.place[at]])
        row = {"marked_pairs": float(is_marked.sum()), "pairs_in_turn": float(in_turn.sum())}
        share = min((1 - edited) ** (h + 1), 0.95)
        for known, mask, presumed in (("pairs", is_marked, 0.95), ("turns", in_turn, share)):
            n, some = int(mask.sum()), words[:, mask]
            sums = np.array([typical.score(some).sum()])
            row[known] = float(log_tails(typical.law, sums, np.array([n]))[0]) / _LN10
            scorer = ReferenceScorer(reference_tables(scheme, presumed), levels[mask])
            row[f"{known} and model"] = tail(
                scorer.law, float(scorer.score(some).sum()), n
            ).log10_p_ceiling
        found.append(row)
    return found
