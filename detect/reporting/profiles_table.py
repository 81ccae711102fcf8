"""Shows a search over deployments: what the text says under each of them."""

from __future__ import annotations

from dataclasses import dataclass

from detect.reporting.exhibits import Exhibit, Figure
from detect.reporting.fields import Fields
from detect.reporting.reader import ClaimView, read_claim
from detect.reporting.shown import count, say
from detect.reporting.sourced import derived

__all__ = ["ProfileView", "ProfilesView", "read_profiles"]


@dataclass(frozen=True, slots=True)
class ProfileView:
    """One deployment and the text's own result under it."""

    name: str
    engine: str
    served: str
    scheme: str
    key_id: str
    claim: ClaimView


@dataclass(frozen=True, slots=True)
class ProfilesView:
    """The deployments, strongest evidence first, and the level that each was tested at."""

    profiles: tuple[ProfileView, ...]
    level: float


def read_profiles(fields: Fields) -> Exhibit:
    """Read what `heirmark detect --profiles` searched.

    Args:
        fields: the result.

    Returns:
        The exhibit.

    Raises:
        ResultError: a field is missing or malformed.
    """
    profiles = [
        ProfileView(
            row.text("name"),
            row.text("engine"),
            # Results of earlier versions do not say.
            row.text("served", default=""),
            row.text("scheme"),
            row.text("key_id"),
            read_claim(row),
        )
        for row in fields.objects("profiles")
    ]
    if not profiles:
        raise fields.refusal("profiles", "a list with at least one profile")
    profiles.sort(key=lambda p: (p.claim.log10_p is None, p.claim.log10_p or 0.0))
    every = f"len({fields.path('profiles')})"
    n_profiles = count(derived(len(profiles), every))
    note = say("of {} that were searched", n_profiles)
    figures = (Figure("Best profile", fields.text("profile"), note),)
    level = derived(fields.number("alpha") / len(profiles), f"{fields.path('alpha')} / {every}")
    return Exhibit("profiles.html", figures, ProfilesView(tuple(profiles), level))
