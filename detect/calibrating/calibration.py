"""False positives on one's own text, under fresh keys and under the key in hand.

H0 holds where the text does not depend on the key. Under fresh keys it holds by construction:
every piece is tested under keys of its own, so that all (piece, key) trials are independent and
their counts exactly binomial, however much text the pieces share. Under the one key in hand, pieces
that share pairs would share evidence: each distinct pair of the corpus is scored in the first piece
that has it, and in no other, which makes the pieces' p-values independent given the text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from detect.calibrating.pieces import CRITERIA, Piece, Stratum, cut_corpus
from detect.calibrating.trials import Trials, run_trials
from detect.decoys import decoy_keys, decoy_statistics
from detect.documents import Document
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import Selection, refuse_dependent_words, score_pairs
from detect.tails.nulls import tail
from watermark.config import WatermarkConfig
from watermark.contexts import first_occurrences
from watermark.errors import ConfigError
from watermark.keys import Key
from watermark.prf import NATIVE
from watermark.schemes.laws import ScoreLaw
from watermark.tokens import TextTokenizer, check_fingerprint
from watermark.word_sources import Pairs, WordSource

__all__ = ["Calibration", "calibrate", "fresh_statistics", "own_statistics"]

# Seeds of pieces; more pieces than this would share keys with another seed, which harms nothing.
_KEYS_APART: Final = 1_000_003
# A control that holds sets each kind of warning off once in a thousand runs.
_ALARM: Final = 1e-3
_LIMITS: Final = (
    "Choosing the key that looks best here is legitimate only before that key is committed, and "
    "on text that is public anyway; afterwards it is a search that nobody pays for.",
    "Rates under fresh keys test the method on this text. They say nothing of a text that is "
    "marked, copied from a prompt, or chosen by its score.",
    "Intervals hold one by one, the band of the picture at all its points together.",
)


@final
@dataclass(frozen=True, slots=True)
class Calibration:
    """The result.

    Attributes:
        config: the deployment.
        score_name: what was added up.
        key_id: of the key in hand.
        n_tokens: tokens of all pieces.
        n_pieces: pieces by stratum.
        dropped: pieces that were dropped, by reason.
        n_keys: fresh keys a piece.
        seed: of the fresh keys.
        fresh: trials under fresh keys, "all" and each stratum.
        own: trials under the key in hand, on pairs new to the corpus.
        own_log10_p: of all distinct pairs pooled, under the key in hand.
        n_pooled: those pairs.
        n_shared: pairs left out since an earlier piece has them.
    """

    config: WatermarkConfig
    score_name: str
    key_id: str
    n_tokens: int
    n_pieces: dict[str, int]
    dropped: dict[str, int]
    n_keys: int
    seed: int
    fresh: dict[str, Trials]
    own: Trials
    own_log10_p: float
    n_pooled: int
    n_shared: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should not be there."""
        said = [
            f"under fresh keys, {name} pieces exceed the level {alpha:g}: do not use this set-up "
            "on such text, and report it"
            for name, trials in self.fresh.items()
            for alpha in trials.exceeded(_ALARM / len(self.fresh))
        ]
        level = _ALARM / 3
        signs = (self.own_log10_p < math.log10(level), self.own.uniformity_p < level)
        if any(signs) or self.own.exceeded(level):
            said.append(
                "this text is not quiet under the key in hand: it is marked under it, or the key "
                "is one of a thousand that look so by chance; do not use it as a clean control"
            )
        return tuple(said)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        return {
            "kind": "calibration",
            "scheme": self.config.scheme.name,
            "score": self.score_name,
            "context_width": self.config.context_width,
            "config_fingerprint": self.config.fingerprint,
            "key_id": self.key_id,
            "n_tokens": self.n_tokens,
            "n_pieces": self.n_pieces,
            "strata": {stratum.value: text for stratum, text in CRITERIA.items()},
            "dropped": self.dropped,
            "n_keys": self.n_keys,
            "seed": self.seed,
            "fresh_keys": {name: trials.to_dict() for name, trials in self.fresh.items()},
            "this_key": {
                **self.own.to_dict(),
                "log10_p_pooled": self.own_log10_p,
                "n_pooled": self.n_pooled,
                "n_shared": self.n_shared,
            },
            "warnings": list(self.warnings),
            "limits": list(_LIMITS),
        }


def calibrate(
    documents: Iterable[Document],
    *,
    tokenizer: TextTokenizer,
    config: WatermarkConfig,
    key: Key,
    n_keys: int,
    length: int,
    seed: int = 0,
    score: str | None = None,
    on_tokens: Callable[[int], object] = lambda n: None,
    on_piece: Callable[[int], object] = lambda n: None,
) -> Calibration:
    """Measure false positives on a corpus that should not depend on the key.

    H0: the corpus is independent of the key. Exact for every scheme; see `trials`.

    Args:
        documents: the corpus.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        key: the key in hand.
        n_keys: fresh keys for each piece, >= 1.
        length: tokens of a piece.
        seed: of the fresh keys.
        score: name of the score (`detect.scoring.scorers.SCORES`); None is the default for text.
        on_tokens: called after each document with its number of tokens.
        on_piece: called with 1 after each piece was tested under its keys.

    Returns:
        The result.

    Raises:
        ConfigError: no fresh key, or a mark whose words are dependent.
        DocumentError: nothing to test.
        FingerprintError: the config is bound to another tokenizer.
    """
    check_fingerprint(tokenizer, config.tokenizer)
    refuse_dependent_words(config.source)
    if n_keys < 1:
        raise ConfigError(f"at least one fresh key is needed, got {n_keys}")
    pieces, dropped = cut_corpus(
        documents,
        tokenizer,
        config=config,
        length=length,
        on_tokens=on_tokens,
    )
    scorer = choose_scorer(score, config.scheme, "direct")
    fresh = fresh_statistics(
        scorer, pieces, n_keys=n_keys, seed=seed, source=config.source, on_piece=on_piece
    )
    sums, counts = own_statistics(config, pieces, key, scorer)
    law, rng = scorer.law, np.random.default_rng(seed)
    filled = counts > 0
    n_scored = sum(p.selection.n_scored for p in pieces)
    pooled = tail(law, float(sums.sum()), int(counts.sum()))
    return Calibration(
        config=config,
        score_name=scorer.score_name,
        key_id=key.key_id,
        n_tokens=sum(p.selection.n_tokens for p in pieces),
        n_pieces=dict(Counter(p.stratum.value for p in pieces)),
        dropped=dropped,
        n_keys=n_keys,
        seed=seed,
        fresh=_fresh_trials(law, pieces, fresh, rng),
        own=run_trials(law, sums[filled], counts[filled], rng),
        own_log10_p=pooled.log10_p,
        n_pooled=int(counts.sum()),
        n_shared=n_scored - int(counts.sum()),
    )


def fresh_statistics(
    scorer: Scorer,
    pieces: Sequence[Piece],
    *,
    n_keys: int,
    seed: int,
    source: WordSource = NATIVE,
    on_piece: Callable[[int], object] = lambda n: None,
) -> NDArray[np.float64]:
    """Score every piece under fresh keys of its own.

    Args:
        scorer: what scores words.
        pieces: the pieces.
        n_keys: keys a piece.
        seed: of the keys.
        source: what makes the words.
        on_piece: called with 1 after each piece.

    Returns:
        float64, shape (pieces, n_keys), sums of scores.
    """
    rows = []
    for i, piece in enumerate(pieces):
        s, keys = piece.selection, decoy_keys(n_keys, seed * _KEYS_APART + i, source)
        centred = decoy_statistics(scorer, keys, s.contexts, s.tokens, source=source)
        rows.append(centred + s.n_scored * scorer.law.mean)
        on_piece(1)
    return np.stack(rows)


def own_statistics(
    config: WatermarkConfig, pieces: Sequence[Piece], key: Key, scorer: Scorer
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score every distinct pair of the corpus once, in the first piece that has it.

    Args:
        config: the deployment.
        pieces: the pieces.
        key: the key in hand.
        scorer: what scores words.

    Returns:
        Sums, float64, and counts, int64, of each piece's new pairs, shape (pieces,).
    """
    contexts = np.concatenate([p.selection.contexts for p in pieces])
    tokens = np.concatenate([p.selection.tokens for p in pieces])
    new = first_occurrences(config.source.evidence(Pairs(contexts, tokens)))
    owner = np.repeat(np.arange(len(pieces)), [p.selection.n_scored for p in pieces])[new]
    nothing = np.empty(0, np.int64)
    pooled = Selection(nothing, nothing.astype(np.int8), contexts[new], tokens[new])
    scores = score_pairs(pooled, config, config.source.under(key), scorer)
    sums = np.bincount(owner, weights=scores, minlength=len(pieces)).astype(np.float64)
    return sums, np.bincount(owner, minlength=len(pieces)).astype(np.int64)


def _fresh_trials(
    law: ScoreLaw,
    pieces: Sequence[Piece],
    statistics: NDArray[np.float64],
    rng: np.random.Generator,
) -> dict[str, Trials]:
    """Count over all pieces and, where there are several kinds, over each."""
    counts = np.array([p.selection.n_scored for p in pieces])
    strata = np.array([p.stratum.value for p in pieces])
    groups = {"all": np.ones(len(pieces), np.bool_)}
    if len(set(strata.tolist())) > 1:
        groups |= {s.value: strata == s.value for s in Stratum if (strata == s.value).any()}
    n_keys = statistics.shape[1]
    return {
        name: run_trials(law, statistics[rows].reshape(-1), np.repeat(counts[rows], n_keys), rng)
        for name, rows in groups.items()
    }
