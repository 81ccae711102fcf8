"""An engine with few keys: no p-value is smaller than the chance that a stranger's key is ours."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detect.attribution import attribute, prf_keys
from detect.corpus import scan_corpus
from detect.documents import Document
from detect.key_floor import key_floor, like_keys_limit
from detect.results import Verdict
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import select_pairs
from detect.segments.localisation import locate_text
from detect.sequential.watching import Deployment
from detect.text import assess_tokens
from tests.detect.synthetic import marked_ids
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError
from watermark.interop import sglang
from watermark.interop.sglang import SglangWords
from watermark.keys import EngineKey
from watermark.prf import NATIVE
from watermark.schemes.gumbel import Gumbel
from watermark.tokens import TextTokenizer

CONFIG = WatermarkConfig(Gumbel(), 2, source=SglangWords())
OURS = EngineKey([0x0123456789ABCDEF])
FLOOR = -32 * math.log10(2)


def _like(key: int, low: int) -> int:
    """Find another key of SGLang after which its hash is in the same state: all words are equal."""
    mask = 0xFFFFFFFF
    state = int(sglang._mix_key(np.zeros(1, np.uint32), np.array([key], np.uint64))[0])
    begun = int(sglang._mix(np.zeros(1, np.uint32), np.array([low], np.uint64))[0])
    x = (state - int(sglang._N)) * pow(5, -1, 1 << 32) & mask
    x = (x >> 13 | x << 19) & mask ^ begun
    x = x * pow(int(sglang._C2), -1, 1 << 32) & mask
    x = (x >> 15 | x << 17) & mask
    return low | (x * pow(int(sglang._C1), -1, 1 << 32) & mask) << 32


STRANGER = EngineKey([_like(OURS.integers[0], 77)])


def test_a_stranger_s_mark_is_no_signal_below_what_keys_tell_apart(
    tokenizer: TextTokenizer,
) -> None:
    """H0 holds: the text was marked by somebody else, under a key of his own."""
    assert STRANGER.integers != OURS.integers
    ids = marked_ids(CONFIG, STRANGER, 120, vocabulary=tokenizer.vocab_size, seed=0)
    for alpha, verdict in ((1e-6, Verdict.SIGNAL), (1e-12, Verdict.INCONCLUSIVE)):
        tested = assess_tokens(ids, tokenizer=tokenizer, config=CONFIG, key=OURS, alpha=alpha)
        assert tested.finding.tail.log10_p < -15
        assert tested.finding.tail.log10_p_ceiling == pytest.approx(FLOOR, abs=1e-3)
        assert tested.finding.verdict == verdict
        assert any("2^32 keys apart" in limit for limit in tested.limits)


def test_nor_is_it_for_documents_windows_and_families(tokenizer: TextTokenizer) -> None:
    ids = marked_ids(CONFIG, STRANGER, 120, vocabulary=tokenizer.vocab_size, seed=0)
    documents = [Document(str(i), str(i), token_ids=tuple(ids.tolist())) for i in range(2)]
    scan = scan_corpus(documents, tokenizer=tokenizer, config=CONFIG, key=OURS, alpha=1e-12)
    assert scan.finding.verdict == Verdict.INCONCLUSIVE
    assert scan.n_significant == 0
    keys = prf_keys([OURS, EngineKey([5])], CONFIG.source)
    chosen = select_pairs(ids, 2, drop_repeated_contexts=True, source=CONFIG.source)
    scorer = choose_scorer(None, CONFIG.scheme, "direct")
    for alpha, named in ((1e-6, 1), (1e-12, 0)):
        found = attribute(chosen, scorer, keys, alpha=alpha, source=CONFIG.source)
        assert len(found.named) == named
    text = tokenizer.decode(ids.tolist())
    assert locate_text(text, tokenizer=tokenizer, config=CONFIG, key=OURS).segments
    assert not locate_text(text, tokenizer=tokenizer, config=CONFIG, key=OURS, alpha=1e-12).segments


def test_a_watch_refuses_a_level_that_no_evidence_reaches(tokenizer: TextTokenizer) -> None:
    Deployment(CONFIG, OURS, tokenizer, 1e-6)
    with pytest.raises(ConfigError, match="2\\^32 keys"):
        Deployment(CONFIG, OURS, tokenizer, 1e-10)


def test_our_own_words_have_no_floor() -> None:
    assert key_floor(NATIVE, 25_000) == -math.inf
    assert like_keys_limit(preset("default").source) == ()
    assert key_floor(CONFIG.source, 1000) == pytest.approx(FLOOR + 3)
