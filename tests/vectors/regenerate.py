"""Write the frozen vectors of `heirmark-1` from the slow reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from watermark.config import PRESETS
from watermark.keys import SecretKey
from watermark.prf_reference import prf_word
from watermark.schemes import SCHEMES

FOLDER = Path(__file__).parent
SECRET = bytes(range(32))
CONTEXTS = [[], [0], [1], [49151, 7], [7, 49151], [1, 2, 3], [4294967295] * 4, list(range(16))]
TOKENS = [0, 1, 2, 3, 4, 128_255, 4_294_967_295]
SCORED_WORDS = [0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 0x9E3779B9]


def prf_vectors() -> dict[str, Any]:
    """Words of the reference for a few contexts, tokens and streams."""
    key = SecretKey(SECRET)
    material = key.subkey("prf heirmark-1", 16)
    k0, k1 = (int.from_bytes(material[i : i + 8], "little") for i in (0, 8))
    rows = [
        {
            "context": c,
            "stream": s,
            "tokens": TOKENS,
            "words": [prf_word(k0, k1, c, t, s) for t in TOKENS],
        }
        for c in CONTEXTS
        for s in (0, 1)
    ]
    derived = key.derive(model="m", epoch="2026-11", cohort="c", account="a", purpose="p")
    return {
        "source": "watermark.prf_reference",
        "secret_hex": SECRET.hex(),
        "key_id": key.key_id,
        "derived_key_id": derived.key_id,
        "sip_key": [str(k0), str(k1)],
        "rows": rows,
    }


def scheme_vectors() -> dict[str, Any]:
    """Scores of a few words, and the presets' fingerprints."""
    words = np.array(SCORED_WORDS, np.uint32)
    scores = {}
    for name, kind in SCHEMES.items():
        scheme = kind()
        streams = np.stack([words, words[::-1]])[: scheme.n_streams]
        scores[name] = [float(f"{s:.12g}") for s in scheme.score(streams)]
    return {
        "source": "watermark.schemes",
        "words": SCORED_WORDS,
        "scores": scores,
        "fingerprints": {name: config.fingerprint for name, config in PRESETS.items()},
    }


FILES = {"prf_heirmark_1.json": prf_vectors, "schemes.json": scheme_vectors}


def main() -> None:
    """Write every file."""
    for name, make in FILES.items():
        (FOLDER / name).write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
