"""``python -m pudle`` is the command ``pudle``."""

from pudle.cli import main

main()
