"""`python -m lakeinterp` is the command line."""

from lakeinterp.cli import main

main()
