"""`python -m detect` is the command `heirmark`."""

from detect.cli import main

main()
