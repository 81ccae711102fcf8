"""Trace a suspect model: heard once, tested under every key, concluded over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from detect.planning.effects import inherited_effect
from detect.suspect.probe import Control, conclude
from detect.suspect.probing import ProbeRequest
from detect.suspect.used import what_was_used
from detect.tracing.models.concentration import Increments, share_at_least
from detect.tracing.models.findings import (
    Concentrated,
    PooledControl,
    TracedKey,
    adjusted_over,
)
from detect.tracing.models.hearing import Hearing, Progress, hear
from detect.tracing.models.leaks import Traffic
from detect.tracing.models.many_keys import (
    ACCOUNTS,
    arithmetic,
    least_share,
    refuse_revoked,
)
from detect.tracing.models.result import ModelTrace, level_of_each
from detect.tracing.models.under_keys import Scored, refuse_like
from detect.tracing.named_keys import NamedKey, checked

__all__ = ["run_trace", "trace_hearing"]

_SHARE_LEVEL = 0.05


def run_trace(
    request: ProbeRequest,
    keys: Sequence[NamedKey],
    traffic: Traffic,
    prompts_path: str | None,
    reading_path: str | None,
    progress: Progress,
    announce: Callable[[str], object] = lambda line: None,
) -> ModelTrace:
    """Trace a suspect.

    Args:
        request: what and how, as of a probe under the first of the keys.
        keys: from 2 to 16 (`many_keys.refuse_many`), distinct.
        traffic: what was served under them.
        prompts_path: by text, the prompts; None takes those of a recording.
        reading_path: by weights, the reading texts.
        progress: makes progress bars.
        announce: told what endpoints will cost, before they are asked.

    Returns:
        The result.

    Raises:
        ConfigError: two keys of one name, one key twice, or two that another engine's hash merges;
            fewer than two keys that were not revoked.
    """
    keys = checked(keys)
    refuse_revoked(keys)
    secret = [named.key for named in keys]
    refuse_like(secret, request.config, [named.name for named in keys])
    heard = hear(request, secret, prompts_path, reading_path, progress, announce)
    reading = None if reading_path in (None, "-") else Path(str(reading_path))
    files = {"own_texts": request.own_texts, "reading": reading}
    used = what_was_used(request.reference, files, heard.prompts, request.sampling)
    if traffic.served is not None:
        used["served"] = dict(traffic.served)
    return trace_hearing(request, heard, keys, traffic, used)


def trace_hearing(
    request: ProbeRequest,
    heard: Hearing,
    keys: tuple[NamedKey, ...],
    traffic: Traffic,
    used: dict[str, object],
) -> ModelTrace:
    """Test what was heard under every key; see `run_trace`."""
    own = refuse_revoked(keys)
    secret, n = [named.key for named in keys], len(keys)
    level = level_of_each(request.alpha)
    suspect = heard.suspect.heard.under(secret)
    controls = [(each, each.heard.under(secret)) for each in heard.controls]
    probed = [
        conclude(
            heard.suspect.name,
            request.access,
            suspect.outcome(i, level),
            [Control(c.name, "control", s.outcome(i, level), c.note) for c, s in controls],
            heard.n_answers,
        )
        for i in range(n)
    ]
    logs, ceilings = adjusted_over([each.tested.finding for each in probed])
    zs = suspect.centred / (suspect.deviation or 1.0)
    best = max(own, key=lambda i: float(zs[i]))
    planned: Literal["text", "weights"] = "weights" if request.access == "weights" else "text"
    # Without a reference the plan expects less than a request that does not know yet.
    left = suspect.heard.plan.effect / request.plan.effect
    effect = left * inherited_effect(request.config, planned, 1.0).size
    return ModelTrace(
        suspect=heard.suspect.name,
        access=request.access,
        alpha=request.alpha,
        traced=tuple(
            TracedKey(keys[i], probed[i], logs[i], ceilings[i], float(zs[i])) for i in range(n)
        ),
        pooled=suspect.pooled(own),
        others=suspect.pooled([i for i in own if i != best]),
        controls=tuple(PooledControl(c.name, s.pooled(own)) for c, s in controls),
        concentrated=_concentrated(
            request, suspect, [keys[i].name for i in own], own, best, traffic
        ),
        n_answers=heard.n_answers,
        least_share=least_share(effect, n, suspect.heard.n_telling, level),
        arithmetic=arithmetic(request.config, planned, ACCOUNTS, request.alpha),
        used=used,
    )


def _concentrated(
    request: ProbeRequest,
    suspect: Scored,
    names: Sequence[str],
    own: Sequence[int],
    best: int,
    traffic: Traffic,
) -> Concentrated | None:
    if not suspect.heard.is_independent:
        return None
    at = own.index(best)
    increments = Increments.of(suspect.weighted[list(own)], suspect.laws, at)
    n_keys = len(suspect.keys)
    found = Concentrated.of(
        increments, names[at], traffic, request.alpha, n_keys=n_keys, among=names
    )
    share = share_at_least(increments, _SHARE_LEVEL / len(suspect.keys))
    return replace(found, share_at_least=share)
