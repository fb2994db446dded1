"""Tokens that a service echoes are masked, whatever the pieces."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from proxy.forwarding.scrub import Scrubber, masked, worth_scrubbing

TOKEN = b"xoxb-1111-xoxb-1111-end"


@given(
    st.lists(st.one_of(st.just(TOKEN), st.just(TOKEN[:9]), st.binary(max_size=12)), max_size=8),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_any_cutting_gives_what_the_whole_gives(parts: list[bytes], cuts: list[int]) -> None:
    """The pieces passed on together are the masked whole, of the same length, and each token is counted."""
    whole = b"".join(parts)
    scrubber = Scrubber(TOKEN)
    places = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    out = [scrubber.feed(whole[a:b]) for a, b in itertools.pairwise(places)]
    assert b"".join(out) + scrubber.flush() == masked(whole, TOKEN)
    assert scrubber.found == whole.count(TOKEN)


def test_what_cannot_begin_a_token_is_not_held_back() -> None:
    """An event that ends its line goes out at once (R56)."""
    scrubber = Scrubber(TOKEN)
    assert scrubber.feed(b"data: x\n\n") == b"data: x\n\n"
    assert scrubber.feed(b"xoxb-11") == b""
    assert scrubber.feed(b"22\n") == b"xoxb-1122\n"


def test_short_tokens_are_left_alone() -> None:
    """A token that could be a word is not looked for."""
    assert not worth_scrubbing(b"tok")
    assert not worth_scrubbing(b"")
    assert worth_scrubbing(TOKEN)
