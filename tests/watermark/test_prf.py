"""The PRF: published vectors, frozen vectors, and four implementations that agree bit by bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vectors import regenerate
from watermark import prf as prf_module
from watermark.errors import ConfigError
from watermark.kernels import numba_prf, numpy_prf, torch_prf
from watermark.keys import SecretKey
from watermark.prf import Prf, words_by_row, words_for_keys
from watermark.prf_reference import philox4x32, prf_word, siphash128

SIP_KEY = bytes(range(16))
K0, K1 = (int.from_bytes(SIP_KEY[i : i + 8], "little") for i in (0, 8))

# By OpenSSL 3.0, for the message 00 01 02 ... of each length in the file msg:
#   openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:16 -in msg SIPHASH
OPENSSL_SIPHASH_128 = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    4: "f88164c12d9c8faf7d0f6e7c7bcd5579",
    7: "a1f1ebbed8dbc153c0b84aa61ff08239",
    8: "3b62a9ba6258f5610f83e264f31497b4",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
    16: "6ee2a4ca67b054bbfd3315bf85230577",
    63: "5150d1772f50834a503e069a973fbd7c",
}

# Known answers of the authors' library Random123 (kat_vectors, philox4x32 with 10 rounds).
RANDOM123_PHILOX = [
    ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

ids = st.integers(0, 2**32 - 1)
keys = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("length", OPENSSL_SIPHASH_128)
def test_siphash_gives_what_openssl_gives(length: int) -> None:
    hashed = siphash128(K0, K1, bytes(range(length)))
    digest = b"".join(half.to_bytes(8, "little") for half in hashed)
    assert digest.hex() == OPENSSL_SIPHASH_128[length]


@pytest.mark.parametrize(("counter", "key", "expected"), RANDOM123_PHILOX)
def test_philox_gives_the_published_answers(
    counter: list[int], key: list[int], expected: tuple[int, ...]
) -> None:
    assert philox4x32(counter, key) == expected


@given(
    k0=keys,
    k1=keys,
    context=st.lists(ids, max_size=16),
    tokens=st.lists(ids, min_size=1, max_size=6),
    stream=ids,
)
@settings(max_examples=150, deadline=None)
def test_reference_numpy_numba_and_torch_agree(
    k0: int, k1: int, context: list[int], tokens: list[int], stream: int
) -> None:
    expected = [prf_word(k0, k1, context, token, stream) for token in tokens]
    contexts = np.array([context], np.int64).reshape(1, len(context))
    candidates = np.array([tokens], np.int64)
    streams = np.array([stream], np.uint64)
    for kernel in (numpy_prf, numba_prf):
        hashes = kernel.context_hashes(np.uint64(k0), np.uint64(k1), contexts)
        assert kernel.words(hashes, candidates, streams)[0].tolist() == expected
    bits = [torch.tensor([torch_prf.signed(k)]) for k in (k0, k1)]
    torch_hashes = torch_prf.context_hashes(bits[0], bits[1], torch.from_numpy(contexts))
    words = torch_prf.words(torch_hashes, torch.from_numpy(candidates), torch.tensor([stream]))
    assert words[0].tolist() == expected


@pytest.mark.parametrize("compile_from", [0, 10**9])
def test_both_sides_of_the_size_threshold_agree(
    compile_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prf_module, "_COMPILE_FROM", compile_from)
    rng = np.random.default_rng(0)
    contexts, tokens = rng.integers(0, 50_000, (7, 3)), rng.integers(0, 50_000, (7, 5))
    prf = Prf(K0, K1)
    hashes = prf.context_hashes(contexts)
    expected = np.array(
        [
            [prf_word(K0, K1, c, t, 1) for t in row]
            for c, row in zip(contexts.tolist(), tokens.tolist(), strict=True)
        ]
    )
    assert np.array_equal(prf.words(hashes, tokens, 1), expected)
    assert np.array_equal(prf.words(hashes, tokens[:, 2], 1), expected[:, 2])
    sip_keys = np.repeat(prf.sip_key[None], 7, axis=0)
    by_row = words_by_row(sip_keys, contexts, tokens, np.full(7, 1, np.uint64))
    assert np.array_equal(by_row, expected)
    many = words_for_keys(
        np.array([[1, 2], [K0, K1]], np.uint64), contexts, np.arange(7), tokens[:, 0], 2
    )
    assert many.shape == (2, 2, 7)
    assert np.array_equal(many[1, 1], expected[:, 0])
    assert many[0, 0, 0] == prf_word(1, 2, contexts[0].tolist(), int(tokens[0, 0]), 0)


def test_frozen_words_never_change() -> None:
    frozen = json.loads((regenerate.FOLDER / "prf_heirmark_1.json").read_text(encoding="utf-8"))
    prf = Prf.from_key(SecretKey(bytes.fromhex(frozen["secret_hex"])))
    assert [str(k) for k in prf.sip_key.tolist()] == frozen["sip_key"]
    for row in frozen["rows"]:
        contexts = np.array([row["context"]], np.int64).reshape(1, len(row["context"]))
        tokens = np.array([row["tokens"]], np.int64)
        words = prf.words(prf.context_hashes(contexts), tokens, row["stream"])
        assert words[0].tolist() == row["words"]


@pytest.mark.parametrize("name", regenerate.FILES)
def test_regenerating_the_vectors_changes_no_byte(name: str) -> None:
    text = json.dumps(regenerate.FILES[name](), indent=1) + "\n"
    assert (regenerate.FOLDER / name).read_text(encoding="utf-8") == text


def test_words_are_uniform_in_every_byte_and_independent_across_streams() -> None:
    prf = Prf(K0, K1)
    rng = np.random.default_rng(1)
    contexts = np.arange(200_000).reshape(-1, 2)
    tokens = rng.integers(0, 50_000, len(contexts))
    hashes = prf.context_hashes(contexts)
    first, second = (prf.words(hashes, tokens, stream) for stream in (0, 1))
    n = len(first)
    for words in (first, second, first ^ second):
        for shift in (0, 8, 16, 24):
            counts = np.bincount((words >> np.uint32(shift)) & np.uint32(255), minlength=256)
            chi_square = float(((counts - n / 256) ** 2 / (n / 256)).sum())
            # 255 degrees of freedom: 255 + 6 sd is beyond 1e-7; twelve looks at it.
            assert chi_square < 255 + 6 * (2 * 255) ** 0.5


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_ids_outside_32_bits_are_refused(bad: int) -> None:
    prf = Prf(K0, K1)
    with pytest.raises(ConfigError, match="2\\^32"):
        prf.context_hashes(np.array([[1, bad]]))
    with pytest.raises(ConfigError, match="2\\^32"):
        prf.words(prf.context_hashes(np.array([[1]])), np.array([bad]))


def test_the_prf_shows_no_key() -> None:
    assert str(K0) not in repr(Prf(K0, K1))
    assert hex(K0)[2:] not in repr(Prf(K0, K1))
