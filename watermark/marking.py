"""Marking one decoding step: response ids and final logits in, marked logits out.

Stateless: everything is recomputed from the ids, so that batching, padding, beams, speculative
candidates and preemption cannot break it. The only other input is a fresh coin a row, for schemes
that route between word streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from watermark.config import WatermarkConfig
from watermark.due_rows import due_rows
from watermark.errors import ConfigError, GenerationError
from watermark.kernels import torch_prf
from watermark.kernels.torch_entropy import has_entropy
from watermark.keys import Key
from watermark.prf import NativePrf, words_by_row
from watermark.row_kernels import find_winners, finds_winners, mark_rows, marks_rows

__all__ = ["MarkedStep", "Marker"]

# Below this share of finite logits, gathering the candidates beats marking the whole vocabulary.
_SPARSE_SHARE = 1 / 8


@final
class Marker:
    """Marks logits under one key, or under one key for each of several rows.

    Attributes:
        config: the deployment.
        key_ids: public ids of the keys.
    """

    __slots__ = ("_keys", "config", "key_ids")

    def __init__(self, config: WatermarkConfig, keys: Key | Sequence[Key]) -> None:
        keys = [keys] if isinstance(keys, Key) else list(keys)
        if not keys:
            raise ConfigError("a marker needs at least one key, got none")
        self.config = config
        self.key_ids = tuple(key.key_id for key in keys)
        self._keys = np.stack([config.source.key_of(key) for key in keys])

    def __call__(
        self,
        response_ids: Tensor,
        logits: Tensor,
        generator: torch.Generator | None = None,
        *,
        token_ids: Tensor | None = None,
    ) -> Tensor:
        """Mark one step of a batch.

        Args:
            response_ids: int64, shape (B, t), the responses so far, without prompt and padding.
            logits: float, shape (B, V), final logits: temperature and truncation done; or (B, K),
                those of the candidates `token_ids`.
            token_ids: int64, shape (B, K), distinct ids in each row; None is the vocabulary.
            generator: CPU source of the routing coins; None is torch's global one.

        Returns:
            Logits of the same shape and dtype. Rows without a context of their own (the first h
            tokens, a context met before in this response) come back unchanged, as do those that
            the config leaves unmarked (`min_entropy`, `reasoning`).

        Raises:
            ConfigError: the config's borders are not in the vocabulary.
            GenerationError: NaN, +inf, or a row with nothing finite; rows that do not divide
                among the keys.
        """
        _check_logits(logits)
        if token_ids is None:
            self.config.check_vocabulary(logits.shape[1])
        n_rows = len(logits)
        if n_rows % len(self._keys):
            raise GenerationError(
                f"a batch of {n_rows} rows cannot be shared among {len(self._keys)} keys; "
                "give one key, or one key for each prompt"
            )
        coins = torch.rand(n_rows, generator=generator, dtype=torch.float64)
        is_due, contexts = due_rows(self.config, response_ids)
        rows = is_due.nonzero().squeeze(1)
        if self.config.min_entropy and len(rows):
            due = logits if len(rows) == n_rows else logits[rows]
            rows = rows[has_entropy(due, self.config.min_entropy)]
        if not len(rows):
            return logits
        # generate() repeats each prompt in place for several answers; so do the keys.
        keys_of_rows = np.repeat(self._keys, n_rows // len(self._keys), axis=0)
        step = MarkedStep(
            self.config,
            torch.from_numpy(keys_of_rows.view(np.int64))[rows.cpu()],
            contexts[rows],
            self.config.scheme.route(coins[rows.cpu()]),
        )
        if token_ids is None and step.marks_rows(logits):
            return step.mark_rows(_copy(logits), rows)
        chosen = logits[rows].float()
        if token_ids is None:
            marked = step.mark_vocabulary(chosen)
        else:
            marked = self.config.scheme.embed(chosen, step.words(token_ids[rows]))
        return logits.index_copy(0, rows, marked.to(logits.dtype))

    def for_rows(self, rows: Sequence[int]) -> Marker:
        """Return the marker of some rows of a batch that has a key for each row.

        Args:
            rows: indices of the rows that are left, not empty.

        Returns:
            A marker for a batch of just these rows; itself under one key for all.
        """
        if len(self._keys) == 1:
            return self
        chosen = object.__new__(Marker)
        chosen.config, chosen._keys = self.config, self._keys[list(rows)]
        chosen.key_ids = tuple(self.key_ids[i] for i in rows)
        return chosen

    def __repr__(self) -> str:
        return f"Marker({self.config.scheme.name}, keys {', '.join(self.key_ids)})"


@final
class MarkedStep(NamedTuple):
    """One step of rows that are all marked, each under its own key.

    Attributes:
        config: the deployment.
        keys: int64, shape (B, k): the bits of the rows' key integers (`WordSource.key_of`).
        contexts: int64, shape (B, h), oldest first.
        streams: int64, shape (B,), from `Scheme.route`.
    """

    config: WatermarkConfig
    keys: Tensor
    contexts: Tensor
    streams: Tensor

    def words(self, token_ids: Tensor) -> Tensor:
        """Compute words of candidates.

        Args:
            token_ids: int64, shape (B, K).

        Returns:
            int64, shape (B, K), where the ids live.
        """
        if not isinstance(self.config.source, NativePrf):
            return self._foreign_words(token_ids)
        if token_ids.device.type == "cpu":
            words = words_by_row(
                _unsigned(self.keys),
                self.contexts.numpy(),
                token_ids.numpy(),
                _unsigned(self.streams),
            )
            return torch.from_numpy(words.astype(np.int64))
        keys = self.keys.to(token_ids.device)
        contexts = self.contexts.to(token_ids.device)
        hashes = torch_prf.context_hashes(keys[:, 0], keys[:, 1], contexts)
        return torch_prf.words(hashes, token_ids, self.streams.to(token_ids.device))

    def mark_vocabulary(self, logits: Tensor) -> Tensor:
        """Mark logits of the whole vocabulary.

        Args:
            logits: float32, shape (B, V), no NaN, no +inf, something finite in each row.

        Returns:
            float32, shape (B, V).
        """
        if self.finds_winners(logits):
            winners = self.winners(logits)[:, None]
            forced = torch.full_like(logits, -torch.inf)
            return forced.scatter(1, winners, logits.gather(1, winners))
        if self.marks_rows(logits):
            return self.mark_rows(_copy(logits))
        candidates = _candidates(logits)
        if candidates is None:
            return self.mark_densely(logits)
        token_ids, is_filler = candidates
        few = logits.gather(1, token_ids).masked_fill(is_filler, -torch.inf)
        marked = self.config.scheme.embed(few, self.words(token_ids))
        # A filler may name the same column as a candidate; its -inf must not win.
        out = torch.full_like(logits, -torch.inf)
        return out.scatter_reduce(1, token_ids, marked, "amax")

    def mark_densely(self, logits: Tensor) -> Tensor:
        """Do the same without a look at the logits, for which an accelerator would have to wait.

        Args:
            logits: as for `mark_vocabulary`.

        Returns:
            float32, shape (B, V).
        """
        if self.marks_rows(logits):
            return self.mark_rows(_copy(logits))
        vocabulary = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
        return self.config.scheme.embed(logits, self.words(vocabulary))

    def marks_rows(self, logits: Tensor) -> bool:
        """True if `mark_rows` serves this scheme, this source and where the logits live."""
        return marks_rows(self.config, logits)

    def mark_rows(
        self, logits: Tensor, rows: Tensor | None = None, scales: Tensor | None = None
    ) -> Tensor:
        """Mark rows of the whole vocabulary in place; see `watermark.row_kernels.mark_rows`."""
        return mark_rows(self.config, self.keys, self.contexts, self.streams, logits, rows, scales)

    def finds_winners(self, logits: Tensor) -> bool:
        """True if `winners` serves this scheme, this source and where the logits live."""
        return finds_winners(self.config, logits)

    def winners(
        self,
        logits: Tensor,
        rows: Tensor | None = None,
        least: Tensor | None = None,
        *,
        forces: bool = False,
    ) -> Tensor:
        """Find the tokens that `force_gumbel_winner` would leave, without their noise.

        Args:
            logits: shape (N, V), see `finds_winners`.
            rows: int64, shape (B,), which rows are meant; None is all.
            least: float32, shape (B,): smaller logits are forbidden; None forbids none.
            forces: whether each row is left with its winner alone, at 0, in place.

        Returns:
            int64, shape (B,); -1 where a row has no largest finite logit.
        """
        return find_winners(
            self.keys, self.contexts, self.streams, logits, rows, least, forces=forces
        )

    def _foreign_words(self, token_ids: Tensor) -> Tensor:
        """Ask a source without kernels of its own, row by row; rows may have keys of their own."""
        source, keys = self.config.source, _unsigned(self.keys.cpu())
        ids, contexts = token_ids.cpu().numpy(), self.contexts.cpu().numpy()
        words = np.empty(ids.shape, np.int64)
        for row, (key, stream) in enumerate(zip(keys, self.streams.tolist(), strict=True)):
            here = slice(row, row + 1)
            hashes = source.context_hashes(key, contexts[here])
            words[here] = source.words(key, hashes, ids[here], stream)
        return torch.from_numpy(words).to(token_ids.device)

    def __repr__(self) -> str:
        return f"MarkedStep({self.config.scheme.name}, {len(self.streams)} rows, keys hidden)"


def _copy(logits: Tensor) -> Tensor:
    return logits.clone(memory_format=torch.contiguous_format)


def _unsigned(bits: Tensor) -> NDArray[np.uint64]:
    return bits.numpy().view(np.uint64)


def _check_logits(logits: Tensor) -> None:
    # One reduction finds all three: NaN and +inf survive a maximum, and so does an all -inf row.
    bad = (~torch.isfinite(logits.amax(dim=1))).nonzero()
    if len(bad):
        raise GenerationError(
            f"row {int(bad[0])} of the logits holds NaN or +inf, or nothing but -inf; "
            "check the model and the processors that run before the watermark"
        )


def _candidates(logits: Tensor) -> tuple[Tensor, Tensor] | None:
    """List the finite columns of each row, ascending, if they are few.

    Returns:
        Ids, int64, shape (B, K), and a bool mask of the fillers at the end of shorter rows; None
        where the whole vocabulary is as good.
    """
    finite = torch.isfinite(logits)
    counts = finite.sum(dim=1)
    width = int(counts.max())
    if width > logits.shape[1] * _SPARSE_SHARE:
        return None
    row, column = finite.nonzero(as_tuple=True)
    starts = counts.cumsum(0) - counts
    slot = torch.arange(len(row), device=logits.device) - starts[row]
    token_ids = column.new_zeros((len(logits), width))
    token_ids[row, slot] = column
    is_filler = torch.arange(width, device=logits.device) >= counts[:, None]
    return token_ids, is_filler
