"""A Kubernetes operator that runs sandboxes for AI agents on Docker.

core/      what is wished, what was seen, what to do: pure, no I/O, no clock
engines/   the container engine behind a dozen verbs: Docker, and one in memory
kube/      reads and writes of the Kubernetes API
client/    the library for applications
"""

__version__ = "0.1.0"
