"""Plans, trains and scores ladder rungs; the command line on top of prediction and audit."""

__version__ = "0.1.0"
