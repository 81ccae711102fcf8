"""Exact speculative sampling that marks: who drew a token decides which words drew it.

A draft model of law q proposes a token x, which is accepted with probability min(1, p(x) / q(x));
else the token comes from the residual, (p - q)+ over its sum (Leviathan et al. 2023, algorithm 1;
Chen et al. 2023). p is the target's law. Under a scheme of two word streams, A and B,

    x = argmax(log q + G_A),    the residual and the bonus token = argmax(... + G_B),

G = -log(-log u) of the words of the place's context (SynthID-Text, Dathathri et al. 2024,
supplementary algorithm 6, states the idea for tournaments; vLLM's dual key is of this kind).

**The law of the text is the target's**, over random keys, as without the mark. Take a place whose
context c is new to the response. p and q are functions of the tokens before. These depend on words
of other contexts only, so that the words of c are fresh. By the Gumbel-max trick x has law q, and
the token drawn from the residual has the residual's law *whatever x is and whatever the coin was*:
both depend on stream A, and stream B is independent of it. Hence

    P(y) = q(y) min(1, p(y) / q(y)) + P(rejected) residual(y) = min(p, q)(y) + (p - q)+(y) = p(y).

That is all the independence needed, and it is needed: with one stream for both, that x was
rejected says that its noise was high and the other tokens' low, and the second draw is biased.
Drafts behind a rejected one were drawn from words of contexts that the response may still reach,
but neither their acceptance nor anything else in the output depends on them: those words are as
fresh as before. Where a context is met again, and before the first h tokens are there, both draws
are plain. The acceptance rate is the sum of min(p, q), with and without the mark.

Schemes without a draw of their own (green lists, tournaments) tilt p and q by the same words, and
ordinary speculative sampling follows: exact for the tilted target.

The detector needs to know nothing of this: its null is that the text is independent of the key.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from watermark.config import WatermarkConfig
from watermark.due_rows import due_rows
from watermark.errors import ConfigError, GenerationError
from watermark.keys import Key
from watermark.marking import MarkedStep

__all__ = [
    "DRAFT",
    "PLAIN",
    "TARGET",
    "Drafted",
    "SpeculativeMarker",
    "SpeculativeStep",
    "Verified",
    "residual",
    "verify",
]

DRAFT: Final = 0
TARGET: Final = 1


@final
class SpeculativeStep:
    """One place of a response: how its laws are tilted, and how tokens are drawn from them."""

    __slots__ = ("_marked",)

    def __init__(self, marked: MarkedStep | None) -> None:
        self._marked = marked

    def law(self, scores: Tensor) -> Tensor:
        """Compute the law from which this place's token comes.

        Args:
            scores: float, shape (V,), a model's final logits: temperature and truncation done.

        Returns:
            float64, shape (V,), probabilities; tilted where the scheme tilts and the place is
            marked.

        Raises:
            GenerationError: NaN, +inf, or nothing finite.
        """
        law = _softmax(scores)
        if self._marked is None or self._marked.config.scheme.takes_gumbel_winner:
            return law
        return _softmax(self._marked.mark_vocabulary(scores.float()[None])[0])

    def draw(self, law: Tensor, who: int, generator: torch.Generator | None = None) -> int:
        """Draw a token.

        Args:
            law: float64, shape (V,), probabilities up to a factor, something above 0.
            who: `DRAFT` or `TARGET`: the word stream, where words draw.
            generator: CPU source of the noise, where they do not; None is torch's global one.

        Returns:
            A token id of probability above 0.
        """
        if self._marked is None or not self._marked.config.scheme.takes_gumbel_winner:
            # Exponential noise divides where Gumbel noise is added to logarithms: the same race.
            noise = torch.empty(law.shape, dtype=torch.float64).exponential_(generator=generator)
            noise.clamp_(min=torch.finfo(torch.float64).tiny)
            return int((law / noise.to(law.device)).argmax())
        stream = self._marked._replace(streams=torch.tensor([who]))
        return int(stream.mark_vocabulary(law.log().float()[None]).argmax())

    def __repr__(self) -> str:
        return f"SpeculativeStep({self._marked!r})"


PLAIN: Final = SpeculativeStep(None)


@final
class SpeculativeMarker:
    """Marks both models' draws under one key.

    Args:
        config: the deployment: dual-gumbel, or a scheme that tilts. alpha of dual-gumbel routes
            nothing here; to the detector it says which share of the tokens the target drew.
        key: the key.

    Raises:
        ConfigError: a scheme that draws with one word stream, or with dependent ones, or an
            entropy gate.
    """

    __slots__ = ("_key", "config", "key_id")

    def __init__(self, config: WatermarkConfig, key: Key) -> None:
        if config.scheme.takes_gumbel_winner:
            _check_streams(config)
        if config.min_entropy:
            raise ConfigError(
                "an entropy gate sees other distributions in the draft than in the target, so that "
                "speculative sampling cannot have one: leave min_entropy out"
            )
        self.config = config
        self.key_id = key.key_id
        self._key = torch.from_numpy(config.source.key_of(key).view("int64"))[None]

    def step(self, response_ids: Tensor) -> SpeculativeStep:
        """Prepare the place behind the tokens so far.

        Args:
            response_ids: int64, shape (t,), the response and the drafts before this place,
                without prompt.

        Returns:
            The place; without a context of its own it is `PLAIN`.
        """
        is_due, contexts = due_rows(self.config, response_ids[None])
        if not bool(is_due):
            return PLAIN
        return SpeculativeStep(MarkedStep(self.config, self._key, contexts, torch.tensor([DRAFT])))

    def __repr__(self) -> str:
        return f"SpeculativeMarker({self.config.scheme.name}, key {self.key_id})"


class Drafted(NamedTuple):
    """A token that the draft proposes.

    Attributes:
        token: its id, drawn from `law`.
        law: float64, shape (V,), q.
        step: its place.
    """

    token: int
    law: Tensor
    step: SpeculativeStep


class Verified(NamedTuple):
    """What became of a proposal.

    Attributes:
        token: the token of the text.
        accepted: whether it is the proposed one.
        overlap: the probability of that beforehand, sum of min(p, q).
    """

    token: int
    accepted: bool
    overlap: float


def verify(drafted: Drafted, law: Tensor, generator: torch.Generator | None = None) -> Verified:
    """Accept a proposal or draw another token, so that the token has the target's law.

    Args:
        drafted: the proposal.
        law: float64, shape (V,), p: the target's law at that place, from its `SpeculativeStep`.
        generator: CPU source of the coin and of plain draws; None is torch's global one.

    Returns:
        The token, and how it came about.
    """
    q = drafted.law.to(law.device)
    overlap = float(torch.minimum(law, q).sum())
    coin = float(torch.rand((), generator=generator, dtype=torch.float64))
    if coin * float(q[drafted.token]) < float(law[drafted.token]):
        return Verified(drafted.token, True, overlap)
    other = drafted.step.draw(residual(law, q), TARGET, generator)
    return Verified(other, False, overlap)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """Compute what the target has above the draft.

    Args:
        p: float64, shape (V,), probabilities.
        q: float64, shape (V,), probabilities.

    Returns:
        float64, shape (V,), (p - q)+, not normalised; p where rounding leaves nothing of it.
    """
    left = (p - q).clamp(min=0)
    return left if float(left.sum()) > 0 else p


def _check_streams(config: WatermarkConfig) -> None:
    if config.scheme.n_streams < 2:
        raise ConfigError(
            f"speculative sampling draws twice at a place, and {config.scheme.name} has one word "
            "stream, which would bias the second draw; use dual-gumbel (the preset 'default')"
        )
    if config.source.null != "independent":
        raise ConfigError(
            f"the word streams of {config.source.name} depend on each other, which would bias the "
            "second draw at a place; use our own words, or vLLM's"
        )


def _softmax(scores: Tensor) -> Tensor:
    law = scores.double().softmax(dim=0)
    # NaN, +inf and nothing but -inf all end as NaN.
    if not bool(torch.isfinite(law.sum())):
        raise GenerationError(
            "the final logits hold NaN or +inf, or nothing but -inf; check the model and the "
            "processors"
        )
    return law
