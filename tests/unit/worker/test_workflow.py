import pytest

from worker.workflow import Unfilled, filled, read


def test_a_text_that_is_a_place_becomes_the_value_itself() -> None:
    graph = {"3": {"inputs": {"seed": "{{seed}}", "links": ["4", 0], "cfg": 7.5, "on": True}}}
    assert filled(graph, {"seed": 42}) == {
        "3": {"inputs": {"seed": 42, "links": ["4", 0], "cfg": 7.5, "on": True}}
    }


def test_a_place_within_a_text_is_written_into_it() -> None:
    assert filled("{{ a }} and {{b}}", {"a": "x", "b": 2}) == "x and 2"


def test_what_is_put_in_is_not_searched_for_places() -> None:
    values = {"prompt": "a {{secret}} {{prompt}}", "secret": "s"}
    assert filled("{{prompt}}", values) == "a {{secret}} {{prompt}}"
    assert filled("say: {{prompt}}", values) == "say: a {{secret}} {{prompt}}"


@pytest.mark.parametrize("values", [{}, {"image": None}])
def test_a_place_that_nothing_fills_is_named(values: dict[str, object]) -> None:
    with pytest.raises(Unfilled, match="'image'"):
        filled({"1": ["{{image}}"]}, values)


def test_the_graph_itself_is_left_as_it_is() -> None:
    graph = {"1": {"inputs": {"text": "{{prompt}}"}}}
    filled(graph, {"prompt": "x"})
    assert graph == {"1": {"inputs": {"text": "{{prompt}}"}}}


def test_a_graph_is_a_table_or_json_in_a_text() -> None:
    assert read({"1": {}}) == {"1": {}}
    assert read('{"1": {}}') == {"1": {}}
    assert read("not json") is None
    assert read(None) is None
    assert read("[]") is None
