"""One text: is it marked under this key?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from detect.finding import Finding, Plan, assess_scores
from detect.key_floor import like_keys_limit
from detect.results import ALPHA
from detect.scoring.reference_scores import ReferenceScorer, levels_of, reference_tables
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import Reason, Selection, score_pairs, select_text
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, DocumentError
from watermark.keys import Key
from watermark.schemes.laws import ScoreLaw, Tabulated
from watermark.tokens import TextTokenizer, check_fingerprint

__all__ = [
    "DIRECT_EFFECT",
    "TextResult",
    "assess_text",
    "assess_tokens",
    "binding_limits",
    "token_rows",
]

# Engine Gumbel text, pooled: the mean shift of -ln(1 - u) in standard deviations (a published
# corpus of 5.2 million contexts with z = 784).
DIRECT_EFFECT: Final = 0.344

_LIMITS: Final = (
    "A small p-value shows that the text depends on the key. It does not show who wrote it, with "
    "what intent, or in breach of what.",
    "A large p-value shows nothing: short, edited, paraphrased or low-entropy text carries "
    "little of the mark.",
)
_LIMITS_OF_REFERENCE: Final = (
    "The reference must not have learned from text under the key, nor have been chosen for the "
    "result: what it thinks of the tokens decides which of them count, or how they score, and must "
    "not depend on the key.",
)


@final
@dataclass(frozen=True)
class TextResult:
    """The result for one text.

    Attributes:
        finding: the test.
        selection: which tokens were scored, and why others were not.
        scores: float64, shape (n_scored,), in text order.
        pieces: the text of each token; they join to the text.
        limits: what the result does not show.
    """

    finding: Finding
    selection: Selection
    scores: NDArray[np.float64]
    pieces: tuple[str, ...]
    limits: tuple[str, ...]

    def to_dict(self, *, tokens: bool) -> dict[str, Any]:
        """Return the JSON result.

        Args:
            tokens: whether to list every token with its score.
        """
        payload = {
            "kind": "text",
            **self.finding.to_dict(),
            "n_tokens": self.selection.n_tokens,
            "reasons": self.selection.reason_counts(),
            "limits": list(self.limits),
        }
        if tokens:
            law = self.finding.plan.scoring.law
            payload["tokens"] = token_rows(self.pieces, self.selection, self.scores, law)
        return payload


def token_rows(
    pieces: Sequence[str], selection: Selection, scores: NDArray[np.float64], law: ScoreLaw
) -> list[dict[str, Any]]:
    """List every token with its score, as JSON values for a report.

    Args:
        pieces: the text of each token.
        selection: which tokens were scored, and why others were not.
        scores: float64, shape (n_scored,), in text order.
        law: null law of one score.

    Returns:
        One object a token: text, score (None if not scored), reason; with a table's scores also
        nats, -ln of the chance of one as high.
    """
    scored = iter(_scored_rows(scores, law))
    return [
        {
            "text": piece,
            **(next(scored) if reason == Reason.SCORED else {"score": None}),
            "reason": Reason(reason).label,
        }
        for piece, reason in zip(pieces, selection.reasons.tolist(), strict=True)
    ]


def _scored_rows(scores: NDArray[np.float64], law: ScoreLaw) -> list[dict[str, float]]:
    rows = [{"score": score} for score in scores.tolist()]
    if not isinstance(law, Tabulated):
        return rows
    # A table's scores have a scale of their own: the chance of one as high says more.
    nats = -log_tails(law, scores, np.ones(len(rows), np.int64))
    return [{**row, "nats": round(x, 3)} for row, x in zip(rows, nats.tolist(), strict=True)]


def assess_text(
    text: str,
    *,
    tokenizer: TextTokenizer,
    config: WatermarkConfig,
    key: Key,
    prompt: str | None = None,
    alpha: float = ALPHA,
    n_decoys: int = 0,
    seed: int = 0,
    score: str | None = None,
    log_probs: NDArray[np.float64] | None = None,
    entropies: NDArray[np.float64] | None = None,
) -> TextResult:
    """Test one text for a mark.

    H0: the text is independent of the key. Alternative: it was written by a model marked under the
    key. See `detect.finding.assess_scores` for the statistic.

    Args:
        text: the text, without the prompt.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        key: the key.
        prompt: what the text answers, if known: contexts that occur in it are not scored.
        alpha: level of a positive verdict.
        n_decoys: decoy keys; 0 for none, or `detect.decoys.AUTOMATIC`.
        seed: of the decoy keys.
        score: name of the score (`detect.scoring.scorers.SCORES`); None is the default.
        log_probs: float64, shape (T,), of the text's tokens under a reference model
            (`detect.scoring.reference_text`), or None; the score then is their
            likelihood ratio.
        entropies: float64, shape (T,), of the tokens' distributions under a reference model, or
            None; what the config's entropy gate would have left is then not scored.

    Returns:
        The result; an empty text is INCONCLUSIVE.

    Raises:
        FingerprintError: the config is bound to another tokenizer.
    """
    check_fingerprint(tokenizer, config.tokenizer)
    token_ids = tokenizer.encode(text)
    return assess_tokens(
        token_ids,
        tokenizer=tokenizer,
        config=config,
        key=key,
        prompt_ids=tokenizer.encode(prompt) if prompt is not None else None,
        pieces=tuple(tokenizer.pieces(text)),
        alpha=alpha,
        n_decoys=n_decoys,
        seed=seed,
        score=score,
        log_probs=log_probs,
        entropies=entropies,
    )


def assess_tokens(
    token_ids: NDArray[np.int64],
    *,
    tokenizer: TextTokenizer,
    config: WatermarkConfig,
    key: Key,
    prompt_ids: NDArray[np.int64] | None = None,
    pieces: tuple[str, ...] | None = None,
    alpha: float = ALPHA,
    n_decoys: int = 0,
    seed: int = 0,
    score: str | None = None,
    log_probs: NDArray[np.float64] | None = None,
    entropies: NDArray[np.float64] | None = None,
) -> TextResult:
    """Test token ids (logged ones avoid what decoding and encoding again may change).

    Args:
        token_ids: int64, shape (T,), the response.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        key: the key.
        prompt_ids: int64, the prompt, if known.
        pieces: the text of each token; decoded one by one if None.
        alpha: level of a positive verdict.
        n_decoys: decoy keys; 0 for none, or `detect.decoys.AUTOMATIC`.
        seed: of the decoy keys.
        score: name of the score (`detect.scoring.scorers.SCORES`); None is the default.
        log_probs: as in `assess_text`.
        entropies: as in `assess_text`.

    Returns:
        The result.

    Raises:
        ConfigError: the config's borders are not in the vocabulary.
        DocumentError: an id that the tokenizer does not have.
        FingerprintError: the config is bound to another tokenizer.
    """
    check_fingerprint(tokenizer, config.tokenizer)
    config.check_vocabulary(tokenizer.vocab_size)
    if len(token_ids) and int(np.max(token_ids)) >= tokenizer.vocab_size:
        raise DocumentError(
            f"token id {int(np.max(token_ids))} is not in the tokenizer, which has "
            f"{tokenizer.vocab_size} tokens; give the tokenizer that made the ids"
        )
    selection = select_text(
        token_ids,
        config,
        tokenizer.special_ids,
        prompt_ids=prompt_ids,
        low_entropy=None if entropies is None else _gated(config, token_ids, entropies),
    )
    if log_probs is None:
        scorer = choose_scorer(score, config.scheme, "direct")
    else:
        scorer = _reference_scorer(selection, config, log_probs, score)
    plan = Plan(config, key, alpha, DIRECT_EFFECT, n_decoys, seed, scorer)
    scores = score_pairs(selection, config, config.source.under(key), scorer)
    finding = assess_scores(plan, selection.contexts, selection.tokens, scores)
    if pieces is None:
        pieces = tuple(tokenizer.decode([i]) for i in token_ids.tolist())
    has_reference = log_probs is not None or entropies is not None
    limits = (*_LIMITS, *(_LIMITS_OF_REFERENCE if has_reference else ()), *binding_limits(config))
    return TextResult(finding, selection, scores, pieces, limits)


def _gated(
    config: WatermarkConfig, token_ids: NDArray[np.int64], entropies: NDArray[np.float64]
) -> NDArray[np.bool_]:
    if not config.min_entropy:
        raise ConfigError("the config has no entropy gate that entropies could replay")
    if entropies.shape != (len(token_ids),) or np.isnan(entropies).any():
        raise DocumentError(
            f"expected an entropy for each of {len(token_ids)} tokens, none of them NaN, got "
            f"shape {entropies.shape}"
        )
    return entropies < config.min_entropy


def _reference_scorer(
    selection: Selection,
    config: WatermarkConfig,
    log_probs: NDArray[np.float64],
    score: str | None,
) -> Scorer:
    if score is not None:
        raise ConfigError(f"a reference model makes a score of its own; leave out {score!r}")
    if len(log_probs) != selection.n_tokens:
        raise DocumentError(
            f"expected a log-probability for each of {selection.n_tokens} tokens, got "
            f"{len(log_probs)}"
        )
    kept = selection.reasons == Reason.SCORED
    return ReferenceScorer(reference_tables(config.scheme), levels_of(log_probs[kept]))


def binding_limits(config: WatermarkConfig) -> tuple[str, ...]:
    """Say so where keys are few, a config is not bound to a tokenizer, or leaves text unmarked.

    Args:
        config: the deployment.

    Returns:
        At most three sentences.
    """
    limits = [*like_keys_limit(config.source)]
    if config.tokenizer is None:
        limits.append(
            "The config is not bound to a tokenizer: with another one than the provider's the mark "
            "cannot be seen."
        )
    if config.leaves:
        limits.append(
            f"The deployment leaves {config.leaves} unmarked: that a text made mostly of this "
            "carries no mark shows nothing."
        )
    return tuple(limits)
