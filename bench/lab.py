"""All that one run of the benchmarks is made of, started and removed by `lab()`.

An API server of its own, the machine's Docker engine, and the operator as users run it: a child
process with default settings, a kubeconfig of its own and a user of its own. What is made in the
engine carries this cluster's UID, and all of that is removed at the end, however it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
from docker.errors import DockerException
from rich.progress import Progress

from bench.audit import USER, Audit
from bench.baseline import Baseline
from bench.sandboxes import Sandboxes, gone
from controller.core import names
from controller.settings import ENV_PREFIX, Settings
from dev import cluster, engine
from dev.apiserver import ADMIN_GROUP, ControlPlane
from dev.binaries import ensure_binaries
from dev.images import ensure_busybox
from dev.leftovers import remove_owned, removed_at_end
from dev.processes import Supervised
from dev.progress import DevError, step

T = TypeVar("T")

ATTEMPTS_TO_REMOVE = 60
PREPARED_AT_ONCE = 32
"""More only wait, and the last for longer than a client waits."""

DURABLE = True
"""etcd syncs every write to the disk, as it does in production."""
LIMITS = {"cpu": "1", "memory": "256Mi", "pids": 64}
IGNORES_SIGTERM = "trap '' TERM; while true; do sleep 3600; done"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    singles: int = 40
    """Pairs of one container each by the operator and by the baseline."""
    deletions: int = 100
    """Deletions one at a time."""
    burst: int = 100
    """Created or deleted at once."""
    rounds: int = 3
    """Rounds of bursts, the order of operator and baseline alternating."""
    quiet: int = 12
    """Creations without deletions, to compare with."""
    reactions: int = 20
    """Of each kind of event."""
    writers: int = 10
    """Sandboxes whose writes are counted."""
    population: int = 500
    """Sandboxes that run in the background. A Docker bridge takes about a thousand."""
    idle_seconds: float = 130.0
    """At rest: so that two resyncs fall in it."""
    restarts: int = 3
    instant: int = 100
    """Creations one at a time on the instant engine, in each round; three times as many at once."""
    processor_lives: int = 20
    """Whole lives whose processor time is told, in each round."""
    many: int = 5000
    """Sandboxes on the instant engine."""
    many_singles: int = 20
    """Creations and deletions one at a time at each number of them."""
    many_idle_seconds: float = 70.0
    """At rest at each number of them: so that a resync falls in."""
    life_rounds: int = 2
    """Rounds of the throughput."""
    lives: int = 60
    """Sandboxes created and deleted in each round of the throughput, as many in flight as the
    operator creates containers at once; twice as many with `burst` in flight."""
    applications: int = 8
    """Deletes of each kind, as applications do them."""
    steps: tuple[int, ...] = (1, 10, 100, 500)
    """Numbers of running sandboxes at which the costs are measured."""
    step_singles: int = 10
    """Pairs of one container each at each step."""
    step_events: int = 200
    """Events at each step whose processor time is measured."""
    step_idle_seconds: float = 15.0
    """At rest at each step; `idle` has the resyncs."""
    stopped: int = 1000
    """Stopped containers of others on the engine."""
    stopped_ours: int = 200
    """Sandboxes that are paused by Stop."""
    attack_seconds: float = 30.0
    """How long a tenant's neighbour is measured under each attack, and calm, at most."""
    attack_deletions: int = 15
    """Deletions of what ran before, in that time."""
    attack_plain: int = 150
    """Plain Sandboxes of the attacker, created at once and deleted at once."""
    attack_ports: int = 20
    """With 32 ports each."""
    attack_volumes: int = 8
    """With a volume over a large directory of the image."""
    attack_files: int = 6000
    """Files of that directory, of 50 KB each."""
    attack_exits: int = 40
    """That exit at once."""
    attack_exits_with_ports: int = 60
    """The same with 8 ports each."""

    @classmethod
    def quick(cls) -> Sizes:
        return cls(
            singles=10,
            deletions=20,
            burst=30,
            rounds=1,
            quiet=6,
            reactions=7,
            writers=4,
            population=50,
            idle_seconds=20.0,
            restarts=1,
            instant=20,
            processor_lives=16,
            many=500,
            many_singles=6,
            many_idle_seconds=10.0,
            life_rounds=1,
            lives=30,
            applications=5,
            steps=(1, 10, 50),
            step_singles=6,
            step_events=50,
            step_idle_seconds=10.0,
            stopped=50,
            stopped_ours=10,
            attack_seconds=12.0,
            attack_deletions=8,
            attack_plain=50,
            attack_ports=8,
            attack_volumes=4,
            attack_files=2000,
            attack_exits=20,
            attack_exits_with_ports=20,
        )


class Operator:
    """The operator's process: started, ended, killed, and started again."""

    def __init__(
        self,
        kubeconfig: Path,
        docker_host: str,
        log: Path,
        module: str = "controller",
        **settings: str,
    ) -> None:
        self._log = log
        self._module = module
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(ENV_PREFIX)}
        self._env = {**inherited, "KUBECONFIG": str(kubeconfig), "DOCKER_HOST": docker_host}
        self._env |= {f"{ENV_PREFIX}{name.upper()}": value for name, value in settings.items()}
        self._process: Supervised | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", self._module]
        if self._module == "controller":
            command.append("run")
        self._process = Supervised(command, log=self._log, env=self._env)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def ensure(self) -> None:
        """Start it unless it runs."""
        if self._process is None or not self._process.alive():
            self.start()

    @property
    def process(self) -> psutil.Process:
        if self._process is None:
            raise RuntimeError("the operator does not run")
        return psutil.Process(self._process.daemon.pid)

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""


@dataclass
class Lab:
    """What the scenarios use."""

    sandboxes: Sandboxes
    baseline: Baseline
    operator: Operator
    audit: Audit
    plane: ControlPlane
    image: str
    docker_host: str
    owner: names.Owner
    sizes: Sizes
    progress: Progress
    width: int
    """How many containers the operator creates at once: the baseline's threads, too."""
    population: list[str] = field(default_factory=list)
    _numbers: int = 0

    def spec(self, **changes: Any) -> dict[str, Any]:
        """A busybox that serves HTTP, with a port and limits, without a readiness probe."""
        spec: dict[str, Any] = {
            "image": self.image,
            "ports": [{"name": "AGENT_SERVER", "containerPort": 8000}],
            "resources": {"limits": LIMITS},
        }
        return spec | changes

    def stubborn(self) -> dict[str, Any]:
        """One that ignores SIGTERM: it is killed when its grace period is over."""
        return self.spec(command=["sh", "-c", IGNORES_SIGTERM])

    def names(self, kind: str, count: int) -> list[str]:
        """Names that no other call gave."""
        first = self._numbers
        self._numbers += count
        return [f"{kind}-{first + i}" for i in range(count)]

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """The items, with a progress bar."""
        items = list(items) if total is None else items
        size = len(items) if isinstance(items, list) else total
        task = self.progress.add_task(what, total=size)
        try:
            for item in items:
                yield item
                self.progress.advance(task)
        finally:
            self.progress.remove_task(task)

    async def rest(self, seconds: float, what: str) -> None:
        """Let time pass, with a progress bar."""
        began = time.monotonic()
        task = self.progress.add_task(what, total=seconds)
        while (passed := time.monotonic() - began) < seconds:
            self.progress.update(task, completed=passed)
            await asyncio.sleep(min(1.0, seconds - passed))
        self.progress.remove_task(task)

    async def run_all(self, kind: str, count: int, spec: dict[str, Any]) -> list[str]:
        """So many running Sandboxes; nothing of it is measured."""
        made = self.names(kind, count)
        task = self.progress.add_task(f"preparing {count} sandboxes", total=count)
        room = asyncio.Semaphore(PREPARED_AT_ONCE)

        async def one(name: str) -> None:
            async with room:
                await self.sandboxes.create_running(name, spec)
            self.progress.advance(task)

        await asyncio.gather(*(one(name) for name in made))
        self.progress.remove_task(task)
        return made

    async def end_all(self, ended: Iterable[str]) -> None:
        """Delete them and wait until they are gone; nothing of it is measured."""
        ended = list(ended)
        task = self.progress.add_task(f"removing {len(ended)} sandboxes", total=len(ended))

        async def one(name: str) -> None:
            await self.sandboxes.delete(name)
            await self.sandboxes.until(name, gone)
            self.progress.advance(task)

        await asyncio.gather(*(one(name) for name in ended))
        self.progress.remove_task(task)

    async def populate(self, count: int | None = None) -> list[str]:
        """The running sandboxes that stay for all scenarios: `count`, or as many as `sizes` says.
        There may be more already."""
        missing = (self.sizes.population if count is None else count) - len(self.population)
        if missing > 0:
            self.population += await self.run_all("resident", missing, self.spec())
        return self.population

    async def mend(self) -> None:
        """After a scenario that failed: remove what it left, and start what it ended."""
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.operator.ensure()
        await asyncio.to_thread(self.baseline.start_over)
        present = self.sandboxes.present()
        self.population[:] = [n for n in self.population if present.get(n) == "RUNNING"]
        for name in (left := present.keys() - set(self.population)):
            with contextlib.suppress(DevError):  # gone meanwhile
                await self.sandboxes.delete(name)
        await asyncio.gather(*(self.sandboxes.until(name, gone) for name in left))


@asynccontextmanager
async def lab(sizes: Sizes, progress: Progress) -> AsyncIterator[Lab]:
    """Everything, running; removed again at the end. Raises DevError."""
    async with AsyncExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix="sandbox-operator-bench-"))
        undo.callback(shutil.rmtree, work, ignore_errors=True)
        docker_host = engine.ensure_engine()
        image = ensure_busybox(docker_host)
        audit = Audit(work / "audit")
        binaries = ensure_binaries()
        plane = ControlPlane(work / "cluster", binaries, durable=DURABLE, flags=audit.flags)
        undo.callback(plane.stop)
        with step("starting a cluster for the benchmarks"):
            plane.start()
        cluster.install_crds(plane.kubeconfig)
        uid = cluster.cluster_uid(plane.kubeconfig)
        undo.enter_context(removed_at_end(docker_host, uid))
        undo.callback(_remove_owned, docker_host, uid)
        baseline = Baseline(docker_host, uid)
        undo.callback(baseline.close)
        operator = Operator(
            plane.kubeconfig_for(USER, [ADMIN_GROUP]), docker_host, work / "operator.log"
        )
        undo.callback(operator.stop)
        sandboxes = await undo.enter_async_context(Sandboxes(plane))
        operator.start()
        running = Lab(
            sandboxes=sandboxes,
            baseline=baseline,
            operator=operator,
            audit=audit,
            plane=plane,
            image=image,
            docker_host=docker_host,
            owner=names.Owner(uid, Settings.model_fields["instance_name"].default),
            sizes=sizes,
            progress=progress,
            width=int(Settings.model_fields["engine_concurrency"].default),
        )
        yield running


def _remove_owned(docker_host: str, uid: str) -> None:
    with step("removing what is left in the engine"):
        for last in [False] * ATTEMPTS_TO_REMOVE + [True]:
            try:
                remove_owned(docker_host, uid)
                return
            except (DockerException, OSError):
                # Docker holds on to a network for moments after its last container went.
                if last:
                    raise
            time.sleep(1)


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end the run as Ctrl-C does: with everything removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
