"""The benchmarks of `make bench`: the operator beside plain docker-py, on real parts.

    __main__    the command line
    lab         API server, engine and operator of one run, and the removal of all of it
    sandboxes   the API as a client uses it: create, delete, and one watch with times
    baseline    the same containers by docker-py alone
    audit       what the operator wrote, by the API server's own record
    creations, deletions, reactions, resting
                the scenarios
    figures     samples, percentiles, rows
    report      the table, the JSON file, the machine

Times are taken where a client is: between a call or a watch event and another watch event.
"""
