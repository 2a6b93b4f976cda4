"""The decision core: pure functions of what was asked and what was seen."""
