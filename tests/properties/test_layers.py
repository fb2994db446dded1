"""A mapping in layers is, after any changes, the dict that had the same changes."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.connectors.layers import Layers

KEYS = st.integers(0, 200)
CHANGES = st.dictionaries(KEYS, st.none() | st.integers(), max_size=40)


@given(st.dictionaries(KEYS, st.integers(), max_size=100), st.lists(CHANGES, max_size=8))
def test_layers_are_the_dict_with_the_same_changes(
    start: dict[int, int], steps: list[dict[int, int | None]]
) -> None:
    """Values, order, length and absence are those of a dict; earlier states stay as they were (R89)."""
    layers, plain = Layers(start), dict(start)
    for step in steps:
        earlier, before = layers, dict(plain)
        layers = layers.changed(step)
        for key, value in step.items():
            if value is None:
                plain.pop(key, None)
            else:
                plain[key] = value
        assert dict(layers) == plain
        assert len(layers) == len(plain)
        assert [layers.get(key, "none") for key in range(201)] == [
            plain.get(key, "none") for key in range(201)
        ]
        assert [key in layers for key in range(201)] == [key in plain for key in range(201)]
        assert dict(earlier) == before
