"""The investigator's half of the command line, added to the provider's: `heirmark`.

Exit codes: 0 done (whatever was found), 1 error, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from detect.commands.bundle import bundle, signing
from detect.commands.calibrate import calibrate
from detect.commands.config import config
from detect.commands.counterfactuals import counterfactuals
from detect.commands.fraction import fraction
from detect.commands.locate import locate
from detect.commands.options import (
    PATH,
    Stopped,
    assessment_options,
    profile_summary,
    show,
)
from detect.commands.power import power
from detect.commands.probe import probe
from detect.commands.profile import profile
from detect.commands.report import report
from detect.commands.scan import scan
from detect.commands.trace import trace
from detect.commands.verify import verify
from detect.commands.watch import watch
from detect.interrupts import run_interruptible
from watermark.cli import FiniteRange, chosen_config, heirmark, keys
from watermark.keyring.secret_stores import read_key
from watermark.schemes.laws import Exponential
from watermark.storage.files import dump_json, read_text_file

if TYPE_CHECKING:
    from detect.profiles import ProfileSearch

__all__ = ["main"]


@heirmark.command()
@click.argument("text", metavar="FILE")
@partial(assessment_options, key_required=False)
@click.option(
    "--profiles",
    "profiles_path",
    type=PATH,
    help="Folder of *.profile.json and *.key.json: which of these deployments made the text?",
)
@click.option("--prompt", "prompt_path", help="File with the prompt that the text answers.")
@click.option("--tokens", is_flag=True, help="List every token with its score, for the report.")
@click.option(
    "--reference",
    help="A model that says how likely each token was, or what an entropy gate left: fewer "
    "tokens do.",
)
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=FiniteRange(0, min_open=True),
    help="With --reference: at which the text is presumed to have been drawn.",
)
def detect(
    text: str,
    key_path: Path | None,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
    as_json: bool,
    output: Path | None,
    profiles_path: Path | None,
    prompt_path: str | None,
    tokens: bool,
    reference: str | None,
    temperature: float,
    **assessment: Any,
) -> None:
    """Test one text for a mark.

    FILE is the text, - standard input. It is tested under one key (--key), or under every
    deployment of a folder (--profiles).
    """
    from detect.text import assess_text
    from watermark.tokens import load_tokenizer

    if (key_path is None) == (profiles_path is None):
        raise click.UsageError("give --key FILE, or --profiles DIR")
    written = read_text_file(text)
    prompt = read_text_file(prompt_path) if prompt_path else None
    if profiles_path:
        _refuse_beside_profiles(preset_name, config_path, reference)
        search = _search(written, profiles_path, prompt=prompt, **assessment)
        show(search.to_dict(tokens=tokens), as_json, output, profile_summary)
        return
    assert key_path is not None
    provider, config = load_tokenizer(tokenizer), chosen_config(preset_name, config_path)
    log_probs = entropies = None
    if reference:
        from detect.suspect.referring import read_as_reference, replay_gate

        read = (reference, provider, prompt, written, temperature)
        # A scheme without a likelihood of single tokens has no other use for a reference.
        if config.min_entropy and not isinstance(config.scheme.law, Exponential):
            entropies = replay_gate(*read)
        else:
            log_probs = read_as_reference(*read)
    result = assess_text(
        written,
        tokenizer=provider,
        config=config,
        key=read_key(key_path),
        prompt=prompt,
        log_probs=log_probs,
        entropies=entropies,
        **assessment,
    )
    show(result.to_dict(tokens=tokens), as_json, output)


def _refuse_beside_profiles(*given: object) -> None:
    source = click.get_current_context().get_parameter_source("tokenizer")
    if any(given) or source is not ParameterSource.DEFAULT:
        raise click.UsageError(
            "profiles name config and tokenizer themselves; they take no --preset, --config, "
            "--tokenizer or --reference"
        )


def _search(written: str, folder: Path, **assessment: Any) -> ProfileSearch:
    from detect.profiles import search_profiles
    from watermark.profiles import load_profiles
    from watermark.tokens import load_tokenizer

    served = load_profiles(folder)
    return search_profiles(written, served, tokenizer_of=cache(load_tokenizer), **assessment)


@heirmark.command()
@click.option(
    "--output",
    "-o",
    type=PATH,
    default=Path("demo-run"),
    show_default=True,
    help="Folder; an interrupted run in it is resumed.",
)
@click.option(
    "--model", default="smollm2", show_default=True, help="Teacher: folder, Hub id or smollm2."
)
@click.option("--quick", is_flag=True, help="A smaller run, for a look; its signal may be weak.")
@click.option("--json", "as_json", is_flag=True, help="Print demo.json at the end.")
def demo(output: Path, model: str, quick: bool, as_json: bool) -> None:
    """Prove an inheritance, live, in 10 to 25 minutes.

    A real model answers under a fresh key, a student learns from its answers, and both students
    and controls are tested.
    """
    from detect.demo.folder import FULL, QUICK
    from detect.demo.run import run_demo

    try:
        payload = run_demo(
            output,
            model,
            size=QUICK if quick else FULL,
            say=lambda line: click.echo(line, err=as_json),
        )
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped; what is done is kept in {output}. Run the same command to go on from there"
        ) from None
    if as_json:
        click.echo(dump_json(payload), nl=False)


_COMMANDS = (
    scan, probe, locate, fraction, watch, power, calibrate, counterfactuals, config, profile,
    report, trace, bundle, verify,
)  # fmt: skip
_SECTIONS = MappingProxyType(
    {
        "Mark": ("keys", "config", "generate", "registry", "commitments", "profile"),
        "Test a text or a corpus": ("detect", "scan", "locate", "fraction", "trace"),
        "Test a model": ("probe", "watch", "counterfactuals", "demo"),
        "Plan, check and show": ("power", "calibrate", "report", "bundle", "verify"),
    }
)
for _command in _COMMANDS:
    heirmark.add_command(_command)
heirmark.sections = _SECTIONS
keys.add_command(signing)


def main() -> int:
    """Run the command line.

    Returns:
        The exit code.
    """
    return run_interruptible(_run)


def _run() -> int:
    try:
        code = heirmark(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 1
    return code if isinstance(code, int) else 0
