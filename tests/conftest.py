"""A real byte-level BPE tokenizer, trained on the spot; no downloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from watermark.tokens import TextTokenizer, load_tokenizer

PARAGRAPH = (
    "The harbour was quiet when the first boat came in. A boy counted the nets, the ropes and the "
    "lamps, and wrote the numbers into a small book. Nobody asked him why. Later, when the wind "
    "rose and the sea grew loud, the old captain read the book again, line by line, and smiled."
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained(tmp_path_factory.mktemp("tokenizer"), PARAGRAPH, 420)


@pytest.fixture(scope="session")
def foreign_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of half of the text, and across words: other ids, other cuts, some tokens in common."""
    return _trained(tmp_path_factory.mktemp("foreign"), PARAGRAPH[150:], 350, across=True)


def _trained(folder: Path, text: str, vocab_size: int, *, across: bool = False) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(  # type: ignore[assignment]
        add_prefix_space=False, use_regex=not across
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> TextTokenizer:
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(scope="session")
def foreign_tokenizer(foreign_tokenizer_folder: Path) -> TextTokenizer:
    return load_tokenizer(foreign_tokenizer_folder)


@pytest.fixture(scope="session")
def model_folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, tokenizer: TextTokenizer
) -> Path:
    # Here, since most tests need no torch.
    from tests.tiny_model import write_model

    return write_model(
        tmp_path_factory.mktemp("models") / "tiny",
        tokenizer_folder,
        vocabulary=tokenizer.vocab_size,
        n_positions=256,
    )


@pytest.fixture(scope="session")
def foreign_folder(
    tmp_path_factory: pytest.TempPathFactory,
    foreign_tokenizer_folder: Path,
    foreign_tokenizer: TextTokenizer,
) -> Path:
    """A model with a tokenizer of its own."""
    from tests.tiny_model import write_model

    return write_model(
        tmp_path_factory.mktemp("models") / "foreign",
        foreign_tokenizer_folder,
        vocabulary=foreign_tokenizer.vocab_size,
        n_positions=256,
    )
