"""Who wrote this? A text or a corpus against a family of keys, from reading to result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Protocol

from detect.scanning.results import Deduplication, LeftOut
from detect.text import binding_limits
from detect.tracing.texts.control import search_fresh_keys
from detect.tracing.texts.outcome import conclude_search
from detect.tracing.texts.pieces import cut_document
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.reading import TokenizedDocument
from detect.tracing.texts.results import TraceResult
from detect.tracing.texts.search import Search
from detect.tracing.texts.shares import CorpusPairs, Reference, share_out
from detect.unlike_keys import NEAR_KEYS
from watermark.tokens import TextTokenizer, check_fingerprint

__all__ = ["Progress", "Reader", "trace_text"]

_LIMITS: Final = (
    "An account that is named was served the key that this text depends on. Whoever held the "
    "account, or copied, bought or was shown its answers, may have written or published the text: "
    "the text does not tell them apart.",
    "Somebody who knows a key, or has collected enough of an account's marked answers, can write "
    "text that carries its mark. That a key was revoked, since others know it, only the registry "
    "or its export says; a list of names and a folder of key files do not.",
    "Only keys of the family can be named. Text of an account that is not among them, or marked "
    "under another model, epoch or config, names nobody.",
    "The p-values hold for texts that were not chosen by what they score under one of these keys.",
    "What others wrote in a document, or edited, dilutes each account's part. Passages are looked "
    "for beside the whole, where the scheme has a likelihood for single tokens; short ones, and "
    "ones that were edited much, are missed all the same.",
)
_LIKE_KEYS: Final = (
    "{name} tells at most 2^{bits} keys apart. No two keys of the family make {what}, so that no "
    "account can be taken for another one of the family; a writer whose key is not in the family "
    "has, with p = {floor:.0e} for each such writer, words like some account's. That is added to "
    "every adjusted p-value once; with it they are bounds. Single ones are exact, but of passages, "
    "which are bounds too."
)
_SHARES: Final = (
    "Shares are estimates and name nobody. They presume that every account's text is marked as "
    "strongly as the reference; accounts that are named for little text come out somewhat too "
    "large, and text of accounts that are not named is part of the rest."
)


class Reader(Protocol):
    """Where documents come from: see `detect.tracing.texts.reading`."""

    @property
    def left_out(self) -> LeftOut:
        """Documents that could not be read so far."""

    @property
    def files_not_read(self) -> tuple[str, ...]:
        """Files whose endings are none of a corpus."""

    @property
    def size(self) -> int:
        """Bytes; 0 if unknown."""

    def batches(self, tokenizer: TextTokenizer) -> Iterator[tuple[list[TokenizedDocument], int]]:
        """Read it: some documents, in order, and bytes read."""


class Progress(Protocol):
    """Is told how far the search is."""

    def read(self, n_bytes: int, n_documents: int, n_pairs: int) -> object:
        """So many more bytes and documents were read, and pairs searched."""

    def controlling(self, n_families: int) -> object:
        """So many more families of fresh keys were searched."""


class _Silent:
    def read(self, n_bytes: int, n_documents: int, n_pairs: int) -> None: ...

    def controlling(self, n_families: int) -> None: ...


def trace_text(
    reader: Reader,
    *,
    plan: TracePlan,
    tokenizer: TextTokenizer,
    prompt: str | None = None,
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> TraceResult:
    """Search the writers of a text, or of a corpus.

    Each document is searched under every key, and so is the pool, in which each distinct pair of
    all documents counts once. H0 of a key: see `detect.tracing.texts.search`. An account is named
    if its p-value on the pool times the keys, or on a document times keys and documents, is at most
    alpha; where there are several documents both are doubled, since both were looked at. A
    document's p-value under a key is the smaller of that of its sum, times 4/3, and of a bound for
    passages (`detect.tracing.texts.passages`), times 4. The chance that anybody is named who wrote
    nothing is then at most alpha, however many others did write.

    Args:
        reader: what is searched; read once.
        plan: keys, score and level.
        tokenizer: the provider's.
        prompt: what the text answers, if known; of a single text only.
        reference: what marked text scores; with it, shares are estimated, and the corpus's pairs
            are held in memory.
        progress: is told how far the search is.

    Returns:
        The result; where nothing was scored it is INCONCLUSIVE.

    Raises:
        ConfigError: borders that are not in the vocabulary.
        DocumentError: a document that cannot be read.
        FingerprintError: the config is bound to another tokenizer.
    """
    config, progress = plan.config, progress or _Silent()
    check_fingerprint(tokenizer, config.tokenizer)
    config.check_vocabulary(tokenizer.vocab_size)
    search, held = Search(plan, tokenizer.special_ids), CorpusPairs([])
    prompt_ids = tokenizer.encode(prompt) if prompt is not None else None
    n_read = 0
    for documents, n_bytes in reader.batches(tokenizer):
        n_read += len(documents)
        for document in documents:
            selection = search.select(document, prompt_ids)
            for piece, own in cut_document(document, selection, plan.piece_tokens):
                search.add(piece, own)
            if reference:
                held.add(selection)
            progress.read(0, 1, selection.n_scored)
        progress.read(n_bytes, 0, 0)
    search.flush()
    control = search_fresh_keys(plan, search.sample, progress.controlling)
    outcome = conclude_search(plan, search, control, is_unread=_is_unread(reader.left_out, n_read))
    shares = share_out(plan, reference, held, outcome.named) if reference else None
    return TraceResult(
        config=config,
        score_name=plan.scorer.score_name,
        tail=outcome.tail,
        best=outcome.best,
        n_scored=search.n_distinct,
        n_powered=outcome.n_powered,
        verdict=outcome.verdict,
        alpha=plan.alpha,
        n_keys=len(plan.family),
        n_searches=outcome.n_searches,
        piece_tokens=plan.piece_tokens,
        with_passages=plan.passages is not None,
        ranking=outcome.ranking,
        documents=outcome.documents,
        n_documents=search.n_documents,
        n_documents_named=outcome.n_documents_named,
        n_tokens=search.n_tokens,
        reasons=search.reasons,
        deduplication=Deduplication(
            search.n_pairs, search.n_distinct, control.n_sampled if control else 0
        ),
        left_out=reader.left_out,
        files_not_read=reader.files_not_read,
        control=control,
        shares=shares,
        seed=plan.seed,
        warnings=outcome.warnings,
        limits=(
            *_LIMITS,
            *_of_like_keys(plan),
            *([_SHARES] if shares else []),
            *binding_limits(config),
        ),
    )


def _is_unread(left_out: LeftOut, n_read: int) -> bool:
    counts = left_out.to_dict()
    return bool(counts["n_damaged_files"]) or bool(counts["n_documents"] > n_read)


def _of_like_keys(plan: TracePlan) -> list[str]:
    floor = plan.floor
    if floor == -math.inf:
        return []
    source, is_near = plan.config.source, len(plan.family) <= NEAR_KEYS
    what = "the same words, or nearly" if is_near else "the same words"
    return [
        _LIKE_KEYS.format(
            name=source.name, bits=source.distinct_key_bits, what=what, floor=10**floor
        )
    ]
