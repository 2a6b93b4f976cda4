"""The decision core, checked exhaustively: every state that a scenario can reach is visited.

The real `decide` is asked; around it stands a model of the API server, the engine and the shell.

    state.py       the states                    explore.py     the search, and what it checks
    words.py       the real `decide`, remembered properties.py  what must hold
    shell.py       reconciler, entries,          scenarios.py   what is explored
                   operations, as steps          mutants/       broken rules, all of them noticed
    watch.py       enginewatch                   steps.py       all that can happen next
    engine.py      the engine's verbs            calm.py        what does when faults stop
                                                 ages.py        time goes by

A scenario is one kind of Sandbox, some acts of its user and some kinds of faults, a few of each, at
any instant and in any order; everything else (deliveries, answers, ends of operations, time) may
happen whenever it can. So the states are finite, and all of them are seen, with no limit of depth.
The second Sandbox of one name is there in `names` and `sweep`.

What is left out, or taken together:

- The shell is written down a second time, in shell.py and watch.py: a bug of the real one that its
  copy does not have is found by the tests of the real one (tests/unit/test_walk.py), not here.
- A key may be reconciled at any time, so a wakeup that nobody sends is not missed here.
- The watch of the API tells the newest version, never one in between; a version told late equals a
  user who acted late. One worker, no pacing of outage writes, no order of deletions in a burst.
- A write to the API lands when it is answered, or with its answer lost, or never; none lands after
  its caller's death. Reads of the API never fail. Labels and annotations are left out, as are
  pulls, other owners' finalizers, host ports, Secrets that users name, `status.suspended`.
- Engine calls take effect in one piece. One whose caller gave up or died may take effect later, or
  not; of one UID there is one such call at a time. Events are told at once, or (as a fault) the
  last of a change is late, or lost.
- Moments have three ages: now, some seconds ago, long ago; deadlines in between are not told apart.
- The Secret of an object that is gone is collected by its owner reference alone.
- Not crossed: calls that fail or get no answer with crashes; outages, another engine and lost
  events with crashes, keys or each other; deletion with readiness; a key with a pause and two
  faults of onMissing Recreate; onMissing Recreate and restartPolicy Never with outages.
- "one container" and "stranger" can only fail by the model's own engine: there is one place for a
  container, whose name decides, and a listing shows none of other owners (docs/invariants.md).
- Four things cannot be known, and are not held against the operator: whether a container ended by
  itself when it did so between the look and the marker of our stop; whether it did when a run that
  nobody had seen began before our kill of the last one arrived; a container at another engine that
  no status names yet; and the key of a container whose creation outlived the operator, after
  someone deleted the Secret.
"""
