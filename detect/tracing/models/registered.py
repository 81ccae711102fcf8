"""Cohorts and epochs as a registry knows them: their keys, what was revoked, what was served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, final

from watermark.config import WatermarkConfig
from watermark.errors import RegistryError
from watermark.keyring.listed_keys import ListedKey, Revocation

if TYPE_CHECKING:
    from watermark.registry.records import IssuedKey
    from watermark.registry.registry import Registry

__all__ = ["Counted", "Registered", "Wanted", "registered_keys"]

Counted = Literal["exchanges", "tokens", "none"]
# Names that an error lists.
_LISTED: Final = 16


@final
class Wanted(NamedTuple):
    """Which keys of a registry are traced.

    Attributes:
        master_key_id: of the secret that they were derived from.
        model: their model; None where the registry knows only one.
        epochs: only these; all if empty.
        cohorts: only these; all if empty.
    """

    master_key_id: str
    model: str | None = None
    epochs: Sequence[str] = ()
    cohorts: Sequence[str] = ()


@final
class Registered(NamedTuple):
    """What a registry says of the keys under test.

    Attributes:
        listed: labels and revocations, in the order of issue.
        served: exchanges or tokens by the keys' names, in the same order; None if not asked for.
        n_unseen: what was counted under other keys of the same master and model.
    """

    listed: list[ListedKey]
    served: dict[str, int] | None
    n_unseen: int = 0


def registered_keys(
    registry: Registry, wanted: Wanted, config: WatermarkConfig, counted: Counted
) -> Registered:
    """Read the keys of cohorts and epochs: those that were issued to no account, for no purpose.

    Retired and revoked keys too: what they marked is out there.

    Args:
        registry: the registry.
        wanted: which keys.
        config: the deployment under test.
        counted: which sums are the traffic; "none" reads none.

    Returns:
        Keys and traffic.

    Raises:
        RegistryError: no such key; several models; an epoch or cohort that no key has; a config
            that is not the one they are served with; a key under which nothing was counted.
    """
    from watermark.registry.records import KeyFilter

    found = KeyFilter(account="", purpose="", master_key_id=wanted.master_key_id)
    issued = list(registry.keys(found._replace(model=wanted.model)))
    if not issued:
        raise _nothing(registry, wanted)
    _check_model(issued)
    for label, names in (("epoch", wanted.epochs), ("cohort", wanted.cohorts)):
        known = list(dict.fromkeys(getattr(key.labels, label) for key in issued))
        if unknown := [name for name in names if name not in known]:
            raise RegistryError(
                f"the registry knows no key of the {label} {_names(unknown)} that was issued to no "
                f"account; it knows {_names(known)}"
            )
    issued = [
        key
        for key in issued
        if (not wanted.epochs or key.labels.epoch in wanted.epochs)
        and (not wanted.cohorts or key.labels.cohort in wanted.cohorts)
    ]
    _check_config(registry, issued, config)
    served = _served(issued, counted)
    if served is None:
        return Registered([_listed(key) for key in issued], None)
    every = KeyFilter(model=issued[0].labels.model, master_key_id=wanted.master_key_id)
    tested = {key.key_id for key in issued}
    n_unseen = sum(_count(key, counted) for key in registry.keys(every) if key.key_id not in tested)
    return Registered([_listed(key) for key in issued], served, n_unseen)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(ascii(name) for name in names[:_LISTED]) + more


def _nothing(registry: Registry, wanted: Wanted) -> RegistryError:
    from watermark.registry.records import KeyFilter

    every = KeyFilter(model=wanted.model, master_key_id=wanted.master_key_id)
    of = f" of the model {wanted.model!a}" if wanted.model else ""
    if next(iter(registry.keys(every)), None) is None:
        return RegistryError(
            f"the registry knows no key{of} that was derived from the master {wanted.master_key_id}"
        )
    return RegistryError(
        f"all keys{of} were issued to accounts: what was served under an account's key shows "
        "nothing under its cohort's. A model is traced to keys that whole cohorts or epochs were "
        "served under (heirmark registry issue without --account); an account is named from its "
        "text: heirmark trace text"
    )


def _check_model(issued: Sequence[IssuedKey]) -> None:
    models = sorted({key.labels.model for key in issued})
    if len(models) > 1:
        raise RegistryError(
            f"the registry has keys of the models {_names(models)}; say which one served what the "
            "suspect may have learned from: --label-model"
        )


def _check_config(registry: Registry, issued: Sequence[IssuedKey], config: WatermarkConfig) -> None:
    """Refuse another mark than the one served, and unequal ones; a tokenizer's binding is none."""
    served = {key.config: registry.config(key.config) for key in issued}
    if len({replace(one, tokenizer=None) for one in served.values()}) > 1:
        names = {one: [k.labels.name for k in issued if k.config == one] for one in served}
        by_config = "; ".join(f"{one[:19]}...: {_names(names[one])}" for one in served)
        raise RegistryError(
            f"these keys are served with different configs ({by_config}); only equal marks are "
            "compared: choose by --epoch and --cohort"
        )
    first = next(iter(served))
    if replace(served[first], tokenizer=None) != replace(config, tokenizer=None):
        raise RegistryError(
            f"these keys are served with the config {first[:19]}..., the test's is "
            f"{config.fingerprint[:19]}...; give the config that the text was marked with: --config"
        )


def _listed(key: IssuedKey) -> ListedKey:
    from watermark.registry.records import utc_text

    revocation = None
    if key.state == "revoked":
        at = utc_text(key.revoked_at) if key.revoked_at else None
        revocation = Revocation(at, key.revoked_reason)
    return ListedKey(key.labels, key.state, revocation)


def _served(issued: Sequence[IssuedKey], counted: Counted) -> dict[str, int] | None:
    if counted == "none":
        return None
    served = {key.labels.name: _count(key, counted) for key in issued}
    if nothing := [name for name, n in served.items() if not n]:
        raise RegistryError(
            f"the registry counts no {counted} under {_names(nothing)}. Count what was served "
            "(heirmark registry count); or leave out what served nothing, which cannot have "
            "leaked (--epoch, --cohort); or trace without counters: --traffic none"
        )
    return served


def _count(key: IssuedKey, counted: Counted) -> int:
    return key.served.n_tokens if counted == "tokens" else key.served.n_exchanges
