"""Named ways to predict: which laws are fitted, to which points, by which objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluation.records import InputError
from predict.fit import Objective
from predict.laws import LAWS, get_law


@dataclass(frozen=True)
class NormalPrior:
    """A normal prior on one parameter of a law."""

    parameter: str
    mean: float
    sd: float


@dataclass(frozen=True)
class Widths:
    """What an interval's half-width is made of, see predict.intervals."""

    climb: float
    """Error of the form per climb above the top rung."""
    spread: float
    """Error per standard deviation between the chains."""
    parameters: float
    """Error per standard error of the fitted parameters."""


@dataclass(frozen=True)
class Chain:
    """One way from (params, tokens) to an accuracy.

    `own` goes by the task's own feature, `shared` by the geometric mean of the features of all
    tasks that move clearly with scale, both through a step 2; `direct` fits a law to the accuracy.
    """

    kind: str
    law: str
    """Step 1's law, of (params, tokens)."""
    link: str | None
    """Step 2's law, loss -> accuracy; None for a direct chain."""
    objective: Objective
    """Step 1's; with a noise that is re-estimated, delta is in units of it."""
    widths: Widths
    """Of the accuracy's interval where this chain alone predicts."""
    priors: tuple[NormalPrior, ...] = ()
    noise: tuple[float, float] | None = None
    """Least and greatest relative noise of a rung, estimated in between from the residuals; None
    leaves residuals unscaled."""
    votes: bool = True
    """Whether it predicts the accuracy, or only the loss."""


@dataclass(frozen=True)
class Method:
    """Everything that a prediction depends on but the data; the median of its chains predicts."""

    name: str
    source: str
    chains: tuple[Chain, ...]
    window: int
    """Last evaluated checkpoints of a run whose mean is its step-1 point."""
    step2: Objective
    skip: float
    """Share of a run's first checkpoints that step 2 leaves out, rounded up."""
    smoothing: int
    """Checkpoints in step 2's trailing mean, fewer at a run's start."""
    ideal_point: bool
    """Whether step 2 is given the point of a perfect model: loss 0, accuracy 1."""
    centre_sd: float | None
    """SD of the priors' means: the shared feature, fitted with priors this wide, says where they
    are before the tasks are fitted with the chains' own. None keeps them."""
    reruns_share: bool
    """Whether runs of the same params and tokens share the weight of one."""
    widths: Widths
    """Of the accuracy's interval where several chains predict."""
    loss_widths: Widths

    def widths_of(self, votes: Sequence[str]) -> Widths:
        """The widths that go with the chains that vote."""
        alone = [c.widths for c in self.chains if c.kind in votes and c.votes]
        return alone[0] if len(alone) == 1 else self.widths


_ROBUST = Objective(delta=2.0, log=True)
_EXPONENTS = (NormalPrior("alpha", 0.3, 0.05), NormalPrior("beta", 0.3, 0.05))
_SLOW = (NormalPrior("alpha", 0.15, 0.05), NormalPrior("beta", 0.15, 0.05))
_NOISE = (0.002, 0.05)
_OWN = Chain(
    "own",
    "chinchilla_scaled",
    "sigmoid",
    _ROBUST,
    Widths(climb=0.14, spread=0, parameters=0.7),
    _EXPONENTS,
    _NOISE,
)
_SHARED = replace(_OWN, kind="shared", widths=Widths(climb=0.15, spread=0, parameters=0.9))
_DIRECT = Chain(
    "direct",
    "chinchilla_scaled",
    None,
    _ROBUST,
    Widths(climb=0.3, spread=0, parameters=2.5),
    _SLOW,
    _NOISE,
)
_PUBLISHED = Chain(
    "own",
    "chinchilla",
    "sigmoid",
    Objective(delta=1e-3, log=True),
    Widths(climb=0.27, spread=0, parameters=0.8),
)

METHODS = {
    method.name: method
    for method in (
        Method(
            name="default",
            source="median of three chains, chosen by back-tests: benchmarks/methods.md",
            chains=(_OWN, _SHARED, _DIRECT),
            window=5,
            step2=Objective(),
            skip=0.1,
            smoothing=5,
            ideal_point=True,
            centre_sd=0.15,
            reruns_share=True,
            widths=Widths(climb=0.07, spread=0.6, parameters=0.3),
            loss_widths=Widths(climb=0.17, spread=0, parameters=0.83),
        ),
        Method(
            name="published",
            source="arXiv 2412.04403, sections 3.1 and 3.2, and its code",
            chains=(_PUBLISHED,),
            window=5,
            step2=Objective(),
            skip=0.1,
            smoothing=5,
            ideal_point=True,
            centre_sd=None,
            reruns_share=False,
            widths=_PUBLISHED.widths,
            loss_widths=Widths(climb=0.3, spread=0, parameters=0.2),
        ),
    )
}
"""Methods by the name that --method takes."""


def _variant(name: str, source: str, *chains: Chain) -> None:
    METHODS[name] = replace(METHODS["default"], name=name, source=source, chains=chains)


_LOSS_ONLY = replace(_OWN, votes=False)
_SINGLE_STEP = Chain(
    "direct",
    "single_step",
    None,
    Objective(delta=1e-3, log=True),
    Widths(climb=0.4, spread=0, parameters=0.1),
)
_variant("own", "the default's first chain alone", _OWN)
_variant("shared", "the default's second chain alone", _LOSS_ONLY, _SHARED)
_variant("direct", "the default's third chain alone", _LOSS_ONLY, _DIRECT)
_variant(
    "single_step", "arXiv 2412.04403, section 5: seven parameters at once", _LOSS_ONLY, _SINGLE_STEP
)
METHODS["kaplan"] = replace(
    METHODS["own"],
    name="kaplan",
    source="Kaplan et al. 2020's L(N, D), which has no floor, then the sigmoid",
    chains=(replace(_OWN, law="kaplan", priors=(), widths=Widths(0.27, 0, 0.4)),),
    centre_sd=None,
)
METHODS["gadre"] = replace(
    METHODS["own"],
    name="gadre",
    source="Gadre et al. 2024: L(C, D / N), then the error as an exponential of the loss",
    chains=(replace(_OWN, law="gadre", link="gadre_error", priors=(), widths=Widths(0.3, 0, 0.1)),),
    ideal_point=False,
    centre_sd=None,
)
_variant(
    "krajewski",
    "Krajewski et al. 2025: -log Q from N and D, Q the accuracy rescaled by guessing",
    _LOSS_ONLY,
    Chain("direct", "krajewski", None, _ROBUST, Widths(0.2, 0, 0.4), (), _NOISE),
)


def get_method(name: str) -> Method:
    """The method of that name; raises InputError with the names there are."""
    if name not in METHODS:
        raise InputError(f"method {name!r}: unknown; there are {', '.join(METHODS)}")
    return METHODS[name]


def with_laws(method: Method, law: str | None, link: str | None) -> Method:
    """The method with another law for step 1 or step 2 of every chain; its name says so.

    Priors stay with the law that they were measured for. Raises InputError for an unknown law,
    or one that does not fit the step.
    """
    for step, name, fits in (("law", law, _is_step1), ("link", link, _is_link)):
        if name is not None and not fits(get_law(name).name):
            fitting = ", ".join(other for other in LAWS if fits(other))
            hint = "; it is a method of its own, --method single_step" * (name == "single_step")
            raise InputError(
                f"--{step} {name}: takes {' and '.join(get_law(name).inputs)} and gives "
                f"{get_law(name).output}; use one of {fitting}{hint}"
            )
    if link is not None and all(c.link is None for c in method.chains if c.votes):
        raise InputError(f"--link {link}: method {method.name} has no step 2")
    chains, changed = [], []
    for chain in method.chains:
        new = chain
        if law is not None and law != chain.law and chain.kind != "direct":
            new = replace(new, law=law, priors=())
            changed.append(law)
        if link is not None and chain.link is not None and link != chain.link:
            new = replace(new, link=link)
            changed.append(link)
        chains.append(new)
    name = "+".join(dict.fromkeys((method.name, *changed)))
    return replace(method, name=name, chains=tuple(chains))


def _is_step1(name: str) -> bool:
    known = {"params", "tokens", "flops"}
    return set(LAWS[name].inputs) <= known and LAWS[name].output == "loss"


def _is_link(name: str) -> bool:
    return LAWS[name].inputs == ("loss",)
