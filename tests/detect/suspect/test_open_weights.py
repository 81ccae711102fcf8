"""Suspects: what they are asked, what they answer, and which of them are never opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from detect.suspect import open_weights
from detect.suspect.exchanges import ReadingText
from detect.suspect.open_weights import TransformersSuspect
from tests.conftest import PARAGRAPH
from tests.tiny_model import write_model
from watermark.errors import ConfigError, FingerprintError, GenerationError, ModelError
from watermark.generation.loop import Sampling
from watermark.tokens import TextTokenizer


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, tokenizer: TextTokenizer
) -> Path:
    return write_model(
        tmp_path_factory.mktemp("models") / "tiny",
        tokenizer_folder,
        vocabulary=tokenizer.vocab_size,
        n_positions=128,
    )


@pytest.fixture(scope="module")
def suspect(folder: Path) -> TransformersSuspect:
    return TransformersSuspect(folder)


@pytest.fixture
def copied(tmp_path: Path, folder: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


@pytest.fixture(scope="module")
def texts(suspect: TransformersSuspect, tokenizer: TextTokenizer) -> list[ReadingText]:
    lengths = (60, 20, 60, 41, 90)
    return [
        ReadingText(suspect.chat_ids("x" * i), tuple(tokenizer.encode(PARAGRAPH[i : i + n])))
        for i, n in enumerate(lengths)
    ]


def _alone(folder: Path, text: ReadingText) -> torch.Tensor:
    """Read one text by transformers alone, without padding."""
    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="eager"
    ).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*text.prompt_ids, *text.token_ids]])).logits[0].float()
    # The distribution of the response's first token stands at the prompt's last one.
    wanted: torch.Tensor = logits.softmax(1)[len(text.prompt_ids) - 1 : -1]
    return wanted


def test_answers_come_in_order_with_the_whole_chat_prompt(suspect: TransformersSuspect) -> None:
    prompts = ["Count the nets, please.", "Who?", "Count the ropes."]
    drawn: list[int] = []
    answers = suspect.answers(prompts, Sampling(12, seed=3), drawn.append)
    assert [a.prompt for a in answers] == [f"User: {p}\nAnswer:" for p in prompts]
    assert any(a.text for a in answers)
    assert 0 < sum(drawn) <= 36
    assert answers == suspect.answers(prompts, Sampling(12, seed=3))
    assert answers != suspect.answers(prompts, Sampling(12, seed=4))
    assert suspect.answers([], Sampling(12)) == []


def test_reading_gives_the_distribution_of_each_response_token(
    suspect: TransformersSuspect, folder: Path, texts: list[ReadingText]
) -> None:
    found = {p.index: p.probabilities for p in suspect.read(texts)}
    assert sorted(found) == list(range(len(texts)))
    for index, text in enumerate(texts):
        expected = _alone(folder, text)
        assert found[index].shape == (len(text.token_ids), suspect.tokenizer.vocab_size)
        assert found[index].sum(1).allclose(torch.ones(len(text.token_ids)))
        # Bit-identical where it was written; in batches of another shape bf16 may round otherwise.
        assert (found[index] - expected).abs().max() < 0.02
        assert (found[index][1:] - expected[:-1]).abs().max() > 0.1


def test_a_distribution_has_not_seen_its_own_token(
    suspect: TransformersSuspect, texts: list[ReadingText]
) -> None:
    text = texts[0]
    other = ReadingText(text.prompt_ids, (*text.token_ids[:9], 300, *text.token_ids[10:]))
    a, b = (next(suspect.read([t])).probabilities for t in (text, other))
    assert torch.equal(a[:10], b[:10])
    assert not torch.equal(a[10], b[10])


def test_a_batch_never_exceeds_its_positions(
    suspect: TransformersSuspect, texts: list[ReadingText], monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = max(len(t.prompt_ids) + len(t.token_ids) for t in texts)
    sizes = []
    compute = TransformersSuspect._logits

    def spying(self: TransformersSuspect, chosen: Sequence[ReadingText]) -> torch.Tensor:
        logits = compute(self, chosen)
        sizes.append(logits.shape[0] * logits.shape[1])
        return logits

    monkeypatch.setattr(TransformersSuspect, "_logits", spying)
    for limit in (10**6, 2 * longest, 1):
        monkeypatch.setattr(open_weights, "_READING_POSITIONS", limit)
        sizes.clear()
        assert sorted(p.index for p in suspect.read(texts)) == list(range(len(texts)))
        # A text longer than the limit is read alone.
        assert max(sizes) <= max(limit, longest)
        assert len(sizes) == {10**6: 1, 1: len(texts)}.get(limit, len(sizes))


def test_a_vocabulary_that_is_too_small_is_said(
    tmp_path: Path, tokenizer_folder: Path, texts: list[ReadingText]
) -> None:
    folder = write_model(tmp_path / "small", tokenizer_folder, vocabulary=100, n_positions=128)
    with pytest.raises(FingerprintError, match=r"small knows 100 tokens.*--access text"):
        next(TransformersSuspect(folder).read(texts))


def test_texts_that_cannot_be_read_are_said(suspect: TransformersSuspect) -> None:
    with pytest.raises(ModelError, match="reading text 2 has no prompt"):
        next(suspect.read([ReadingText((2,), (3,)), ReadingText((), (3,))]))
    with pytest.raises(ModelError, match="reads at most 128"):
        next(suspect.read([ReadingText((2,), (3,) * 128)]))
    empty = next(suspect.read([ReadingText((2,), ())]))
    assert empty.probabilities.shape[0] == 0


def test_logits_that_are_no_numbers_are_said(copied: Path, texts: list[ReadingText]) -> None:
    model = LlamaForCausalLM.from_pretrained(copied)
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    model.save_pretrained(copied)
    damaged = TransformersSuspect(copied)
    with pytest.raises(ModelError, match="no numbers"):
        next(damaged.read(texts))
    with pytest.raises(GenerationError, match="no numbers"):
        damaged.answers(["Who?"], Sampling(3))


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no') }}", "{% for %}"])
def test_a_missing_or_broken_chat_template_is_said(copied: Path, template: str | None) -> None:
    path = copied / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["chat_template"]
    if template is not None:
        settings["chat_template"] = template
    path.write_text(json.dumps(settings))
    plain = TransformersSuspect(copied)
    with pytest.raises(ModelError, match="copied has no chat template"):
        plain.answers(["Who?"], Sampling(3))
    with pytest.raises(ModelError, match="copied has no chat template"):
        plain.chat_ids("Who?")


def _add_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _add_nested_pickle(folder: Path) -> None:
    (folder / "extra").mkdir()
    (folder / "extra" / "optimizer.PT").write_bytes(b"\x80\x04.")


def _add_code(folder: Path) -> None:
    (folder / "modeling_own.py").write_text("raise SystemExit('ran the suspect code')")


def _ask_for_code(name: str) -> Callable[[Path], None]:
    def ask(folder: Path) -> None:
        payload = json.loads((folder / name).read_text())
        payload["auto_map"] = {"AutoModelForCausalLM": "somebody/else--modeling_own.Own"}
        (folder / name).write_text(json.dumps(payload))

    return ask


def _truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_add_pickle, "pytorch_model.bin, which could run code"),
        (_add_nested_pickle, "optimizer.PT, which could run code"),
        (_add_code, "modeling_own.py, which could run code"),
        (_ask_for_code("config.json"), "auto_map"),
        (_ask_for_code("tokenizer_config.json"), "auto_map"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no \\*.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (_truncate_weights, "cannot be loaded"),
    ],
)
def test_unsafe_or_damaged_folders_are_refused(
    copied: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(copied)
    with pytest.raises(ModelError, match=message):
        TransformersSuspect(copied)


def test_a_folder_without_tokenizer_is_refused(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        TransformersSuspect(copied)
