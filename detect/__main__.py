"""The command `heirmark`, also as `python -m detect`."""

import sys

from detect.interrupts import leave_on_interrupt

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    # What follows imports for a good part of a second.
    leave_on_interrupt()
    from detect.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
