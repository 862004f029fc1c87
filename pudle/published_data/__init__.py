"""Published values, curves and protocols, as files of data; this package has no code.

``values.csv`` has single values. Each line says which of our rows the value is compared with, its source, and how it was read.
``sources.csv`` has a line for each published curve: the experiment, settings (``where``) and quantity of the rows of ours that are drawn
beside it, its source (a file of the released repository), and how it was read. ``curves.csv`` has the points of the curves (curve, update,
value); ``update`` counts layers for unrolling, and updates of the dictionary otherwise. ``protocols.yaml`` has the settings of the published
runs of an experiment, under the keys of its section.

The source "released results" means numbers that the authors stored, "vector figure" means numbers decoded from the paths of a PDF (exact to
three digits), and "text" means the text of a paper. Long curves have about a hundred points.
"""
