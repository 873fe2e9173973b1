"""The Dockerfile, built and run without an engine: overlays of this machine's root in a mount namespace of their own.

Each stage is an overlay, so RUN works on real paths, as root, and touches nothing of the host. The base image is this machine
with the Python that runs the tests as `python`; what a slim Debian lacks cannot be told that way, and everything else can.
A container is run as by a careful engine: read-only root, /tmp and volumes writable, network and processes of its own, no
capabilities. Needs root, and util-linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.packaging.dockerfile import Instruction, Stage, read_stages
from tests.support.programs import Program, children_of

TOOLS = ("unshare", "nsenter", "setpriv", "mount", "chroot")
INTERPRETER = Path(sys.executable).resolve()
PATH = f"{INTERPRETER.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STORES = ("redis-server", "valkey-server")
STEP_S = 110.0
# The loopback of a new network namespace is down. SIOCSIFFLAGS; IFF_UP | IFF_RUNNING.
_LOOPBACK = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 0x41))"


def why_not() -> str:
    """What this machine lacks for it; empty where it can be done."""
    if os.geteuid() != 0:
        return "the Dockerfile is built by root alone, who may mount: run the tests as root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    return f"{', '.join(missing)} missing: apt install util-linux coreutils" if missing else ""


def copy_context(root: Path, goal: Path) -> None:
    """What `.dockerignore` lets through. It closes everything, then opens names of the top level."""
    everything, *patterns = [
        line for line in (root / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
    ]
    assert everything == "*"
    opened = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    closed = [pattern.removeprefix("**/") for pattern in patterns if not pattern.startswith("!")]
    for name in opened:
        if (root / name).is_dir():
            shutil.copytree(root / name, goal / name, ignore=shutil.ignore_patterns(*closed))
        else:
            shutil.copy2(root / name, goal / name)


class Image:
    """Built on entering, gone on leaving."""

    def __init__(self, dockerfile: Path, context: Path, *, place: Path) -> None:
        """`place`: an empty directory of ours."""
        self.stages = read_stages(dockerfile)
        self.environ: dict[str, str] = {}  # of the last stage, once it is built
        self._context = context
        self._place = place

    def __enter__(self) -> Self:
        # Its standard input is ours to close; should we die, that closes it too, and with its last process the
        # namespace goes, and all that is mounted in it.
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert self._holder.stdout is not None
            assert self._holder.stdout.readline() == b"ready\n"
            self.inside("mount", "-t", "tmpfs", "-o", "mode=0755", "stages", str(self._place))
            for number, stage in enumerate(self.stages):
                self._build(number, stage)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    @property
    def final(self) -> Stage:
        return self.stages[-1]

    @property
    def namespace(self) -> list[str]:
        """In front of a command, this runs it where the stages can be seen."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]

    def root(self, number: int) -> Path:
        """The root of a stage, within the namespace."""
        return self._place / str(number) / "root"

    def inside(self, *command: str) -> str:
        """Run something in the namespace; its output. AssertionError with all it has said when it fails."""
        done = subprocess.run([*self.namespace, *command], capture_output=True, text=True, timeout=STEP_S, check=False)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _build(self, number: int, stage: Stage) -> None:
        root, workdir = self.root(number), "/"
        upper, work = root.parent / "upper", root.parent / "work"
        self.inside("mkdir", "-p", str(root), str(upper), str(work))
        self.inside("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "root", str(root))
        self.inside("mount", "--rbind", "/dev", f"{root}/dev")
        self._resemble_base(root)
        self.environ = {"PATH": PATH}
        for each in stage.instructions:
            match each.name:
                case "ENV":
                    path = self.environ["PATH"]
                    self.environ |= {name: value.replace("$PATH", path) for name, value in each.pairs.items()}
                case "WORKDIR":
                    workdir = each.rest
                    self.inside("mkdir", "-p", f"{root}{workdir}")
                case "COPY":
                    self._copy(each, root, workdir)
                case "RUN":
                    self._run(each.rest, root, workdir)

    def _resemble_base(self, root: Path) -> None:
        """There is a `python`, the directories above it are open to everybody, and nobody has installed a store."""
        self.inside("ln", "-sf", str(INTERPRETER), f"{root}{INTERPRETER.parent}/python")
        self.inside("chmod", "o+x", *[f"{root}{parent}" for parent in INTERPRETER.parents])
        self.inside("rm", "-f", *[f"{root}/usr/{place}/{name}" for place in ("bin", "local/bin") for name in STORES])

    def _copy(self, instruction: Instruction, root: Path, workdir: str) -> None:
        *sources, target = instruction.words
        origin = instruction.flags.get("from")
        place = self._context
        if origin is not None:
            place = self.root(next(at for at, stage in enumerate(self.stages) if stage.name == origin))
        for source in sources:
            path, goal = f"{place}/{source}", f"{root}{Path(workdir, target)}"
            # Of a directory its content is copied, into a directory of the target's name.
            if origin is not None or Path(path).is_dir():
                self.inside("cp", "-r", "--preserve=mode,timestamps,links", "-T", path, goal)
            else:
                self.inside("cp", "--preserve=mode,timestamps", path, f"{goal}/" if target.endswith("/") else goal)

    def _run(self, command: str, root: Path, workdir: str) -> None:
        outside = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environ = [f"{name}={value}" for name, value in {"HOME": "/root", **outside, **self.environ}.items()]
        self.inside("chroot", str(root), "env", "-i", "-C", workdir, *environ, "/bin/sh", "-c", command)


class Container:
    """One run of an image's entry point, with these arguments in place of CMD, or with CMD.

    `mounts`: directories of the host, by where they are in the container, read-only.
    """

    def __init__(
        self,
        image: Image,
        *,
        output: Path,
        arguments: Sequence[str] = (),
        mounts: Mapping[str, Path] | None = None,
        **environ: str,
    ) -> None:
        final = image.final
        self._image = image
        self._environ = {**image.environ, **environ}
        self._user, _, self._group = final.last("USER").rest.partition(":")
        command = [*final.last("ENTRYPOINT").words, *(arguments or final.last("CMD").words)]
        root, volumes = image.root(len(image.stages) - 1), [path for each in final.all("VOLUME") for path in each.words]
        bound = (mounts or {}).items()
        # The first process of the new namespaces; what it becomes at last is the entry point, with pid 1.
        script = [
            "set -e",
            f"mount --rbind {root} {root}",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=1777 tmp {root}/tmp",
            # A new volume begins as what the image has there.
            *(
                f"mount -t tmpfs -o $(stat -c mode=%a,uid=%u,gid=%g {root}{path}) volume {root}{path}"
                for path in volumes
            ),
            *(f"mkdir -p {root}{inside}; mount --bind -o ro {outside} {root}{inside}" for inside, outside in bound),
            f"mount -o remount,bind,ro {root}",
            f'"{sys.executable}" -c "{_LOOPBACK}"',
            f'exec chroot {root} "$@"',
        ]
        self.program = Program(
            [
                *image.namespace,
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", "\n".join(script), "container", *self._as_user(command)),
            ],
            output=output,
        )

    @property
    def pid(self) -> int:
        """Of its pid 1, as the host sees it."""
        return children_of(self.program.pid)[0]

    def execute(self, *command: str) -> int:
        """Run something beside the entry point, as the same user; its exit code. What it says goes nowhere."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--root"]
        done = subprocess.run([*inside, *self._as_user(command)], timeout=STEP_S, capture_output=True, check=False)
        return done.returncode

    def _as_user(self, command: Sequence[str]) -> list[str]:
        return [
            *("setpriv", f"--reuid={self._user}", f"--regid={self._group}", "--clear-groups"),
            *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
            *("env", "-i", "-C", self._image.final.last("WORKDIR").rest),
            *(f"{name}={value}" for name, value in self._environ.items()),
            *command,
        ]
