"""A suspect's answers, one by one, until the case is strong: the state of a watch and its rules.

H0: the answers are independent of the key. Each distinct (context, token) pair of the whole stream
is scored once, contexts that an answer's own prompt shows are not; the e-process over them
(`detect.sequential.eprocess`) may be looked at after every answer. The state
holds digests of pairs and
answers, not their text, and no secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from detect.key_floor import key_floor
from detect.mark_strength import mark_strength
from detect.results import Verdict, json_p
from detect.scoring.scores import Selection, refuse_dependent_words, select_text
from detect.sequential.calibrators import default_calibrator
from detect.sequential.eprocess import EProcess, n_powered
from detect.suspect.inheritance import TEXT_EFFECT
from detect.text import binding_limits
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, FingerprintError, ResultError
from watermark.keys import Key
from watermark.prf import Prf
from watermark.tokens import TextTokenizer, check_fingerprint
from watermark.word_sources import Pairs

__all__ = ["Answer", "Deployment", "Watch"]

_FORMAT: Final = "heirmark-watch-1"
_POINTS: Final = 400
_IN_EARLIER_ANSWER: Final = "pair_in_earlier_answer"
_LIMITS: Final = (
    "A small p-value shows that the answers depend on the key. It does not show who queried the "
    "provider, with what intent, or in breach of what; marked text that stands in public is a "
    "rival explanation.",
    "A large p-value shows nothing: paraphrase, short training, a wide context or too few answers "
    "leave no trace that could be found.",
    "It holds however often one looks and whenever one stops, for prompts that were chosen "
    "without the key, or by nothing of it but what this watch has shown.",
    "No control model was asked: put one through a watch of its own, with the same prompts.",
)


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        id: its name.
        token_ids: int64, shape (T,), in the provider's tokens.
        prompt_ids: int64, shape (P,), all that it could copy from; None if it is not known.
    """

    id: str
    token_ids: NDArray[np.int64]
    prompt_ids: NDArray[np.int64] | None


@final
@dataclass(frozen=True, slots=True)
class Deployment:
    """What a watch is bound to; fixed before the first answer.

    Attributes:
        config: the deployment.
        key: the key under test.
        tokenizer: the provider's tokenizer.
        alpha: level of a positive verdict.
    """

    config: WatermarkConfig
    key: Key
    tokenizer: TextTokenizer
    alpha: float

    def __post_init__(self) -> None:
        check_fingerprint(self.tokenizer, self.config.tokenizer)
        refuse_dependent_words(self.config.source)
        if self.config.source.draws_without_replacement:
            raise ConfigError(
                f"{self.config.source.name} draws its green lists without replacement, so that "
                "bets on one token after another are not fair; test the answers together with: "
                "heirmark scan, or heirmark probe --access text"
            )
        if key_floor(self.config.source) > math.log10(self.alpha):
            raise ConfigError(
                f"{self.config.source.name} tells at most 2^{self.config.source.distinct_key_bits} "
                f"keys apart, so that no evidence reaches the level {self.alpha:g}; take a higher "
                "one (--alpha)"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the public handles that a state is bound to."""
        bets = repr(default_calibrator(self.config.scheme))
        return {
            "key_id": self.key.key_id,
            "config_fingerprint": self.config.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
            "alpha": self.alpha,
            "bets": hashlib.sha256(bets.encode()).hexdigest(),
        }


@final
@dataclass(frozen=True, slots=True)
class Watch:
    """What has been seen so far. Immutable: `after` gives the next state.

    Attributes:
        deployment: what it is bound to.
        process: the e-process.
        pairs: uint64, ascending, digests of the pairs scored. Two pairs with the same one (1e-7
            among a million) count as one: that drops evidence, and never invents any.
        answers: uint64, ascending, digests of the answers.
        n_tokens: tokens of the answers.
        n_without_prompt: answers that came without their prompt.
        reasons: unscored tokens by reason.
        course: (pairs scored, log10 E) after each answer, for a picture.
    """

    deployment: Deployment
    process: EProcess
    pairs: NDArray[np.uint64]
    answers: NDArray[np.uint64]
    n_tokens: int
    n_without_prompt: int
    reasons: Counter[str]
    course: tuple[tuple[int, float], ...] = ()

    @classmethod
    def begun(cls, deployment: Deployment) -> Self:
        """Start a watch."""
        nothing = np.empty(0, np.uint64)
        process = EProcess(default_calibrator(deployment.config.scheme))
        return cls(deployment, process, nothing, nothing, 0, 0, Counter())

    @property
    def verdict(self) -> Verdict:
        """SIGNAL once E has reached 1 / alpha."""
        return self.process.verdict(self.deployment.alpha, self._effect)

    @property
    def _effect(self) -> float:
        """The published effect, less for a mark that is weaker from the start."""
        return TEXT_EFFECT * mark_strength(self.deployment.config)

    def has_seen(self, answer: Answer) -> bool:
        """Tell whether the same answer to the same prompt was taken in before."""
        return bool(_are_in(_digest_of(answer), self.answers)[0])

    def after(self, answer: Answer) -> Watch:
        """Take in one answer; one that was seen before changes nothing.

        Args:
            answer: the answer.

        Returns:
            The state after it.
        """
        if self.has_seen(answer):
            return self
        config = self.deployment.config
        selection = select_text(
            answer.token_ids,
            config,
            self.deployment.tokenizer.special_ids,
            prompt_ids=answer.prompt_ids,
            drop_repeated_contexts=False,
        )
        digests = _digests(config.source.evidence(Pairs(selection.contexts, selection.tokens)))
        new = ~_are_in(digests, self.pairs)
        reasons = self.reasons + Counter(selection.reason_counts())
        if repeats := int((~new).sum()):
            reasons[_IN_EARLIER_ANSWER] += repeats
        process = self.process.updated(_words(self.deployment, selection, new))
        return replace(
            self,
            process=process,
            pairs=np.union1d(self.pairs, digests),
            answers=np.union1d(self.answers, _digest_of(answer)),
            n_tokens=self.n_tokens + selection.n_tokens,
            n_without_prompt=self.n_without_prompt + (answer.prompt_ids is None),
            reasons=reasons,
            course=(*self.course, (process.n_scored, round(process.log10_e, 4))),
        )

    def result(self) -> dict[str, Any]:
        """Return the JSON result."""
        process, config = self.process, self.deployment.config
        return {
            "kind": "watch",
            "p_value": json_p(process.log10_p),
            "log10_p": process.log10_p,
            "method": "e-process",
            "log10_e": process.log10_e,
            "n_scored": process.n_scored,
            "n_powered": n_powered(self._effect, self.deployment.alpha),
            "n_tokens": self.n_tokens,
            "n_answers": len(self.answers),
            "course": self._shown_course(),
            "reasons": dict(self.reasons),
            "verdict": self.verdict.value,
            "alpha": self.deployment.alpha,
            "scheme": config.scheme.name,
            "context_width": config.context_width,
            "key_id": self.deployment.key.key_id,
            "config_fingerprint": config.fingerprint,
            "warnings": self._warnings(),
            "limits": [*_LIMITS, *binding_limits(config)],
        }

    def _shown_course(self) -> dict[str, list[float]]:
        """Thin the course out for a picture; its peak, which is the p-value, stays."""
        n = len(self.course)
        if not n:
            return {"n_answers": [], "n_scored": [], "log10_e": []}
        peak = max(range(n), key=lambda i: self.course[i][1])
        shown = sorted({*np.linspace(0, n - 1, min(n, _POINTS)).round().astype(int).tolist(), peak})
        # A state of before this was kept lacks its first answers.
        missing = len(self.answers) - n
        return {
            "n_answers": [missing + i + 1 for i in shown],
            "n_scored": [self.course[i][0] for i in shown],
            "log10_e": [self.course[i][1] for i in shown],
        }

    def _warnings(self) -> list[str]:
        if not self.n_without_prompt:
            return []
        return [
            f"{self.n_without_prompt} of {len(self.answers)} answers came without their prompt. "
            "If a prompt shows marked text, an innocent model that copies it looks guilty: give "
            'the prompt as "prompt" or "prompt_ids".'
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `restored` goes on."""
        return {
            "format": _FORMAT,
            **self.deployment.to_dict(),
            "process": self.process.to_dict(),
            "pairs": _packed(self.pairs),
            "answers": _packed(self.answers),
            "n_tokens": self.n_tokens,
            "n_without_prompt": self.n_without_prompt,
            "reasons": dict(self.reasons),
            "course": [list(point) for point in self.course],
        }

    @classmethod
    def restored(cls, deployment: Deployment, payload: Any) -> Self:
        """Read a state back.

        Args:
            deployment: what the watch is bound to.
            payload: what `to_dict` gave.

        Returns:
            The watch.

        Raises:
            FingerprintError: it was begun with another key, config, tokenizer, level or version.
            ResultError: not a state, or a damaged one.
        """
        if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
            raise ResultError(f"the state is not a {_FORMAT} file; name another with --state")
        for name, value in deployment.to_dict().items():
            if payload.get(name) != value:
                raise FingerprintError(
                    f"the state was begun with {name} {payload.get(name)}, and this is {value}; "
                    "go on with what it was begun with, or start a new state"
                )
        try:
            watch = cls._from_fields(deployment, payload)
        except ResultError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
            raise ResultError("the state is damaged; start a new one") from None
        if len(watch.pairs) < watch.process.n_scored or len(watch.answers) < len(watch.course):
            raise ResultError("the state is damaged: something is missing; start a new one")
        return watch

    @classmethod
    def _from_fields(cls, deployment: Deployment, payload: dict[str, Any]) -> Self:
        calibrator = default_calibrator(deployment.config.scheme)
        return cls(
            deployment,
            EProcess.restored(calibrator, payload["process"]),
            _unpacked(payload["pairs"]),
            _unpacked(payload["answers"]),
            int(payload["n_tokens"]),
            int(payload["n_without_prompt"]),
            Counter({str(k): int(v) for k, v in payload["reasons"].items()}),
            _course(payload),
        )


def _course(payload: dict[str, Any]) -> tuple[tuple[int, float], ...]:
    course = tuple((int(n), float(log10_e)) for n, log10_e in payload.get("course", ()))
    if not all(math.isfinite(log10_e) for _, log10_e in course):
        raise ValueError("e-values must be finite")
    return course


def _words(
    deployment: Deployment, selection: Selection, new: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    prf = deployment.config.source.under(deployment.key)
    hashes = prf.context_hashes(np.ascontiguousarray(selection.contexts[new]))
    streams = range(deployment.config.scheme.n_streams)
    return np.stack([prf.words(hashes, selection.tokens[new], stream) for stream in streams])


def _digests(pairs: NDArray[np.int64]) -> NDArray[np.uint64]:
    # A hash under a public key: it only tells pairs apart.
    return Prf(0, 0).context_hashes(np.ascontiguousarray(pairs))[:, 0]


def _digest_of(answer: Answer) -> NDArray[np.uint64]:
    content = hashlib.blake2b(digest_size=8)
    for ids in (answer.prompt_ids, answer.token_ids):
        content.update(b"-" if ids is None else len(ids).to_bytes(8, "little") + ids.tobytes())
    return np.frombuffer(content.digest(), "<u8").astype(np.uint64)


def _are_in(values: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Look values up among ascending ones."""
    places = np.searchsorted(known, values)
    found = np.zeros(len(values), np.bool_)
    inside = places < len(known)
    found[inside] = known[places[inside]] == values[inside]
    return found


def _packed(values: NDArray[np.uint64]) -> str:
    return base64.b64encode(values.astype("<u8").tobytes()).decode("ascii")


def _unpacked(text: str) -> NDArray[np.uint64]:
    values = np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)
    if (values[1:] <= values[:-1]).any():
        raise ValueError("digests must be ascending")
    return values
