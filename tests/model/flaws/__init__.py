"""The model itself, broken in one way at a time, to show that its properties notice.

These say nothing of the rules (those are `tests.model.mutants`): they stand for what the engine,
the shell and the sweep do, which the model has written down a second time. A flaw names, like a
mutant, the SCENARIO that breaks and the property it is CAUGHT_BY.
"""
