"""Creations while others are deleted: which span they belong to, and what is told of them."""

from bench.creations import _beside, _Sample, _spans


def test_a_creation_that_reaches_into_the_removals_is_theirs() -> None:
    within, reaching, during = _Sample(1.0, 0.5), _Sample(9.8, 0.5), _Sample(12.0, 1.5)
    spans = _spans([within, reaching, during], ends=[14.0, 10.0, 11.0])
    assert spans == {"grace": [0.5], "removal": [0.5, 1.5]}


def test_few_samples_are_owned_up_to() -> None:
    many = _beside([0.3] * 5, [0.6], [0.3])
    assert many == "docker-py: 600 ms, 2.00 x its own without"
    assert _beside([0.3] * 4, [0.6], [0.3]) == f"only 4 samples; {many}"
