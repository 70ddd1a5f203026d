"""Named ways to predict: which laws are fitted, to which points, by which objective."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evaluation.records import InputError
from predict.fit import Objective
from predict.laws import LAWS, get_law


@dataclass(frozen=True)
class Method:
    """Everything that two fits depend on but the data."""

    name: str
    source: str
    law: str
    """Step 1's law, (params, tokens) -> loss."""
    link: str
    """Step 2's law, loss -> accuracy."""
    window: int
    """Last evaluated checkpoints of a run whose mean is its step-1 point."""
    step1: Objective
    step2: Objective
    skip: float
    """Share of a run's first checkpoints that step 2 leaves out, rounded up."""
    smoothing: int
    """Checkpoints in step 2's trailing mean, fewer at a run's start."""
    ideal_point: bool
    """Whether step 2 is given the point of a perfect model: loss 0, accuracy 1."""


METHODS = {
    "published": Method(
        name="published",
        source="arXiv 2412.04403, sections 3.1 and 3.2, and its code",
        law="chinchilla",
        link="sigmoid",
        window=5,
        step1=Objective(delta=1e-3, log=True),
        step2=Objective(),
        skip=0.1,
        smoothing=5,
        ideal_point=True,
    )
}
"""Methods by the name that --method takes."""

DEFAULT = "published"
"""The method that `default` stands for."""


def get_method(name: str) -> Method:
    """The method of that name; raises InputError with the names there are."""
    name = DEFAULT if name == "default" else name
    if name not in METHODS:
        raise InputError(f"method {name!r}: unknown; there are default, {', '.join(METHODS)}")
    return METHODS[name]


def with_laws(method: Method, law: str | None, link: str | None) -> Method:
    """The method with another law for step 1 or step 2; its name says so.

    Raises InputError for an unknown law, or one that does not fit the step.
    """
    for step, name, inputs in (("law", law, ("params", "tokens")), ("link", link, ("loss",))):
        if name is not None and get_law(name).inputs != inputs:
            fitting = ", ".join(other.name for other in LAWS.values() if other.inputs == inputs)
            raise InputError(
                f"--{step} {name}: takes {' and '.join(get_law(name).inputs)}; use one of {fitting}"
            )
    law, link = law or method.law, link or method.link
    changed = [new for new, old in ((law, method.law), (link, method.link)) if new != old]
    return replace(method, name="+".join((method.name, *changed)), law=law, link=link)
