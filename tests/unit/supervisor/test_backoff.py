from hypothesis import given
from hypothesis import strategies as st

from corral.supervisor.lifecycle import Backoff

backoffs = st.builds(
    lambda first, factor: Backoff(first, first * factor),
    st.floats(0.001, 100),
    st.floats(1, 1000),
)


def test_doubles_from_first_to_max() -> None:
    backoff = Backoff(1.0, 30.0)
    assert [backoff.delay_s(n) for n in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


@given(backoffs, st.integers(0, 10**9))
def test_never_shrinks_and_never_exceeds(backoff: Backoff, deaths: int) -> None:
    delay_s = backoff.delay_s(deaths)
    assert 0 <= delay_s <= backoff.max_s
    assert backoff.delay_s(deaths + 1) >= delay_s
