"""Functional forms with named, bounded parameters and analytic gradients: the one registry, whole.

The laws stand in predict.loss_laws, predict.published_laws and predict.step2_laws; importing this
module registers all of them.
"""

from evaluation.records import InputError
from predict import loss_laws, published_laws, step2_laws
from predict.registry import (
    INPUTS,
    LAWS,
    Array,
    Grid,
    Law,
    Parameter,
    get_law,
    law_inputs,
    register,
)

__all__ = [
    "INPUTS",
    "LAWS",
    "Array",
    "Grid",
    "InputError",
    "Law",
    "Parameter",
    "get_law",
    "law_inputs",
    "loss_laws",
    "published_laws",
    "register",
    "step2_laws",
]
