"""How many requests a server marked, left unmarked or refused: a Prometheus counter.

vLLM brings `prometheus_client` and serves its registry at /metrics; elsewhere nothing is counted.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any, Final

__all__ = ["count_request"]

# Requests are admitted in threads, and a registry refuses a second counter of the same name.
_LOCK: Final = Lock()


def count_request(status: str) -> None:
    """Count a request.

    Args:
        status: of the ruling, or "refused".
    """
    with _LOCK:
        counter = _counter()
    if counter is not None:
        counter.labels(status=status).inc()


@cache
def _counter() -> Any:
    try:
        from prometheus_client import Counter
    except ImportError:
        return None
    return Counter(
        "heirmark_requests", "Requests by what became of them under the policy.", ["status"]
    )
