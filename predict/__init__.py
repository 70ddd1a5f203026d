"""Predicts a big model's benchmark scores from a ladder of small ones: numbers only, no torch."""

from evaluation.records import InputError, read_observations, write_observations
from predict.audit import Audit, AuditRow, audit
from predict.task_fit import Prediction, Target
from predict.two_stage import TwoStage

__all__ = [
    "Audit",
    "AuditRow",
    "InputError",
    "Prediction",
    "Target",
    "TwoStage",
    "audit",
    "read_observations",
    "write_observations",
]
