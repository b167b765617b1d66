"""Weights of the reference code: one file for each family that does more than name them otherwise.

A family's ``gather`` gives what it recognises the form of our weights, under the names of the
reference or already under ours, and leaves the rest as it is.
"""

from vidpred.reference.translation import translate

__all__ = ["translate"]
