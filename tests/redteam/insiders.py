"""Attacks by somebody who has read this engine: its protocol, its worker, what its children share, how it reads cells.

As in `hostile.py`: text for the cell of `softmax`, each with the points that softmax deserves. Several return the right
answer only if the attack works, so that one that works shows in the points.
"""

from __future__ import annotations

from tests.redteam.answers import RIGHT_NUMPY

_RIGHT = RIGHT_NUMPY["softmax"]
_WRONG = "def softmax(x):\n    return x * 0\n"


def _if_it_works(attack: str, before: str = "") -> str:
    """A softmax that is right only where `attack`, the body of a function, returns True."""
    body = "".join(f"    {line}\n" for line in attack.strip("\n").split("\n"))
    return (
        f"import ctypes, os, sys, socket, struct, time\n{before}def attack():\n{body}    return False\n"
        "try:\n    WORKED = attack()\nexcept Exception:\n    WORKED = False\n"
        + _RIGHT.replace("def softmax", "def right")
        + "def softmax(x):\n    return right(x) if WORKED else x * 0\n"
    )


# What the first process leaves, the second (NumPy inputs after torch's, or the practice run) would find.
_FILES = """
import shutil
places = ["/scratch", "/tmp", "/dev/shm", "/var/tmp", "/run", "/dev/mqueue", os.getcwd()]
deep = "d" * 200
found = []
for place in places:
    try:
        found += [name for name in os.listdir(place) if name.startswith(("left", "ddd", "."))]
        found += [name for name in os.listxattr(place) if "left" in name]
        if os.stat(place).st_mtime == 12345 or os.stat(place).st_mode & 0o777 == 0o703:
            found.append("date or mode")
    except OSError:
        pass
def leave():
    for place in places:
        try:
            open(place + "/left", "w").write("message")
            open(place + "/.left", "w").write("message")
            os.mkfifo(place + "/left-pipe")
            os.symlink("/", place + "/left-link")
            os.setxattr(place, "user.left", b"message")
        except OSError:
            pass
        try:
            home = os.getcwd()
            os.chdir(place)
            for _ in range(60):
                os.mkdir(deep)
                os.chdir(deep)
            open("left", "w").write("message")
            os.chmod(".", 0)
        except OSError:
            pass
        finally:
            os.chdir(home)
        try:
            os.chmod(place, 0o703)
            os.utime(place, (12345, 12345))
        except OSError:
            pass
leave()
return bool(found)
"""
_KERNEL = """
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
found = []
shared = libc.shmget(0x5eed, 4096, 0)
queue = libc.msgget(0x5eed, 0)
semaphores = libc.semget(0x5eed, 1, 0)
key = libc.syscall(249, b"user", b"left", None, ctypes.c_long(-4))
found += [one for one in (shared, queue, semaphores, key) if one >= 0]
import resource
if resource.getrlimit(resource.RLIMIT_STACK)[0] == 7 << 20 or os.getpriority(os.PRIO_PROCESS, 0) == 11:
    found.append("limits")
s = socket.socket(socket.AF_UNIX)
try:
    s.connect("\\0left")
    found.append("socket")
except OSError:
    pass
libc.shmget(0x5eed, 4096, 0o1666)
libc.msgget(0x5eed, 0o1666)
libc.semget(0x5eed, 1, 0o1666)
libc.syscall(248, b"user", b"left", b"x", ctypes.c_size_t(1), ctypes.c_long(-4))
for act in (
    lambda: resource.prlimit(parent, resource.RLIMIT_STACK, (7 << 20, 7 << 20)),
    lambda: os.setpriority(os.PRIO_PROCESS, parent, 11),
    lambda: os.setpriority(os.PRIO_USER, os.getuid(), 11),
    lambda: os.setpriority(os.PRIO_PGRP, os.getpgid(parent), 11),
    lambda: os.sched_setaffinity(parent, {0}),
    lambda: open(f"/proc/{parent}/oom_score_adj", "w").write("900"),
    lambda: open(f"/proc/{parent}/comm", "w").write("left"),
):
    try:
        act()
    except (OSError, ValueError):
        pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("\\0left")
        listening.listen(5)
        time.sleep(1000)
    os._exit(0)
return bool(found)
"""
_CONTROL = """
libc = ctypes.CDLL(None, use_errno=True)
def shout(fd):
    with socket.socket(fileno=os.dup(fd)) as control:
        control.send(b'{"ok": true}')
        return True
for name in os.listdir("/proc/self/fd"):
    try:
        if "socket" in os.readlink("/proc/self/fd/" + name):
            return shout(int(name))
    except OSError:
        pass
for process in (1, 2, os.getppid()):
    if process == os.getpid():
        continue
    handle = libc.syscall(434, process, 0)
    for number in range(16):
        fd = libc.syscall(438, handle, number, 0)
        if fd >= 0:
            return True
        try:
            os.open(f"/proc/{process}/fd/{number}", os.O_RDWR)
            return True
        except OSError:
            pass
"""
_MEMORY = """
libc = ctypes.CDLL(None, use_errno=True)
for process in {1, 2, os.getppid()} - {os.getpid()}:
    for name in ("mem", "environ", "maps", "stack", "syscall"):
        for how in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY):
            try:
                fd = os.open(f"/proc/{process}/{name}", how)
                if os.read(fd, 100):
                    return True
            except OSError:
                pass
    if libc.ptrace(16, process, 0, 0) == 0 or libc.ptrace(0x4206, process, 0, 0) == 0:
        return True
    here = ctypes.create_string_buffer(64)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(here), 8)
    for call in (310, 311):
        if libc.syscall(call, process, vector, 1, vector, 1, 0) > 0:
            return True
"""
_CALLS = """
if os.getuid() == 0:  # in a jail nobody is; outside it these would do harm
    return False
libc = ctypes.CDLL(None, use_errno=True)
calls = {
    "mount": lambda: libc.mount(b"none", b"/scratch", b"tmpfs", 0, None),
    "umount": lambda: libc.umount2(b"/scratch", 2),
    "unshare user": lambda: libc.unshare(0x10000000),
    "unshare mount": lambda: libc.unshare(0x00020000),
    "chroot": lambda: libc.chroot(b"/scratch"),
    "pivot_root": lambda: libc.syscall(155, b"/scratch", b"/scratch"),
    "setuid": lambda: libc.setuid(0),
    "setns": lambda: libc.setns(os.open("/proc/1/ns/net", os.O_RDONLY), 0),
    "bpf": lambda: libc.syscall(321, 0, 0, 0),
    "io_uring": lambda: libc.syscall(425, 4, ctypes.create_string_buffer(200)),
    "userfaultfd": lambda: libc.syscall(323, 0),
    "perf": lambda: libc.syscall(298, ctypes.create_string_buffer(200), 0, -1, -1, 0),
    "init_module": lambda: libc.syscall(175, b"x", 1, b""),
    "kexec": lambda: libc.syscall(246, 0, 0, 0, 0),
    "reboot": lambda: libc.syscall(169, 0xFEE1DEAD, 672274793, 0, 0),
    "sethostname": lambda: libc.sethostname(b"mine", 4),
    "settimeofday": lambda: libc.settimeofday(ctypes.create_string_buffer(16), None),
    "open_by_handle_at": lambda: libc.syscall(304, -100, ctypes.create_string_buffer(136), 0) - 1,
    "swapon": lambda: libc.swapon(b"/scratch/x", 0),
    "acct": lambda: libc.acct(b"/scratch/x"),
    "mknod": lambda: libc.mknod(b"/scratch/disk", 0o60666, 0x0800),
    "nested jail": lambda: libc.syscall(272, 0x10000000 | 0x00020000),
}
worked = []
for name, call in calls.items():
    try:
        if call() >= 0:
            worked.append(name)
    except OSError:
        pass
return bool(worked)
"""
_SOCKETS = """
for family, kind, where in (
    (getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM, (2, 22)),
    (getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM, (1, 22)),
    (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 80)),
    (socket.AF_UNIX, socket.SOCK_STREAM, "/run/dbus/system_bus_socket"),
    (socket.AF_UNIX, socket.SOCK_STREAM, "/var/run/docker.sock"),
):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(0.2)
            s.connect(where)
            return True
    except OSError:
        pass
for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):
    try:
        socket.socket(family, kind)
        return True
    except OSError:
        pass
"""
_SETUID = """
import subprocess
for command in (
    ["/bin/mount", "-t", "tmpfs", "none", "/scratch"], ["/bin/su", "-c", "id"], ["/usr/bin/sudo", "-n", "id"],
    ["/usr/bin/newgrp"], ["/usr/bin/unshare", "-Ur", "id"], ["/usr/bin/bwrap", "--ro-bind", "/", "/", "id"],
):
    try:
        if subprocess.run(command, capture_output=True, timeout=2, stdin=subprocess.DEVNULL).returncode == 0:
            return True
    except (OSError, subprocess.TimeoutExpired):
        pass
return os.getuid() == 0 or os.geteuid() == 0
"""
_STARTUP = """
import site
places = ["/scratch", os.getcwd(), *sys.path, site.getusersitepackages()]
for place in places:
    for name, text in (
        ("sitecustomize.py", "import builtins; builtins.LEFT = 1"),
        ("usercustomize.py", "import builtins; builtins.LEFT = 1"),
        ("left.pth", "import builtins; builtins.LEFT = 1"),
        ("json.py", "LEFT = 1"), ("numpy.py", "LEFT = 1"), ("wire.py", "LEFT = 1"), ("einops.py", "LEFT = 1"),
    ):
        try:
            os.makedirs(place, exist_ok=True)
            open(os.path.join(place, name), "w").write(text)
        except OSError:
            pass
import builtins, json, numpy
return hasattr(builtins, "LEFT") or hasattr(json, "LEFT") or hasattr(numpy, "LEFT")
"""
_WORKER = """
worker = sys.modules["_attnkit_worker"]
secrets = [name for name in ("question", "reference", "seed", "key", "points") if hasattr(worker, name)]
import gc
for thing in gc.get_objects():
    kind = type(thing)
    if kind.__name__ in ("Question", "Case", "Mistake") or str(kind.__module__).startswith("attnkit.lab"):
        secrets.append(thing)
return bool(secrets)
"""


INSIDERS: dict[str, tuple[str, float, str]] = {
    "files left for its next process": (_if_it_works(_FILES), 0, "the scratch space is emptied or thrown away"),
    "kernel objects left for its next process": (_if_it_works(_KERNEL), 0, "the calls are refused, processes ended"),
    "looks for the control socket": (_if_it_works(_CONTROL), 0, "it is closed, and the zygote's is out of reach"),
    "reads and writes the zygote's memory": (_if_it_works(_MEMORY), 0, "no call for it is allowed"),
    "dangerous system calls": (_if_it_works(_CALLS), 0, "all refused"),
    "sockets to the host": (_if_it_works(_SOCKETS), 0, "there is nobody to talk to"),
    "programs that run as root": (_if_it_works(_SETUID), 0, "no program gains rights"),
    "start-up files for a later Python": (_if_it_works(_STARTUP), 0, "a child is forked and reads none"),
    "looks for questions in memory": (_if_it_works(_WORKER), 0, "the zygote has never read one"),
}  # fmt: skip
