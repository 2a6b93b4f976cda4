"""To which span of the deletions a creation belongs."""

from bench.creations import _Sample, _spans


def test_a_creation_that_reaches_into_the_removals_is_theirs() -> None:
    within, reaching, during = _Sample(1.0, 0.5), _Sample(9.8, 0.5), _Sample(12.0, 1.5)
    spans = _spans([within, reaching, during], ends=[14.0, 10.0, 11.0])
    assert spans == {"grace": [0.5], "removal": [0.5, 1.5]}
