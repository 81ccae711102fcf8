"""What a probe of endpoints costs at most, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from watermark.errors import ConfigError

__all__ = ["CostEstimate", "Price", "estimate_cost"]

# What chat formats and a server's system prompt add to a message; most add fewer than 50.
_TEMPLATE_TOKENS: Final = 64


@final
@dataclass(frozen=True)
class Price:
    """Money for tokens, in the provider's currency.

    Attributes:
        per_million_in: for a million tokens of prompts.
        per_million_out: for a million tokens of answers.
    """

    per_million_in: float
    per_million_out: float


@final
@dataclass(frozen=True)
class CostEstimate:
    """The most that requests can need, each answered once.

    Attributes:
        n_requests: answers still to be asked for.
        n_tokens_in: tokens of their prompts at most.
        n_tokens_out: tokens of their answers at most.
        price: None if not known.
    """

    n_requests: int
    n_tokens_in: int
    n_tokens_out: int
    price: Price | None = None

    @property
    def cost(self) -> float | None:
        """In the currency of the price; None without one."""
        if self.price is None:
            return None
        spent = self.n_tokens_in * self.price.per_million_in
        return (spent + self.n_tokens_out * self.price.per_million_out) / 1e6

    def __str__(self) -> str:
        tokens = f"at most {self.n_tokens_in:,} tokens in and {self.n_tokens_out:,} out"
        cost = "" if self.cost is None else f", at most {self.cost:,.4g} at the given price"
        return f"{self.n_requests:,} requests, {tokens}{cost}"

    def check(self, max_cost: float | None) -> None:
        """Refuse to spend more than allowed.

        Args:
            max_cost: in the currency of the price; None allows anything.

        Raises:
            ConfigError: it may cost more, or a limit was set without a price.
        """
        if max_cost is None:
            return
        if self.cost is None:
            raise ConfigError("--max-cost needs --price IN OUT, for a million tokens each")
        if self.cost > max_cost:
            raise ConfigError(
                f"refused before the first request: {self}, above --max-cost {max_cost:g}; "
                "give fewer prompts, a smaller --max-new-tokens, or a higher limit"
            )


def estimate_cost(
    prompts: Sequence[str], max_new_tokens: int, price: Price | None = None
) -> CostEstimate:
    """Bound what prompts cost.

    A byte-level tokenizer makes at most one token of each UTF-8 byte; text usually has four bytes a
    token. A system prompt of more than 64 tokens on the server's side is not seen here.

    Args:
        prompts: those to be asked.
        max_new_tokens: longest answer.
        price: None if not known.

    Returns:
        The estimate.
    """
    n_in = sum(len(prompt.encode("utf-8")) + _TEMPLATE_TOKENS for prompt in prompts)
    return CostEstimate(len(prompts), n_in, len(prompts) * max_new_tokens, price)
