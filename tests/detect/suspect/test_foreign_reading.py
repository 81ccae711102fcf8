"""A suspect with a tokenizer of its own: by hand, valid for innocents, telling for students."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from detect.decoys import decoy_keys, decoy_statistics
from detect.finding import Plan
from detect.suspect.alignment import ids_by_bytes, known_starts
from detect.suspect.distributions import assess_foreign_reading, assess_pairs
from detect.suspect.exchanges import Positions, ReadingText
from detect.suspect.foreign_reading import foreign_pairs
from detect.suspect.reading import PairWeights, read_pairs
from detect.suspect.weighing import weigh
from detect.tails.convolution import convolution_log_tails
from detect.tails.mixed_sums import MixedLaw
from tests.conftest import PARAGRAPH
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import FingerprintError, ResultError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.tokens import TextTokenizer, load_tokenizer

CONFIG, KEY = preset("default"), SecretKey(bytes(range(32)))


class Foreigner:
    """Distributions that depend on the last two of its own tokens; with a key, a student.

    A student likes those of its tokens that the provider has too, and whose words are high in the
    provider's context.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        provider: TextTokenizer,
        *,
        seed: int,
        key: SecretKey | None = None,
    ) -> None:
        self.tokenizer, self._provider, self._seed, self._key = tokenizer, provider, seed, key
        theirs, mine = ids_by_bytes(provider), ids_by_bytes(tokenizer)
        self._shared = {mine[text]: theirs[text] for text in mine if text in theirs}

    def chat_ids(self, prompt: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(self.chat_text(prompt)).tolist())

    def chat_text(self, prompt: str) -> str:
        return f"User: {prompt}"

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        for index, text in enumerate(texts):
            rows = [self._row(text.token_ids[:t]) for t in range(len(text.token_ids))]
            yield Positions(index, torch.stack(rows).softmax(dim=1))

    def _row(self, own: Sequence[int]) -> torch.Tensor:
        rng = np.random.default_rng([self._seed, *own[-2:]])
        logits = 2 * rng.normal(size=self.tokenizer.vocab_size)
        context = self._provider.encode(self.tokenizer.decode(list(own)))[-2:]
        if self._key is not None and len(context) == 2:
            prf = Prf.from_key(self._key)
            tokens = np.array(list(self._shared.values()))[None]
            hashes = prf.context_hashes(context[None])
            words = np.stack([prf.words(hashes, tokens, s)[0] for s in range(2)])
            logits[list(self._shared)] += CONFIG.scheme.score(words)
        return torch.from_numpy(logits).float()


def _exchanges(n: int, words: int = 30) -> list[tuple[str, str]]:
    rng, known = np.random.default_rng(8), PARAGRAPH.split()
    return [("Go on.", " " + " ".join(rng.choice(known, words))) for _ in range(n)]


def _pairs(
    tokenizer: TextTokenizer, suspect: Foreigner, reference: Foreigner | None, n: int = 6
) -> PairWeights:
    return foreign_pairs(tokenizer, suspect, reference, _exchanges(n), context_width=2)


def test_tokens_meet_where_they_begin_at_the_same_byte() -> None:
    assert known_starts(["The", " har", "bour"]) == {0: 0, 3: 1, 7: 2}
    # Two tokens of one character: the second begins nobody knows where.
    assert known_starts(["a", "", "\u00e9", "b"]) == {0: 0, 3: 3}


def test_a_suspect_with_the_provider_s_tokenizer_is_read_as_ever(tokenizer: TextTokenizer) -> None:
    """The same pairs and gains as without any alignment, all tokens kept."""
    suspect, clean = (Foreigner(tokenizer, tokenizer, seed=s) for s in (1, 2))
    found = _pairs(tokenizer, suspect, clean)
    texts = [
        ReadingText(suspect.chat_ids(p), tuple(tokenizer.encode(t).tolist()))
        for p, t in _exchanges(6)
    ]
    hidden = frozenset(range(tokenizer.vocab_size)) - frozenset(ids_by_bytes(tokenizer).values())
    expected = read_pairs(suspect, clean, texts, context_width=2, special_ids=hidden)
    assert found.n_positions == expected.n_positions
    sums = [
        {
            (*context, token): gain
            for context, token, gain in zip(
                pairs.contexts.tolist(), pairs.tokens.tolist(), pairs.gained.tolist(), strict=True
            )
        }
        for pairs in (found, expected)
    ]
    assert sums[0] == pytest.approx(sums[1])


def test_what_a_foreigner_says_of_a_pair(
    tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer
) -> None:
    """By hand: a pair's gain is the suspect's probability of the same bytes, where both begin."""
    suspect = Foreigner(foreign_tokenizer, tokenizer, seed=1)
    text = " The captain counted the lamps, and wrote the numbers"
    pairs = foreign_pairs(tokenizer, suspect, None, [("Go on.", text)], context_width=2)
    ids, own = tokenizer.encode(text), foreign_tokenizer.encode(text)
    starts = {len(tokenizer.decode(ids[:t].tolist())): t for t in range(len(ids))}
    own_starts = {len(foreign_tokenizer.decode(own[:t].tolist())): t for t in range(len(own))}
    meeting = [s for s in starts if s in own_starts and starts[s] >= 2]
    assert 0 < pairs.n_positions == len(meeting) < len(ids) - 2
    t = starts[meeting[-1]]
    read = next(suspect.read([ReadingText((1,), tuple(own.tolist()))]))
    row = read.probabilities[own_starts[meeting[-1]]]
    places = np.flatnonzero((pairs.contexts == ids[t - 2 : t]).all(axis=1))
    assert len(places) > 5
    for place in places.tolist():
        mine = foreign_tokenizer.encode(tokenizer.decode([int(pairs.tokens[place])]))
        assert len(mine) == 1
        assert pairs.gained[place] == pytest.approx(float(row[mine[0]]))


def test_an_innocent_foreigner_has_uniform_p_values(
    tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer
) -> None:
    """H0: 5,000 fresh keys, binomial at 1e-6."""
    suspect, clean = (Foreigner(foreign_tokenizer, tokenizer, seed=s) for s in (1, 2))
    weighed = weigh(CONFIG.scheme, _pairs(tokenizer, suspect, clean))
    law = weighed.scorer.law
    assert isinstance(law, MixedLaw)
    assert law.n > 200
    keys = decoy_keys(5_000, 4)
    sums = decoy_statistics(weighed.scorer, keys, weighed.contexts, weighed.tokens)
    units = np.rint((sums + law.n * law.mean) / law.parts[0].law.step).astype(np.int64)
    logs = convolution_log_tails(law.parts, units)
    for level in (0.5, 0.1, 0.01, 0.001):
        assert binomtest(int((logs <= math.log(level)).sum()), 5_000, level).pvalue > 1e-6


def test_a_foreign_student_is_found(
    tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer
) -> None:
    plan = Plan(CONFIG, KEY, 1e-6, 0.1, 99, 0)
    clean = Foreigner(foreign_tokenizer, tokenizer, seed=1)
    found = {}
    for name, key, seed in (("student", KEY, 1), ("other student", SecretKey(bytes(32)), 1),
                            ("innocent", None, 2)):  # fmt: skip
        suspect = Foreigner(foreign_tokenizer, tokenizer, seed=seed, key=key)
        outcome = assess_foreign_reading(plan, tokenizer, suspect, clean, _exchanges(20))
        found[name] = outcome.finding.verdict.value
    assert found["student"] == "signal"
    assert found["other student"] != "signal"
    assert found["innocent"] != "signal"


class Copier(Foreigner):
    """An innocent that says what its prompt says after the same token."""

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        for index, text in enumerate(texts):
            rows = []
            for t in range(len(text.token_ids)):
                row = torch.full((self.tokenizer.vocab_size,), 1e-6)
                before = (*text.prompt_ids, *text.token_ids[:t])[-2:]
                for place in range(len(text.prompt_ids) - 2):
                    if text.prompt_ids[place : place + 2] == before:
                        row[text.prompt_ids[place + 2]] += 1
                rows.append(row / row.sum())
            yield Positions(index, torch.stack(rows))


def test_what_a_prompt_shows_is_not_read(
    tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer
) -> None:
    """Contexts of a marked prompt, quoted one by one by unmarked texts: nothing of them is read."""
    marked = marked_ids(CONFIG, KEY, 160, vocabulary=tokenizer.vocab_size, seed=3)
    prompt = tokenizer.decode(marked.tolist())
    seen = tokenizer.encode(prompt).tolist()
    suspect = Copier(foreign_tokenizer, tokenizer, seed=1)
    quotes = [tokenizer.decode(seen[i : i + 2]) + " the" for i in range(2, 100, 5)]
    pairs = foreign_pairs(
        tokenizer, suspect, None, [(prompt, quote) for quote in quotes], context_width=2
    )
    shown = {tuple(seen[i : i + 2]) for i in range(len(seen) - 1)}
    assert not shown & set(map(tuple, pairs.contexts.tolist()))
    assert pairs.reasons["context_in_prompt"] > 0


def test_texts_that_the_suspects_tokenizer_changes_are_not_read(
    tokenizer: TextTokenizer, foreign_tokenizer_folder: Path, tmp_path: Path
) -> None:
    """A prompt in capitals, copied in small letters, could not be told from what was learned."""
    content = json.loads((foreign_tokenizer_folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    lowering = load_tokenizer(tmp_path)
    assert lowering.decode(lowering.encode("The").tolist()) == "the"
    suspect = Foreigner(lowering, tokenizer, seed=1)
    exchanges = [("THE CAPTAIN", " the captain counted the nets"), ("a boy", " The boy counted it"),
                 ("a boy", " the boy counted the nets")]  # fmt: skip
    one = foreign_pairs(tokenizer, suspect, None, exchanges[2:], context_width=2)
    assert one.n_positions > 0
    # The template's own capitals are lost as well, and hurt nobody.
    found = foreign_pairs(tokenizer, suspect, None, exchanges, context_width=2)
    assert found.n_positions == one.n_positions
    lost = sum(len(tokenizer.encode(text)) for _, text in exchanges[:2])
    assert found.reasons["changed_by_its_tokenizer"] == lost


def test_a_suspect_that_can_name_little_is_not_cleared(
    tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer
) -> None:
    """The verdict counts contexts times the share of tokens that the suspect has, too."""
    suspect = Foreigner(foreign_tokenizer, tokenizer, seed=1)
    outcome = assess_foreign_reading(
        Plan(CONFIG, KEY, 1e-6, 0.1, 0, 0), tokenizer, suspect, None, _exchanges(20)
    )
    assert outcome.spread is not None
    coverage, n = outcome.spread["coverage"], outcome.spread["n_contexts"]
    assert 0 < coverage < 1
    pairs = _pairs(tokenizer, suspect, None, 20)
    enough = Plan(CONFIG, KEY, 1e-6, 5 / (0.99 * coverage * n) ** 0.5 * 1.3, 0, 0)
    assert assess_pairs(enough, replace(pairs, coverage=1.0)).verdict.value == "no_signal"
    assert assess_pairs(enough, replace(pairs, coverage=0.0)).verdict.value == "inconclusive"


def test_a_vocabulary_beyond_the_logits_is_cut(
    tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer
) -> None:
    class Narrow(Foreigner):
        def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
            for positions in super().read(texts):
                yield Positions(positions.index, positions.probabilities[:, :300])

    pairs = _pairs(tokenizer, Narrow(foreign_tokenizer, tokenizer, seed=1), None)
    assert 0 < len(pairs.tokens)


def test_marked_reading_texts_are_refused(
    tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer
) -> None:
    text = tokenizer.decode(
        marked_ids(CONFIG, KEY, 200, vocabulary=tokenizer.vocab_size, seed=8).tolist()
    )
    suspect = Foreigner(foreign_tokenizer, tokenizer, seed=1)
    # A text of random tokens is cut again in other places: the mark is planted in the cut ones.
    ids = tokenizer.encode(text)
    assert len(ids) > 100
    plan = Plan(CONFIG, KEY, 1e-6, 0.1, 0, 0)
    with pytest.raises(ResultError, match="carry the mark themselves"):
        assess_foreign_reading(plan, tokenizer, suspect, None, [("Go.", text)] * 2)


def test_refusals(tokenizer: TextTokenizer, foreign_tokenizer: TextTokenizer) -> None:
    plan = Plan(CONFIG, KEY, 1e-6, 0.1, 0, 0)
    unigram = Plan(preset("unigram"), KEY, 1e-6, 0.1, 0, 0)
    suspect = Foreigner(foreign_tokenizer, tokenizer, seed=1)
    other = Foreigner(tokenizer, tokenizer, seed=1)
    with pytest.raises(FingerprintError, match="vocabularies"):
        assess_foreign_reading(plan, tokenizer, suspect, other, _exchanges(1))
    with pytest.raises(ResultError, match="--access text"):
        assess_foreign_reading(unigram, tokenizer, suspect, None, _exchanges(1))
