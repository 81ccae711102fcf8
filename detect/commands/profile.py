"""`heirmark profile`: describe one deployment, for `heirmark detect --profiles`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import click

from detect.commands.options import PATH, deployment_options
from watermark.cli import chosen_config
from watermark.errors import ConfigError
from watermark.keyring.secret_stores import read_key
from watermark.profiles import Profile
from watermark.storage.files import atomic_writer, dump_json

__all__ = ["profile"]

_ENDING: Final = ".profile.json"
_DAY: Final = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("path", type=PATH)
@click.option("--name", required=True, help="How results call it.")
@click.option("--engine", required=True, help='What served it, in words: "vLLM 0.33.0".')
@click.option("--from", "served_from", type=_DAY, help="First day that it was served.")
@click.option("--until", "served_until", type=_DAY, help="Last day that it was served.")
@deployment_options
def profile(
    path: Path,
    name: str,
    engine: str,
    served_from: datetime | None,
    served_until: datetime | None,
    key_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
) -> None:
    """Describe a deployment, to be found by detect --profiles.

    PATH is NAME.profile.json, with engine, mark, tokenizer, key id and days of the deployment. Keep
    it in one folder with the others and their key files.
    """
    if not path.name.endswith(_ENDING):
        raise click.UsageError(f"a profile's file is called NAME{_ENDING}, got {path.name}")
    if path.exists():
        raise ConfigError(f"{path} exists already; a profile is never overwritten")
    from watermark.tokens import check_fingerprint, load_tokenizer

    config, key = chosen_config(preset_name, config_path), read_key(key_path)
    loaded = load_tokenizer(tokenizer)
    check_fingerprint(loaded, config.tokenizer)
    # A key that does not fit the mark is found here, not in a search years later.
    config.source.key_of(key)
    made = Profile(
        name=name,
        engine=engine,
        tokenizer=tokenizer,
        key_id=key.key_id,
        config=config.bound_to(loaded.fingerprint),
        served_from=served_from.date() if served_from else None,
        served_until=served_until.date() if served_until else None,
    )
    with atomic_writer(path) as file:
        file.write(dump_json(made.to_dict()))
    click.echo(f"wrote {path}; key {key.key_id}")
