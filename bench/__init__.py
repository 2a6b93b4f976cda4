"""The benchmarks of `make bench`: the operator beside plain docker-py, on real parts.

    __main__    the command line
    lab         API server, engine and operator of one run, and the removal of all of it
    sandboxes   the API as a client uses it: create, delete, and one watch with times
    baseline    the same containers by docker-py alone
    audit       what the operator wrote, by the API server's own record
    usage       processor time and memory of a process
    creations, deletions, bursts, reactions, resting, scaling, overhead, neighbours
                the scenarios
    attacks     the loads of `neighbours`
    registry    images for them to pull, as slowly as an attacker likes
    instant, floor
                an operator over an engine that answers at once, and a loop that decides nothing
    figures     samples, percentiles, rows
    results     one run: its JSON file, the machine
    report      its table; plots: its pictures; published: the folder docs/benchmarks
    compare     what got slower since an earlier run

Times are taken where a client is: between a call or a watch event and another watch event.
"""
