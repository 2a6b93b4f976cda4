"""Faults on the real thing: `python -m tests.chaos`, or `make chaos`.

failing_operator  the operator, made to kill itself at a named point between two steps
links             the connections to Docker and to the API server, that can be broken
sides             one operator with its namespace, its links and its token; there are two
load              Sandboxes made, paused, resumed, resized and deleted without end
ledger            what Docker itself tells of every container: the truth to compare with
bystanders        what belongs to others and must stay as it was left
faults            what is done to all of it, in lanes that run beside each other
outsider          the lane of those that is somebody behind an operator's back
deeds             what was done to containers and what was told of them: notes to judge by
truth             what a Sandbox must say, given its spec and its container
ending            the checks when the faults are over
play              the whole round, and what came of it
"""
