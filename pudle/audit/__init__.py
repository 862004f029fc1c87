"""Is every number under ``results/<scale>`` what it says it is? The manifest of a run, and everything that reads it.

A finished run is a chain, and ``manifest.json`` holds it with the SHA-256 of every file: figure → table → rows → cell → settings, code, data.
``layout`` knows the links, ``manifest`` writes them down, ``checks`` and ``recompute`` hold the files against them, ``rerun`` runs cells
again, ``trace`` walks the chain, ``diff`` compares two runs, and ``archive`` makes one file of everything.
"""
