"""Does every number under ``results/<scale>`` follow from its inputs? The manifest of a run, and the commands that read it.

A finished run is a chain from figure to table, rows, cell, and to settings, code and data. ``manifest.json`` records this chain with the
SHA-256 of every file. ``run`` defines the steps of the chain and ``manifest`` writes them. ``checks`` and ``recompute`` compare the files
with them, ``rerun`` runs cells again, ``trace`` follows the chain, ``diff`` compares two runs, and ``archive`` packs a run into one file.
"""
