"""The provider's half of the command line: keys, configs, marked generation.

`detect.cli` adds the investigator's half to the same group, `heirmark`.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import click
from tqdm import tqdm

from watermark.commands.commitments import commitments
from watermark.commands.deployment_options import Spared, deployed, deployment_options
from watermark.commands.options import FiniteRange, chosen_config, config_options, label_options
from watermark.commands.registry import registry
from watermark.config import load_config
from watermark.errors import ConfigError, WatermarkError
from watermark.keyring.key_files import save_key
from watermark.keyring.secret_stores import read_key, read_secret
from watermark.keys import EngineKey, SecretKey
from watermark.storage.files import atomic_writer, read_prompts, read_text_file

__all__ = ["SEED", "FiniteRange", "chosen_config", "config_options", "heirmark", "keys", "progress"]


@final
class _Group(click.Group):
    """Prints our own errors as one line with exit code 1, and no traceback.

    Attributes:
        sections: headings of the help, and the commands that stand under them.
    """

    sections: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section."""
        placed = {name for names in self.sections.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in placed)
        width = formatter.width - 6 - max(map(len, self.commands))
        for heading, names in {**self.sections, "Commands": others}.items():
            rows = [(name, self.commands[name].get_short_help_str(width)) for name in names]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WatermarkError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:
            # The reader went away (head, less): nothing to say, and nobody to say it to.
            sys.stderr.close()
            ctx.exit(1)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            # What was not written would be tried again at the end, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise click.ClickException(f"cannot write the output: {error.strerror}") from None


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, whatever was found; 1 an error; 2 wrong usage; 130 stopped by "
    "Ctrl-C. verify has more. Results make their folder and replace an older file; nothing "
    "replaces a key, an opening, a profile or a bundle.",
)
@click.version_option(package_name="heirmark")
def heirmark() -> None:
    """Mark what a language model says, and prove who learned from it."""


@heirmark.group()
def keys() -> None:
    """Make, derive and look at secret keys."""


@keys.command("new")
@click.argument("path", type=click.Path(path_type=Path))
def keys_new(path: Path) -> None:
    """Draw a fresh 256-bit key and write it to PATH (mode 0600)."""
    key = SecretKey.generate()
    save_key(key, path)
    click.echo(f"wrote {path}; its public key id is {key.key_id}")


@keys.command("show")
@click.argument("path", type=click.Path(path_type=Path))
def keys_show(path: Path) -> None:
    """Print the public key id of the key file PATH."""
    click.echo(read_key(path).key_id)


@keys.command("derive")
@click.argument("master", type=click.Path(path_type=Path))
@click.argument("path", type=click.Path(path_type=Path))
@label_options
def keys_derive(master: Path, path: Path, **labels: str) -> None:
    """Derive a key from MASTER into PATH (mode 0600).

    It is that of a model, an epoch, a cohort or an account, or of several of these together.
    """
    if not any(labels.values()):
        raise click.UsageError(f"give at least one of {', '.join(f'--{name}' for name in labels)}")
    key = read_secret(master).derive(**labels)
    save_key(key, path)
    click.echo(f"wrote {path}; its public key id is {key.key_id}")


@keys.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    help="File with the integers, - for standard input.  [default: asked for, unseen]",
)
def keys_import(path: Path, source: str | None) -> None:
    """Write the key of another engine's mark to PATH (mode 0600).

    The key is one integer or several, in the order of the engine's own config: decimal or 0x...
    (SGLang's are hexadecimal without the 0x), separated by commas or spaces. It is never an
    argument, which other users could see.
    """
    text = read_text_file(source) if source else _asked()
    key = EngineKey(_integers(text))
    save_key(key, path)
    click.echo(f"wrote {path}; its public key id is {key.key_id}")


@keys.command("engine")
@click.argument("secret", type=click.Path(path_type=Path))
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path),
    help="Config of the engine's mark, as written by heirmark config.",
)
def keys_engine(secret: Path, path: Path, config_path: Path) -> None:
    """Derive an engine's own key from a key of ours.

    SECRET is our key, PATH the file of the engine's (mode 0600). The file holds the integers that
    the engine's configuration asks for. Text that is marked under them is found under either key
    file.
    """
    config = load_config(config_path)
    key = EngineKey(config.source.key_of(read_secret(secret)).tolist())
    save_key(key, path)
    click.echo(f"wrote {path}; its public key id is {key.key_id}")


def _asked() -> str:
    try:
        return str(click.prompt("Integers", hide_input=True))
    except click.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise
        raise ConfigError("no key was given; --from FILE reads one without asking") from None


def _integers(text: str) -> list[int]:
    words = text.replace(",", " ").replace("[", " ").replace("]", " ").split()
    try:
        found = [int(word, 0) for word in words]
    except ValueError:
        # Not chained, and without the word: it may be the key with a slip of the pen.
        raise ConfigError(
            "expected integers, decimal or 0x..., separated by commas or spaces"
        ) from None
    if any(i < 0 for i in found):
        # Engines disagree on what a negative key means; a wrong guess would find nothing.
        raise ConfigError(
            "a negative key is written as what the engine makes of it: plus 2^64 - 1 for "
            "transformers' lefthash and three_bricks, plus 2^64 for the others"
        )
    return found


SEED = click.IntRange(0, (1 << 63) - 1)


@contextmanager
def progress(total: int | None, description: str, unit: str) -> Iterator[tqdm[Any]]:
    """Show a progress bar on standard error, on a terminal only.

    Args:
        total: how many units there are, or None if unknown.
        description: what is being done.
        unit: what is counted.

    Yields:
        The bar; call `update(n)`.
    """
    with tqdm(total=total, desc=description, unit=unit, disable=None, unit_scale=True) as bar:
        yield bar


@heirmark.command()
@click.option(
    "--model", default="smollm2", show_default=True, help="Folder, *.gguf, Hub id or smollm2."
)
@click.option(
    "--key", "key_path", type=click.Path(path_type=Path), help="Key file, or env:VARIABLE."
)
@click.option("--unmarked", is_flag=True, help="No mark at all: answers for a control.")
@config_options
@deployment_options
@click.option("--prompt", "single_prompt", help="One prompt.")
@click.option(
    "--prompts", "prompts_path", help='File: one a line, or JSONL with "prompt"; - is stdin.'
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="JSONL file.  [default: stdout]"
)
@click.option("--save-config", type=click.Path(path_type=Path), help="Write the config used.")
@click.option(
    "--max-new-tokens",
    default=128,
    show_default=True,
    type=click.IntRange(1),
    help="Longest answer.",
)
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=FiniteRange(0, min_open=True),
    help="Of the sampling.",
)
@click.option("--top-k", default=0, show_default=True, type=click.IntRange(0), help="0 keeps all.")
@click.option(
    "--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Prompts at once."
)
@click.option(
    "--seed", default=0, show_default=True, type=SEED, help="Of the sampling; not the key."
)
def generate(
    model: str,
    key_path: Path | None,
    unmarked: bool,
    preset_name: str | None,
    config_path: Path | None,
    single_prompt: str | None,
    prompts_path: str | None,
    output: Path | None,
    save_config: Path | None,
    min_entropy: float | None,
    reasoning: tuple[str, str] | None,
    reasoning_unmarked: bool,
    reasoning_open: bool,
    **sampling: Any,
) -> None:
    """Answer prompts with a model, and mark the answers.

    Each answer is a line of JSON with prompt, text and token_ids.
    """
    if unmarked == (key_path is not None):
        raise click.UsageError("give --key FILE to mark, or --unmarked")
    if (single_prompt is None) == (prompts_path is None):
        raise click.UsageError("give --prompt TEXT or --prompts FILE")
    spared = Spared(min_entropy, reasoning, reasoning_unmarked, reasoning_open)
    if unmarked and not spared.is_empty:
        raise click.UsageError("--unmarked leaves all unmarked; give no --min-entropy, --reasoning")
    prompts = [single_prompt] if single_prompt is not None else read_prompts(prompts_path or "-")
    from watermark.generation.answering import answer_prompts

    config = None
    if not unmarked:
        config = deployed(chosen_config(preset_name, config_path), spared, model)
    key = read_key(key_path) if key_path else None
    with progress(len(prompts) * sampling["max_new_tokens"], "generating", "tok") as bar:
        answered = answer_prompts(
            model, prompts, config=config, key=key, on_tokens=bar.update, **sampling
        )
    if save_config and answered.config:
        with atomic_writer(save_config) as file:
            file.write(json.dumps(answered.config.to_dict(), indent=2) + "\n")
    _write_lines(answered.rows, output)


def _write_lines(rows: list[dict[str, Any]], output: Path | None) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if output is None:
        click.echo("\n".join(lines))
        return
    with atomic_writer(output) as file:
        file.writelines(line + "\n" for line in lines)
    click.echo(f"wrote {output}: {len(lines):,} answers")


for _command in (registry, commitments):
    heirmark.add_command(_command)
