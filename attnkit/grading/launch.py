"""Started before a worker, as the user who grades: becomes what the worker may be, then the worker's own program.

    python launch.py PARENT_PID GROUP|- stay|map:UID|drop:UID PROGRAM [ARGUMENT ...]

map:UID (root only): enters a user namespace in which 0 is root without its powers outside, and the worker's 65534 is
UID: so that the limit on processes, which the kernel does not enforce for root, holds in the jail, and what only root
may read stays unread. drop:UID (root only): becomes the user UID, for good. GROUP is the `cgroup.procs` of the control
group to enter. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

NOBODY = 65534
_NEW_USER_NAMESPACE = 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace(uid: int) -> None:
    """Enter a new user namespace that holds root and `uid`, and that can hold no namespace further in."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    ours, theirs = os.pipe()
    me = os.getpid()
    mapper = os.fork()
    if mapper == 0:  # only from outside can more than oneself be mapped
        os.close(theirs)
        os.read(ours, 1)
        write(f"/proc/{me}/uid_map", f"0 0 1\n{NOBODY} {uid} 1\n")
        write(f"/proc/{me}/gid_map", f"{NOBODY} {uid} 1\n")
        os._exit(0)
    os.close(ours)
    if _libc.unshare(_NEW_USER_NAMESPACE):
        number = ctypes.get_errno()
        raise OSError(number, f"no new user namespace: {os.strerror(number)}")
    os.close(theirs)
    if os.waitpid(mapper, 0)[1]:
        raise OSError("the user namespace cannot be given its users")
    write("/proc/sys/user/max_user_namespaces", "0")


def become(uid: int) -> None:
    """Become the user `uid`, in its own group and no other."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o077)


def write(path: str, text: str) -> None:
    """Write to a file of /proc, in one call as the kernel wants it."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def main() -> None:
    """Change, then run the program. Whatever does not work is told on standard error, and nothing is run."""
    parent, group, how, *program = sys.argv[1:]
    if group != "-":
        write(group, str(os.getpid()))
    with contextlib.suppress(OSError):  # not everywhere is there such a file
        # When memory runs out, this is to be ended, not the grader.
        write("/proc/self/oom_score_adj", "1000")
    kind, _, uid = how.partition(":")
    try:
        if kind == "map":
            enter_namespace(int(uid))
        elif kind == "drop":
            become(int(uid))
    except OSError as error:
        sys.exit(f"{error}")
    # After the change of user, which would clear it. bubblewrap sets its own.
    if sys.platform == "linux":
        _libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != int(parent):
            sys.exit("the grader is gone")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
