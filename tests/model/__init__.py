"""The decision core, checked exhaustively: every state that a scenario can reach is visited.

The real `decide` is asked; around it stands a model of the API server, the engine and the shell.

    state.py       the states                    explore.py     the search, and what it checks
    words.py       the real `decide`, remembered properties.py  what must hold
    shell.py       reconciler, entries,          scenarios.py   what is explored
                   operations, as steps          mutants/       broken rules, all of them noticed
    watch.py       enginewatch                   flaws/         the model broken, likewise
    engine.py      the engine's verbs            steps.py       all that can happen next
    phases.py      what phases promise,          calm.py        what does when faults stop
                   a second time                 ages.py        time goes by

A scenario is one kind of Sandbox, some acts of its user and some kinds of faults, a few of each, at
any instant and in any order; everything else (deliveries, answers, ends of operations, time) may
happen whenever it can. So the states are finite, and all of them are seen, with no limit of depth.
The second Sandbox of one name is there in `names` and `sweep`.

What is left out, or taken together:

- The shell is written down a second time, in shell.py and watch.py: a bug of the real one that its
  copy does not have is found by the tests of the real one (tests/unit/test_walk.py), not here.
- A key may be reconciled at any time, so a wakeup that nobody sends is not missed here; that a
  timer is set for whatever the time brings is checked where nothing else is left to do (`calm`).
- Time may go by at any moment, and a grace period with it: that each had its signal in time is
  checked there, too; that nothing alive is ended by force without one (or one that failed), always.
- What is sent is either answered by the engine that was there, or not at all; a look that was made
  before an outage may be answered after it, and is healed by a resync alone.
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
- Another engine takes over unnoticed only once a container is recorded: one that is made at the
  other meanwhile is recorded as the former's.
"""
