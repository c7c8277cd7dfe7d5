"""Quotes: the price of a request before it is asked."""

import pytest

from storage.attempt import CostSource
from storage.catalog import Price
from storage.fit import Fit, Unfit
from storage.quote import quote, quotes
from storage.request import Input
from tests.samples import a_deployment, a_request


def test_all_images_are_quoted() -> None:
    found = quote(a_request(n=3), a_deployment(price=Price(per_image=0.05)))
    assert found.cost.amount == pytest.approx(0.15)
    assert found.cost.source is CostSource.PRICE_TABLE


def test_each_call_pays_for_the_input_images_again() -> None:
    request = a_request(n=3, images=(Input(key="a"), Input(key="b")))
    price = Price(per_image=0.05, per_input_image=0.01)
    assert quote(request, a_deployment(price=price)).cost.amount == pytest.approx(0.17)
    one_each = a_deployment(price=price, can={"n": 1})
    assert quote(request, one_each).cost.amount == pytest.approx(0.21)


def test_the_quality_as_it_fits_is_what_is_quoted() -> None:
    price = Price(per_image=0.05, per_quality={"low": 0.01, "high": 0.2})
    deployment = a_deployment(price=price, can={"qualities": ("low", "medium", "high")})
    assert quote(a_request(quality="hd"), deployment).cost.amount == pytest.approx(0.2)
    assert quote(a_request(), deployment).cost.amount == pytest.approx(0.05)


def test_pixels_are_quoted_where_they_are_known() -> None:
    deployment = a_deployment(price=Price(per_megapixel=0.04))
    assert quote(a_request(size="1000x500"), deployment).cost.amount == pytest.approx(0.02)
    assert quote(a_request(), deployment).cost.amount is None


def test_a_price_that_is_not_listed_is_unknown_and_not_nothing() -> None:
    found = quote(a_request(), a_deployment(price=Price()))
    assert (found.cost.amount, found.cost.source) == (None, CostSource.UNKNOWN)


def test_the_cheapest_comes_first_and_who_cannot_comes_last() -> None:
    request = a_request(images=(Input(key="a"),))
    found = quotes(
        request,
        [
            a_deployment("cannot", price=Price(per_image=0.01), can={"edit": False}),
            a_deployment("unknown", price=Price()),
            a_deployment("dear", price=Price(per_image=0.2)),
            a_deployment("cheap", price=Price(per_image=0.1)),
        ],
    )
    assert [q.deployment.name for q in found] == ["cheap", "dear", "unknown", "cannot"]
    assert isinstance(found[0].fitting, Fit)
    assert isinstance(found[-1].fitting, Unfit)
    assert found[-1].cost.amount is None
