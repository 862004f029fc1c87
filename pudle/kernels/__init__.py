"""Compiled loops behind :mod:`pudle.core`. Nobody needs them to read the mathematics."""
