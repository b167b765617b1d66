"""The papers' equations as plainly as they can be written: what the fast cells are tested against.

Nothing here imports vidpred. A unit is one function: its weights ``W`` (the names of the cell's
parameters), its inputs in the paper's letters, its constants; :mod:`naive.wiring` puts them
together, layer by layer and frame by frame.
"""
