"""From a bare machine to a running development cluster: `python -m dev --help`.

cache      one folder for what is expensive to make, shared by checkouts
progress   a spinner or a line now and then; DevError, whose text names the next step
packages   Debian packages, installed when a command is missing
processes  background processes: detached ones that outlive us, supervised ones that cannot
ports      free ports on loopback
binaries   kube-apiserver, etcd and kubectl, built from dev/assets/go.mod
engine     the machine's Docker engine; a private one for tests
apiserver  etcd + kube-apiserver, and kubeconfigs for any user
pki        the cluster's keys and client certificates
images     the busybox and the agent server image
cluster    the checkout's own cluster in .dev/
demo       one Sandbox from creation to deletion
"""
