"""What was published, as data: no code.

``values.csv``: single values, with what of ours each is compared with, its source and how it was read.
``sources.csv``: a published curve a line: experiment, settings (``where``) and quantity of our rows beside it, source (a file of the released
repository) and how it was read. ``curves.csv``: its points, (curve, update, value); for unrolling ``update`` counts layers, else updates
of the dictionary. ``protocols.yaml``: the settings that the published runs of an experiment were made with, by the keys of the experiment.

"released results" are numbers that the authors stored; "vector figure" are decoded from the paths of a PDF, exact to three digits;
"text" is the text of a paper. Long curves have about a hundred points.
"""
