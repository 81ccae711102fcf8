"""`vllm serve` in vLLM's environment.

The command itself asks for the version of a package named vllm, and the build for processors has
another name.
"""

from __future__ import annotations

from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.utils.argparse_utils import FlexibleArgumentParser


def main() -> None:
    cli_env_setup()
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args()
    command = ServeSubcommand()
    command.validate(arguments)
    command.cmd(arguments)


if __name__ == "__main__":
    main()
