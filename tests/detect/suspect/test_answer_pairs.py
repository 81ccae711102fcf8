"""From answers to distinct pairs: each stands where its token does, and none stands twice."""

from __future__ import annotations

import numpy as np

from detect.suspect.answer_pairs import pool_answers
from detect.suspect.exchanges import SuspectAnswer
from tests.conftest import PARAGRAPH
from watermark.tokens import TextTokenizer


def test_each_pair_stands_where_its_token_does(tokenizer: TextTokenizer) -> None:
    """What a reference says of a token must reach that token's pair, repeats and prompts or not."""
    texts = [PARAGRAPH[:150], "", PARAGRAPH[60:230], PARAGRAPH[:90]]
    prompts = ["Go on.", "Say nothing.", PARAGRAPH[100:130], ""]
    answers = [SuspectAnswer(p, t) for p, t in zip(prompts, texts, strict=True)]
    pairs = pool_answers(tokenizer, answers, 2)
    every = np.concatenate([tokenizer.encode(text) for text in texts])
    assert pairs.n_tokens == len(every)
    assert {"pair_in_earlier_answer", "context_in_prompt"} <= set(pairs.reasons)
    assert pairs.tokens.tolist() == every[pairs.places].tolist()
    for h in (1, 2):
        assert pairs.contexts[:, -h].tolist() == every[pairs.places - h].tolist()
    rows = np.column_stack([pairs.contexts, pairs.tokens])
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert len(rows) + sum(pairs.reasons.values()) == pairs.n_tokens
