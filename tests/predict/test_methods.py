"""Methods by name, and other laws in the place of theirs."""

from __future__ import annotations

import pytest

from predict import InputError
from predict.laws import get_law
from predict.methods import METHODS, get_method, with_laws


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_first_chain_goes_by_the_tasks_own_loss(name: str) -> None:
    method = get_method(name)
    assert method.name == name
    assert method.chains[0].kind == "own"
    assert any(chain.votes for chain in method.chains)
    for chain in method.chains:
        assert (chain.link is None) == (chain.kind == "direct")
        assert {p.parameter for p in chain.priors} <= set(get_law(chain.law).names)


def test_the_widths_are_those_of_the_chains_that_vote() -> None:
    method = get_method("default")
    assert method.widths_of(["own", "shared", "direct"]) == method.widths
    assert method.widths_of(["direct"]) == method.chains[2].widths


def test_another_law_drops_the_priors_that_were_measured_for_the_old_one() -> None:
    changed = with_laws(get_method("default"), "compute", "weibull")
    assert changed.name == "default+compute+weibull"
    assert [c.law for c in changed.chains] == ["compute", "compute", "chinchilla_scaled"]
    assert [c.link for c in changed.chains] == ["weibull", "weibull", None]
    assert changed.chains[0].priors == ()
    assert changed.chains[2].priors
    assert with_laws(get_method("default"), None, None) == get_method("default")


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="there are default, published"):
        get_method("best")
    with pytest.raises(InputError, match="takes loss and gives accuracy; use one of chinchilla"):
        with_laws(get_method("published"), "sigmoid", None)
    with pytest.raises(InputError, match="gives accuracy; use one of chinchilla"):
        with_laws(get_method("published"), "single_step", None)
    with pytest.raises(InputError, match="use one of sigmoid"):
        with_laws(get_method("published"), None, "compute")


def test_a_link_is_refused_where_no_chain_that_votes_has_one() -> None:
    for name in ("direct", "single_step"):
        with pytest.raises(InputError, match="has no step 2"):
            with_laws(get_method(name), None, "weibull")


def test_the_laws_of_papers_are_methods_and_laws_of_step_1() -> None:
    kaplan, gadre, krajewski = (get_method(n) for n in ("kaplan", "gadre", "krajewski"))
    assert kaplan.chains[0].law == "kaplan"
    assert (gadre.chains[0].law, gadre.chains[0].link) == ("gadre", "gadre_error")
    # An exponential of the loss is not 1 at loss 0.
    assert not gadre.ideal_point
    assert [c.kind for c in krajewski.chains if c.votes] == ["direct"]
    for law in ("kaplan", "gadre", "kaplan_c", "kaplan_n", "kaplan_d"):
        assert with_laws(get_method("published"), law, None).chains[0].law == law
    for law in ("kaplan_steps", "repeated", "krajewski"):
        with pytest.raises(InputError, match="use one of chinchilla"):
            with_laws(get_method("published"), law, None)
