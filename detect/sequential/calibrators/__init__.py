"""Calibrators: which bets are placed on words, and the choice of them for each scheme."""

from __future__ import annotations

from detect.sequential.calibrators.base import Calibrator as Calibrator
from detect.sequential.calibrators.base import Known as Known
from detect.sequential.calibrators.base import Mixture as Mixture
from detect.sequential.calibrators.base import Scored as Scored
from detect.sequential.calibrators.score_bets import BetaMixture as BetaMixture
from detect.sequential.calibrators.score_bets import Tilts as Tilts
from detect.sequential.calibrators.score_bets import tilts_for as tilts_for
from detect.sequential.calibrators.word_bets import Layers as Layers
from detect.sequential.calibrators.word_bets import Likelihood as Likelihood
from detect.sequential.calibrators.word_bets import Spectra as Spectra
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel

__all__ = [
    "BetaMixture",
    "Calibrator",
    "Known",
    "Layers",
    "Likelihood",
    "Mixture",
    "Scored",
    "Spectra",
    "Tilts",
    "default_calibrator",
    "tilts_for",
]


def default_calibrator(scheme: Scheme) -> Calibrator:
    """Choose the bets for a scheme, by measurement (benchmarks.stopping_time).

    Median pairs to E >= 10^6 on direct text of the real model, and for a weak signal (0.05
    standard deviations, real words diluted):

    - Dual key: tilts and spectra 24 and 10,700; tilts alone 29 and 12,500, spectra alone 23 and
      10,500, the best single h_Delta 32 and 9,200 (another Delta each). A fixed-sample test that
      knows its length beforehand needs 20. The mixture pays at most ln 2 for not knowing which
      score a student's tilt follows.
    - Red-green: tilts 85 and 11,500; `BetaMixture` 80 and 12,700.
    - Tournament: tilts 26 and 13,300; `Layers`, whose decay was fitted to such text, 25 and 12,200.

    Args:
        scheme: the scheme.

    Returns:
        Its calibrator, a function of the scheme alone.
    """
    match scheme:
        case Gumbel():
            return Mixture((tilts_for(scheme), Spectra(0.0)))
        case DualGumbel():
            return Mixture((tilts_for(scheme), Spectra(scheme.alpha)))
        case _:
            return tilts_for(scheme)
