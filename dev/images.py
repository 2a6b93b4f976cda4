"""The images that tests and the demo run, made without a registry.

busybox       2 MB, its httpd answers `/`, `/health` and `/ready`; for load and for most tests
agent server  the real one from PyPI on Debian trixie, 1 GB, made once and kept in the cache

An image carries the recipe's number in a label; another number makes it again.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO

from docker.errors import APIError

from dev import cache, engine
from dev.packages import ensure_commands
from dev.progress import DevError, run, step

BUSYBOX = "sandbox-operator/busybox:dev"
BUSYBOX_RECIPE = "1"
APPLETS = (
    "sh ash cat chmod cp cut date dd df echo env false find free grep head hostname httpd id kill"
    " killall ln ls mkdir mount mv nc nohup nproc ps printenv pwd rm sed seq sleep sort stat sync"
    " tail tee test timeout top touch tr true umount uname wc wget which whoami yes"
)
PAGES = {"index.html": "busybox\n", "health": "ok\n", "ready": "ready\n"}

SUITE = "trixie"  # Debian 13: the agent server needs Python >= 3.12
PACKAGES = "python3,python3-venv,ca-certificates,tmux"
AGENT_SERVER = "sandbox-operator/agent-server"
AGENT_SERVER_FILES = "1"
AGENT_SERVER_RECIPE = "2"
CONSTRAINTS = Path(__file__).parent / "assets" / "agent-server-constraints.txt"
USER_ID = 10001
PIP_SETTINGS = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
SECONDS_TO_IMPORT = 600


def ensure_busybox(docker_host: str) -> str:
    """The busybox image's tag; the image is there afterwards."""
    if _recipe(docker_host, BUSYBOX) != BUSYBOX_RECIPE:
        with step("making the busybox image"):
            changes = [
                'CMD ["httpd", "-f", "-p", "8000", "-h", "/www"]',
                "ENV PATH=/bin",
                "EXPOSE 8000",
                f"LABEL recipe={BUSYBOX_RECIPE}",
            ]
            _import(docker_host, BUSYBOX, io.BytesIO(_busybox_files(_busybox())), changes)
    return BUSYBOX


def ensure_agent_server(docker_host: str) -> str:
    """The agent server image's tag; the image is there afterwards.

    AGENT_SERVER_IMAGE names a published one to pull instead of making one, which needs root.
    """
    if published := os.environ.get("AGENT_SERVER_IMAGE"):
        _pull(docker_host, published)
        return published
    tag = f"{AGENT_SERVER}:{_agent_server_version()}-dev"
    if _recipe(docker_host, tag) != AGENT_SERVER_RECIPE:
        files = agent_server_files()
        with step("importing the agent server image"), files.open("rb") as source:
            changes = [
                'ENTRYPOINT ["agent-server", "--host", "0.0.0.0", "--port", "8000"]',
                "ENV PATH=/opt/agent-server/bin:/usr/local/bin:/usr/bin:/bin HOME=/home/openhands",
                # Without it litellm asks the internet for its prices while it is imported, and
                # where there is none the server sometimes ends in a deadlock of imports.
                "ENV LITELLM_LOCAL_MODEL_COST_MAP=True",
                f"USER {USER_ID}",
                "WORKDIR /",
                "EXPOSE 8000",
                f"LABEL recipe={AGENT_SERVER_RECIPE}",
            ]
            _import(docker_host, tag, source, changes)
    return tag


def agent_server_files() -> Path:
    """The agent server image's file system as a tar in the cache; needs no engine."""
    name = f"agent-server-{_agent_server_version()}-recipe{AGENT_SERVER_FILES}"
    return cache.entry(name, _make_agent_server) / "rootfs.tar"


def _recipe(docker_host: str, tag: str) -> str:
    """The number of the recipe that made the engine's image of this tag; empty if it has none."""
    with engine.client(docker_host) as client:
        found = client.images(name=tag)
    return str((found[0]["Labels"] or {}).get("recipe", "")) if found else ""


def _import(docker_host: str, tag: str, files: IO[bytes], changes: list[str]) -> None:
    repository, _, version = tag.rpartition(":")
    with engine.client(docker_host, timeout=SECONDS_TO_IMPORT) as client:
        answer = client.import_image(files, repository=repository, tag=version, changes=changes)
        if "error" in answer:
            raise DevError(f"the engine did not take {tag}: {answer.strip()}")


def _pull(docker_host: str, image: str) -> None:
    with engine.client(docker_host, timeout=SECONDS_TO_IMPORT) as client:
        if client.images(name=image):
            return
        try:
            with step(f"pulling {image}"):
                client.pull(image)
        except APIError as error:
            advice = "Correct AGENT_SERVER_IMAGE, or unset it to have an image made."
            raise DevError(f"cannot pull {image}: {error.explanation}. {advice}") from error


def _busybox() -> Path:
    """A static busybox: the machine's, or that of Debian's package, which is not installed."""
    if (found := shutil.which("busybox")) and b"/ld-linux" not in Path(found).read_bytes()[:4096]:
        return Path(found)
    return cache.entry("busybox-static", _download_busybox) / "busybox"


def _download_busybox(work: Path) -> None:
    run(["apt-get", "download", "busybox-static"], cwd=work, advice="Run `apt-get update` first.")
    package = next(work.glob("*.deb"))
    run(["dpkg-deb", "--extract", package, work / "files"])
    (found,) = (path for path in (work / "files").rglob("busybox") if os.access(path, os.X_OK))
    found.rename(work / "busybox")
    shutil.rmtree(work / "files")
    package.unlink()


def _busybox_files(busybox: Path) -> bytes:
    """The image's file system as a tar."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:

        def add(name: str, mode: int, kind: bytes = tarfile.REGTYPE, content: bytes = b"") -> None:
            info = tarfile.TarInfo(name)
            info.mode, info.type, info.size = mode, kind, len(content)
            tar.addfile(info, io.BytesIO(content))

        for folder in ("bin", "etc", "www", "root"):
            add(folder, 0o755, tarfile.DIRTYPE)
        for folder in ("tmp", "workspace"):
            add(folder, 0o1777, tarfile.DIRTYPE)
        add("bin/busybox", 0o755, content=busybox.read_bytes())
        for applet in APPLETS.split():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        users = f"root:x:0:0::/root:/bin/sh\nsandbox:x:{USER_ID}:{USER_ID}::/tmp:/bin/sh\n"
        add("etc/passwd", 0o644, content=users.encode())
        add("etc/group", 0o644, content=f"root:x:0:\nsandbox:x:{USER_ID}:\n".encode())
        for page, text in PAGES.items():
            add(f"www/{page}", 0o644, content=text.encode())
    return output.getvalue()


def _agent_server_version() -> str:
    found = re.search(r"^openhands-agent-server==(\S+)", CONSTRAINTS.read_text(), re.M)
    if not found:
        raise DevError(f"{CONSTRAINTS} does not pin openhands-agent-server")
    return found[1]


def _make_agent_server(work: Path) -> None:
    if os.geteuid() != 0:
        raise DevError(
            "making the agent server image needs root. Run `python -m dev images` as root, or name"
            " a published image with AGENT_SERVER_IMAGE."
        )
    ensure_commands({"debootstrap": "debootstrap"})
    rootfs = work / "rootfs"
    debootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}"]
    with step(f"unpacking Debian {SUITE}", "takes about a minute"):
        run(
            # Its mounts end with it, whatever happens to it.
            ["unshare", "--mount", *debootstrap, SUITE, rootfs, *_mirror()],
            advice="Check that apt's mirror can be reached and has this suite.",
        )
    version = _agent_server_version()
    with step(f"installing openhands-agent-server {version}", "takes about a minute"):
        _install_agent_server(rootfs, version)
    _strip(rootfs)
    with step("packing the agent server's files"):
        run(["tar", "--numeric-owner", "-C", rootfs, "-cf", work / "rootfs.tar", "."])
        shutil.rmtree(rootfs)


def _mirror() -> list[str]:
    """The mirror that this machine's apt uses for Debian; none means debootstrap's default."""
    fields = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    for line in run(["apt-get", "indextargets", "--format", fields]).splitlines():
        origin, label, component, uri = line.split("|")
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return [uri]
    return []


def _install_agent_server(rootfs: Path, version: str) -> None:
    # For the time of the installation: docker gives containers their own of these two.
    lent = [rootfs / "etc" / name for name in ("resolv.conf", "hosts")]
    for path in lent:
        shutil.copy(Path("/etc") / path.name, path)
    shutil.copy(CONSTRAINTS, rootfs / "tmp" / "constraints.txt")
    env = {name: os.environ[name] for name in PIP_SETTINGS if name in os.environ}
    env |= {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
    if index := _pip_index():
        env.setdefault("PIP_INDEX_URL", index)
    if bundle := os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE"):
        shutil.copy(bundle, rootfs / "tmp" / "ca.crt")
        env["PIP_CERT"] = "/tmp/ca.crt"
    script = f"""
        set -e
        useradd --uid {USER_ID} --create-home --shell /bin/bash openhands
        mkdir --mode 1777 /workspace
        python3 -m venv /opt/agent-server
        /opt/agent-server/bin/pip install --no-cache-dir --disable-pip-version-check --quiet \\
            --constraint /tmp/constraints.txt openhands-agent-server=={version}
    """
    run(
        ["unshare", "--mount", "chroot", rootfs, "/bin/sh", "-c", script],
        env=env,
        advice="Check that the package index can be reached (`pip config list`).",
    )
    for path in lent:
        path.unlink()


def _pip_index() -> str:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()


def _strip(rootfs: Path) -> None:
    for folder in ("doc", "man", "info", "locale"):
        shutil.rmtree(rootfs / "usr/share" / folder, ignore_errors=True)
    for folder in ("tmp", "root/.cache", "var/cache/apt", "var/lib/apt/lists", "var/log"):
        for path in (rootfs / folder).glob("*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
