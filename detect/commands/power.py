"""`heirmark power`: how much is needed, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from detect.commands.options import PATH, alpha_option, result_options, score_option, show
from watermark.cli import FiniteRange, chosen_config, config_options

if TYPE_CHECKING:
    from detect.planning.pilots import EffectPilot, TextPilot
    from detect.scoring.scorers import Use
    from watermark.config import WatermarkConfig

__all__ = ["power"]

_BUDGETS: Final = {"direct": 1_000, "text": 1_000_000, "weights": 1_000_000}
_SHARE = FiniteRange(0, 1, min_open=True, max_open=True)


@click.command()
@config_options
@click.option(
    "--access",
    type=click.Choice(list(_BUDGETS)),
    default="direct",
    show_default=True,
    help="A text itself, or a suspect model by its answers or by its weights.",
)
@alpha_option
@click.option(
    "--power",
    "wanted",
    default=0.9,
    show_default=True,
    type=_SHARE,
    help="Chance that a mark is to be found with.",
)
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    type=FiniteRange(0, 1, min_open=True),
    help="Marked share of the text or of the suspect's training data; with --pilot, against it.",
)
@click.option("--entropy", type=float, help="Direct: nats a token.  [default: SmolLM2's]")
@click.option("--temperature", type=float, help="Direct: instead of --entropy, SmolLM2's at it.")
@click.option(
    "--answer-tokens",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="Length of an answer.",
)
@click.option(
    "--budget",
    type=click.IntRange(1),
    help="Tokens that can be had.  [default: 1,000 direct, 1,000,000 of a suspect]",
)
@click.option(
    "--pilot",
    type=PATH,
    help="JSON result of detect (--tokens), scan or probe, or with --key a corpus of marked text.",
)
@click.option("--key", "key_path", type=PATH, help="Key of the pilot's text.")
@click.option("--tokenizer", default="smollm2", show_default=True, help="Of the pilot's text.")
@score_option
@result_options
def power(**options: Any) -> None:
    """Tell how many tokens or answers a test needs.

    Where a test would need more than can be had, the result says so.
    """
    from detect.planning.planning import plan_power
    from detect.planning.power_plan import PowerRequest
    from detect.scoring.scorers import choose_scorer

    access = options["access"]
    config = chosen_config(options["preset_name"], options["config_path"])
    if options["score"] and access != "direct" and not options["pilot"]:
        raise click.UsageError("effects of a suspect are known for one score; drop --score")
    pilot = _pilot(options, config) if options["pilot"] else None
    request = PowerRequest(
        config=config,
        access=access,
        alpha=options["alpha"],
        power=options["wanted"],
        share=options["share"],
        entropy=_entropy(options),
        answer_tokens=options["answer_tokens"],
        budget=options["budget"] or _BUDGETS[access],
        pilot=pilot,
        scorer=choose_scorer(options["score"], config.scheme, _use(access)),
    )
    show(plan_power(request).to_dict(), options["as_json"], options["output"], _summary)


def _use(access: str) -> Use:
    return "direct" if access == "direct" else "inherited"


def _entropy(options: dict[str, Any]) -> float:
    from detect.planning.entropies import MODEL_ENTROPY, entropy_at

    entropy, temperature = options["entropy"], options["temperature"]
    if entropy is not None and temperature is not None:
        raise click.UsageError("give --entropy or --temperature, not both")
    if entropy is None and temperature is None:
        return MODEL_ENTROPY
    if options["access"] != "direct" or options["pilot"]:
        raise click.UsageError("--entropy and --temperature are for --access direct, no --pilot")
    return entropy if entropy is not None else entropy_at(temperature)


def _pilot(options: dict[str, Any], config: WatermarkConfig) -> TextPilot | EffectPilot:
    from detect.planning.pilots import pilot_of_result, score_documents
    from watermark.storage.files import read_json

    path: Path = options["pilot"]
    if options["key_path"] is None:
        if path.suffix != ".json":
            raise click.UsageError("--pilot TEXTS needs --key FILE; a JSON result does not")
        if options["score"]:
            raise click.UsageError("a JSON result has its own score; leave out --score")
        return pilot_of_result(read_json(path), config)
    from detect.scanning.in_order import read_documents
    from detect.scoring.scorers import choose_scorer
    from watermark.keyring.secret_stores import read_key
    from watermark.tokens import check_fingerprint, load_tokenizer

    scorer = choose_scorer(options["score"], config.scheme, _use(options["access"]))
    tokenizer = load_tokenizer(options["tokenizer"])
    check_fingerprint(tokenizer, config.tokenizer)
    return score_documents(
        read_documents(path), tokenizer, config, read_key(options["key_path"]), scorer
    )


def _summary(payload: dict[str, Any]) -> str:
    what = {"direct": "one text", "text": "answers", "weights": "reading texts"}
    lines = [
        f"test      {what[payload['access']]}: {payload['scheme']}, context width "
        f"{payload['context_width']}, alpha {payload['alpha']:g}, power {payload['power']:g}, "
        f"marked share {payload['share']:.3g}, score {payload['score']}",
        f"effect    {payload['effect']:.3g} null standard deviations a scored pair",
        f"needed    {_amount(payload, 'n_tokens')} tokens ({_amount(payload, 'n_scored')} scored)",
        f"answers   {_amount(payload, 'n_answers')} of {payload['answer_tokens']} tokens, pooled",
        f"normal    {_count(payload['first_order_n_scored'])} scored, by the first-order formula",
    ]
    if stopping := payload["expected_stopping_n_scored"]:
        lines.append(f"early     stops after {_count(stopping)} scored on average, if sequential")
    if basis := payload["basis"]:
        lines.append(
            f"basis     {basis['size']:g} measured at h = {basis['context_width']}: "
            f"{basis['setting']} ({basis['source']}). It does not carry over."
        )
    lines += [f"assumed   {sentence}" for sentence in payload["assumptions"]]
    return "\n".join([*lines, *_reach(payload)])


def _reach(payload: dict[str, Any]) -> list[str]:
    """Say what the budget reaches and, above all, what it does not."""
    budget = f"{payload['budget']:,} tokens"
    lines = [f"budget    {budget}: {'enough' if payload['detectable'] else 'NOT ENOUGH'}"]
    if payload["least_share"] is None:
        lines.append("          no marked share is found with it")
    else:
        lines.append(f"          finds marked shares from {payload['least_share']:.2g} up")
    for case in sorted(payload["prospects"], key=lambda case: not case["detectable"]):
        label = "in reach " if case["detectable"] else "NOT      "
        lines.append(f"{label} {case['what']}: {_count(case['n_tokens'])} tokens")
    return lines


def _amount(payload: dict[str, Any], name: str) -> str:
    text = _count(payload[name])
    if ends := payload.get(f"{name}_range"):
        text += f" [{_count(ends[0])} to {_count(ends[1])}]"
    return text


def _count(number: float | None) -> str:
    """Write a count to three digits; beyond reach in words."""
    if number is None or number > 1e9:
        return "more than 10^9"
    return f"{float(f'{number:.3g}'):,.0f}" if number >= 1000 else f"{number:,.0f}"
