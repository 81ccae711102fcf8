"""What people read of a bundle must be what its result gives: claim, limits, command line, page."""

from __future__ import annotations

from collections.abc import Iterator

from detect.evidence.bundled import Bundled
from detect.evidence.checks import Check, Outcome
from detect.evidence.environment import environment
from detect.evidence.manifest import claim_of
from detect.evidence.names import REPORT_NAME
from detect.evidence.rerun_line import rerun_line
from detect.evidence.stops import stop_of, stopped
from watermark.errors import MissingExtraError, WatermarkError

__all__ = ["check_words"]

_NAME = "words"


def check_words(bundled: Bundled) -> Check:
    """Compare what people read with what our code makes of the result.

    Args:
        bundled: the bundle.

    Returns:
        The check. Not done where other code of heirmark, which may word things otherwise, is said
        to have made the bundle: then nothing is verified, and the verdict's line says why. Limits
        and null hypothesis are compared with the result's own all the same.
    """
    try:
        wrong = list(_wrong(bundled))
    except MissingExtraError as error:
        return Check(_NAME, Outcome.NOT_DONE, str(error), "page not compared")
    except Exception as error:
        if stop := stop_of(error):
            return stopped(_NAME, stop)
        # Of a result that was made to break it.
        reason = str(error) if isinstance(error, WatermarkError) else type(error).__name__
        return Check(_NAME, Outcome.FAILED, f"the result cannot be put into words: {reason}")
    if not wrong:
        detail = "claim, limits, command line and page are what the result gives"
        return Check(_NAME, Outcome.PASSED, detail)
    here, there = environment(), bundled.manifest.environment
    if all(_of(here, name) == _of(there, name) for name in ("code_sha256", "jinja2")):
        detail = f"not what the result gives: {', '.join(wrong)}"
        return Check(_NAME, Outcome.FAILED, detail)
    if contradicted := list(_contradicted(bundled)):
        detail = f"not what the result says: {', '.join(contradicted)}"
        return Check(_NAME, Outcome.FAILED, detail)
    return Check(
        _NAME,
        Outcome.NOT_DONE,
        f"made by other code of heirmark, and may say anything: {', '.join(wrong)}. Make the page "
        "anew, outside of the bundle: heirmark report result.json -o page.html",
        f"{' and '.join(wrong)} not compared",
    )


def _of(found: object, name: str) -> object:
    assert isinstance(found, dict)
    return found.get(name, found["packages"].get(name))


def _contradicted(bundled: Bundled) -> Iterator[str]:
    """Name what the result itself words, so that no version may word it otherwise."""
    claim, result = bundled.manifest.claim, bundled.result
    limits = tuple(result.get("limits", ()))
    if claim.limits[: len(limits)] != limits or len(claim.limits) == len(limits):
        yield "limits"
    if claim.null_hypothesis != result.get("null_hypothesis", claim.null_hypothesis):
        yield "null hypothesis"


def _wrong(bundled: Bundled) -> Iterator[str]:
    from detect.reporting import render_report

    manifest, made = bundled.manifest, claim_of(bundled.result, bundled.manifest.key_id)
    if manifest.claim != made:
        yield "claim"
    if manifest.rerun != rerun_line(manifest.command, manifest.options, manifest.inputs):
        yield "command line"
    if render_report(bundled.result).encode("utf-8") != bundled.read(REPORT_NAME):
        yield "page"
