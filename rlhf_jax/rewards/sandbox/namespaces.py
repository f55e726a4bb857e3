"""Starts a Python program in new namespaces (user, mount, network, pid, ipc, uts).

The program sees /usr, /lib and this Python's folders read-only, an empty /tmp in memory and three
devices: no home, no /etc, no /proc, no network, no environment variable of this process. It has no
capability and cannot make a user namespace to get one. `timeout`, process 1 of its pid namespace,
ends it; the kernel then kills whatever it has started. Nothing runs where a part of this fails.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program may use.

    seconds: wall clock, of all its processes together.
    memory: bytes of address space of each process.
    processes: processes and threads at a time.
    file_bytes: size of one file, and of all files together.
    """

    seconds: float = 10.0
    memory: int = 2**29
    processes: int = 16
    file_bytes: int = 2**24

    def __post_init__(self):
        check_fields(self, "(0, inf)", "seconds", "memory", "processes", "file_bytes")


class SandboxError(ValueError):
    """No sandbox can be made here. The message is one line with the cause and the remedy."""


REMEDY = (
    "code of a model runs in Linux namespaces only: install util-linux (unshare, setpriv), allow "
    "user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in Docker --security-opt seccomp=unconfined "
    "--security-opt systempaths=unconfined), or score without running code"
)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# First in the new namespaces, without capabilities: says which process it is, and waits until the
# user ids of its namespace are set. The exec after that makes it root of its own namespaces.
WAIT = 'read -r pid _ < /proc/self/stat; echo "$pid" >&2; read -r _ <&2; exec sh -euc "$@"'

SETUP = """
new=$1 folders=$2 bytes=$3 seconds=$4; shift 4
echo 0 > /proc/sys/user/max_user_namespaces
mount -t tmpfs -o size=1m,nr_inodes=1k,mode=755 tmpfs "$new"
IFS=:
for folder in $folders; do
    mkdir -p "$new$folder"
    mount --rbind "$folder" "$new$folder"
done
IFS=' '
while read -r _ _ _ _ place _; do
    case $place in "$new"/*) mount -o remount,bind,ro,nosuid,nodev "$place";; esac
done < /proc/self/mountinfo
mkdir "$new/tmp" "$new/dev" "$new/old"
mount -t tmpfs -o size="$bytes",nr_inodes=1k,nosuid,nodev tmpfs "$new/tmp"
for device in null zero urandom; do
    : > "$new/dev/$device"
    mount --bind "/dev/$device" "$new/dev/$device"
done
ln -s old/proc "$new/proc"  # umount reads it; it leads nowhere afterwards
mount -o remount,bind,ro "$new"
cd "$new"
pivot_root . old
cd /tmp
umount -l /old
echo started >&2
exec timeout -s KILL "$seconds" "$@" 2> /dev/null
"""

ENVIRONMENT: dict[str, str] = {
    "PATH": PATH,
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",  # threads count as processes
    "OPENBLAS_NUM_THREADS": "1",
}


@contextmanager
def python_in_sandbox(
    source: str,
    arguments: Sequence[str],
    limits: Limits,
    *,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    sockets: Sequence[socket.socket] = (),
) -> Generator[subprocess.Popen, None, None]:
    """`python -I -c source arguments`, with these sockets open, as a started process.

    At the end of the block it is killed, with everything it has started.

    Raises:
      SandboxError: a namespace, a mount or a limit was refused.
    """
    unshare = shutil.which("unshare", path=PATH)
    if unshare is None:
        raise _refusal("there is no command unshare")
    with tempfile.TemporaryDirectory(prefix="sandbox-") as root, ExitStack() as stack:
        facts = [root, ":".join(_visible()), str(limits.file_bytes), str(limits.seconds)]
        ours, theirs = map(stack.enter_context, socket.socketpair())
        process = subprocess.Popen(
            [
                *(unshare, "--user", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork"),
                *("sh", "-euc", WAIT, "sh", SETUP, "sh", *facts, *_limited(limits)),
                *(sys.executable, "-I", "-B", "-c", source, *arguments),
            ],
            stdin=stdin,
            stdout=stdout,
            stderr=theirs.fileno(),
            env=ENVIRONMENT,
            pass_fds=[each.fileno() for each in sockets],
            start_new_session=True,
        )
        stack.callback(_reap, process)
        theirs.close()
        said = stack.enter_context(ours.makefile("r"))
        line = said.readline().strip()
        if not line.isdigit():
            raise _refusal(line)
        init = os.pidfd_open(int(line))  # of process 1 of the pid namespace, which waits
        stack.callback(_kill, init)
        try:
            _map_users(process.pid)
        except OSError as error:
            raise _refusal(f"user ids: {error}") from error
        ours.sendall(b"\n")
        if (line := said.readline().strip()) != "started":
            raise _refusal(line)
        yield process


@cache
def check_sandbox() -> None:
    """Makes a sandbox once, and raises SandboxError where that fails."""
    with python_in_sandbox("", [], Limits()) as process:
        if code := process.wait():
            raise _refusal(f"Python ended with {code} in it")


def _refusal(cause: str) -> SandboxError:
    return SandboxError(f"no sandbox: {cause or 'its shell ended'}; {REMEDY}")


def _kill(init: int) -> None:
    """Kills process 1 of a pid namespace, and so all of them."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(init, signal.SIGKILL)
    os.close(init)


def _reap(process: subprocess.Popen) -> None:
    """Waits for `unshare`, which ends with its child, and closes the pipes."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    process.wait()


def _limited(limits: Limits) -> list[str]:
    """The command that drops every privilege and sets the limits."""
    # The kernel exempts the real root from the limit of processes, so root becomes nobody, id 1 of
    # the namespace; any other user is id 0 without capabilities.
    nobody = ["--reuid=1", "--regid=1", "--clear-groups"] if os.geteuid() == 0 else []
    return [
        "prlimit",
        f"--as={limits.memory}",
        f"--nproc={limits.processes}",
        f"--fsize={limits.file_bytes}",
        "--nofile=64",
        "--core=0",
        "setpriv",
        *nobody,
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--no-new-privs",
    ]


def _map_users(pid: int) -> None:
    """User and group ids of the process's user namespace: 0 is the caller, 1 is nobody."""
    root = os.geteuid() == 0
    if not root:
        Path(f"/proc/{pid}/setgroups").write_text("deny")
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {own} 1\n" + "1 65534 1\n" * root)


def _visible() -> list[str]:
    """Folders that a Python program needs; those inside another of them are left out."""
    wanted = ["/usr", "/bin", "/lib", "/lib64", sys.base_prefix, sys.prefix]
    found = sorted({folder for folder in wanted if os.path.isdir(folder)})
    return [
        folder
        for folder in found
        if not any(Path(folder).is_relative_to(other) for other in found if other != folder)
    ]
