#!/usr/bin/env python3
"""A real Slurm on one machine, for tests and for trying things out: no systemd, no root needed.

    testbed.py start [--no-accounting] [--cgroups]    munge, slurmctld, four slurmd (and mariadb, slurmdbd)
    testbed.py stop                                   cancel what runs, end every daemon
    testbed.py status                                 which daemons live
    eval "$(testbed.py env)"                          point sbatch, squeue, ... and modpo at it

Debian and Ubuntu: apt-get install -y slurmctld slurmd slurm-client munge slurmdbd mariadb-server

Another Slurm than that of the system: --slurm PREFIX (MODPO_TEST_SLURM), the --prefix of its configure.

Two test beds can run side by side in different folders (--folder, MODPO_TESTBED) with different ports (--port).
As an ordinary user only that user can submit. With --cgroups (root, cgroup v1) memory limits are enforced by the
kernel and a job over its limit ends as OUT_OF_MEMORY; without, slurmd looks once a second and it ends as FAILED.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SYSTEM_FOLDERS = "/usr/sbin:/sbin"
PREFIX = "MODPO_TEST_SLURM"
"""Names where another Slurm than that of the system is installed."""
LONGEST_SOCKET_PATH = 107
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
START_SECONDS = 600
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")

SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pidfile
SlurmdPidFile={folder}/run/slurmd-%n.pidfile
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
PlugStackConfig={folder}/etc/plugstack.conf
Epilog={folder}/etc/epilog

AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until the credential of its last life has expired: 120 s by default, 5 s at least.
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5

MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1,bf_max_job_test=3000,default_queue_depth=3000
MaxArraySize={max_array_size}
MaxJobCount=50000
MinJobAge={min_job_age}
KillWait=3
CompleteWait=0
InactiveLimit=0
MessageTimeout=60
SlurmctldTimeout=10
SlurmdTimeout=300
UnkillableStepTimeout=120
DefMemPerCPU=500

{memory_enforcement}
{accounting}

GresTypes=gpu
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_node_port}-{last_node_port}] \
CPUs={cpus} RealMemory={memory_mb} {gres} State=UNKNOWN
PartitionName=cpu   Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL Default=NO  MaxTime=10       PriorityTier=10 PreemptMode=OFF
PartitionName=spare Nodes=ALL Default=NO  MaxTime=INFINITE PriorityTier=1  PreemptMode=REQUEUE GraceTime=60
PartitionName=spot  Nodes=ALL Default=NO  MaxTime=INFINITE PriorityTier=1  PreemptMode=CANCEL  GraceTime=60
"""
POLLED_MEMORY = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss"""
CGROUP_MEMORY = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1"""
DATABASE_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/run/munge.socket
AccountingStorageTRES=gres/gpu"""
ACCOUNTS_ENFORCED = "\nAccountingStorageEnforce=limits"
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
PidFile={folder}/run/slurmdbd.pidfile
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass={database_password}
StorageLoc=slurm_acct_db
"""
CGROUPS_CAN_BE_OFF = (24, 5)
"""The first Slurm that can be told to leave cgroups alone."""
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
"""


class TestBed:
    """The daemons of one test bed and the folder that holds all that they write."""

    def __init__(
        self,
        folder: Path,
        *,
        cluster: str = "testbed",
        port: int = 26900,
        nodes: int = 4,
        cpus: int = 4,
        memory_mb: int = 8000,
        gpus: int = 2,
        max_array_size: int = 1001,
        min_job_age: int = 300,
        accounting: bool = True,
        cgroups: bool = False,
        enforce_accounts: bool = False,
        slurm: str = os.environ.get(PREFIX, ""),
    ) -> None:
        self.folder, self.nodes, self.gpus = folder, nodes, gpus
        self.accounting, self.cgroups, self.enforce_accounts = accounting, cgroups, enforce_accounts
        self.conf = folder / "etc" / "slurm.conf"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))},
            "SLURM_CONF": str(self.conf),
            "PATH": search_path(slurm),
        }
        self.values = {
            "folder": folder,
            "cluster": cluster,
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "nodes": nodes,
            "cpus": cpus,
            "memory_mb": memory_mb,
            "gres": f"Gres=gpu:{gpus}" if gpus else "",
            "max_array_size": max_array_size,
            "min_job_age": min_job_age,
            "database_port": port,
            "dbd_port": port + 1,
            "controller_port": port + 2,
            "first_node_port": port + 11,
            "last_node_port": port + 10 + nodes,
            "memory_enforcement": CGROUP_MEMORY if cgroups else POLLED_MEMORY,
        }

    def start(self) -> None:
        """Start every daemon and wait until all nodes are idle."""
        if any(self._alive(name) for name in self._pids()):
            raise SystemExit(f"a test bed already runs in {self.folder}; end it with: testbed.py stop")
        programs = PROGRAMS + (ACCOUNTING_PROGRAMS if self.accounting else ())
        if absent := [one for one in programs if not shutil.which(one, path=self.environment["PATH"])]:
            raise SystemExit(
                f"not installed: {', '.join(absent)}. On Debian or Ubuntu: "
                "apt-get install -y slurmctld slurmd slurm-client munge slurmdbd mariadb-server"
            )
        if len(str(self.folder / "run" / "munge.socket")) > LONGEST_SOCKET_PATH - 10:
            raise SystemExit(f"{self.folder} is too long a path for a socket; choose a shorter --folder")
        for record in (self.folder / "run").glob("*.json"):
            record.unlink()
        # Munge wants a socket that everybody may reach, whatever the caller's mask says.
        mask = os.umask(0o022)
        try:
            self._write_configuration()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise
        finally:
            os.umask(mask)

    def stop(self) -> None:
        """Cancel all jobs and end every daemon of this folder, by its process id."""
        if self._alive("slurmctld"):
            self._call("scancel", f"--user={getpass.getuser()}", timeout=20)
            self._comes_true(lambda: not self._call("squeue", "-h"))
        last = ("slurmctld", "slurmdbd", "mariadbd", "munged")
        for name in sorted(self._pids(), key=lambda name: last.index(name) if name in last else -1):
            self._end(name)

    def status(self) -> dict[str, bool]:
        """Daemon -> whether it lives."""
        return {name: self._alive(name) for name in self._pids()}

    def _start_daemons(self) -> None:
        folder = self.folder
        if self.accounting:
            self._start_database()
        self._spawn(
            "munged", "--foreground", "--num-threads=4",
            f"--key-file={folder}/munge/key", f"--socket={folder}/run/munge.socket",
            f"--pid-file={folder}/run/munged.pidfile", f"--log-file={folder}/log/munged.log",
            f"--seed-file={folder}/munge/seed",
        )  # fmt: skip
        self._wait_for("munge", lambda: (folder / "run" / "munge.socket").exists())
        if self.accounting:
            self._grant_database()
            self._spawn("slurmdbd", "-D")
            self._wait_for("slurmdbd", lambda: self._call("sacctmgr", "-n", "-i", "list", "cluster") is not None)
            name = self.values["cluster"]
            if name not in (self._call("sacctmgr", "-n", "list", "cluster", "format=cluster%50") or "").split():
                self._call("sacctmgr", "-i", "add", "cluster", str(name))
        self._spawn("slurmctld", "-D", "-i", "-f", str(self.conf))
        for index in range(1, self.nodes + 1):
            self._spawn("slurmd", "-D", "-N", f"n{index}", "-f", str(self.conf), name=f"slurmd-n{index}")
        self._wait_for("slurmctld", lambda: self._call("scontrol", "ping") is not None)
        self._wait_for("the nodes", lambda: self._idle_nodes() == self.nodes)

    def _start_database(self) -> None:
        # A database that starts clears its folder for temporary tables: not that of another one.
        data, temporary = self.folder / "mysql", self.folder / "tmp"
        if not (data / "mysql").is_dir():
            with open(self.folder / "log" / "mariadb-install.out", "w") as log:
                subprocess.run(
                    ["mariadb-install-db", "--no-defaults", f"--user={getpass.getuser()}", f"--datadir={data}",
                     "--skip-test-db", "--auth-root-authentication-method=normal"],
                    env={**self.environment, "TMPDIR": str(temporary)}, check=True, stdout=log, stderr=log,
                )  # fmt: skip
        self._spawn(
            "mariadbd", "--no-defaults", f"--user={getpass.getuser()}", f"--datadir={data}", "--bind-address=127.0.0.1",
            f"--tmpdir={temporary}", f"--socket={self.folder}/run/mysql.sock",
            f"--pid-file={self.folder}/run/mariadbd.pidfile", f"--port={self.values['database_port']}",
            "--skip-name-resolve", "--innodb-buffer-pool-size=128M", "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip

    def _grant_database(self) -> None:
        password = (self.folder / "munge" / "database_password").read_text()
        statements = (
            "CREATE DATABASE IF NOT EXISTS slurm_acct_db;"
            f"CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY '{password}';"
            "GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';"
        )
        client = ("mariadb", "--no-defaults", "-uroot", "-S", f"{self.folder}/run/mysql.sock")
        self._wait_for("mariadb", lambda: self._call(*client, "-e", "select 1") is not None)
        subprocess.run(client, input=statements, text=True, env=self.environment, check=True)

    def _write_configuration(self) -> None:
        folder = self.folder
        spools = (f"spool/n{one + 1}" for one in range(self.nodes))
        for name in ("etc", "run", "log", "state", "mysql", "tmp", "dev", *spools):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "munge").mkdir(mode=0o700, exist_ok=True)
        _write_secret(folder / "munge" / "key", secrets.token_bytes(1024), mode=0o400)
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            _write_secret(folder / "munge" / "database_password", secrets.token_hex(16).encode())
            password = (folder / "munge" / "database_password").read_text()
            text = SLURMDBD_CONF.format(**self.values, database_password=password)
            (folder / "etc" / "slurmdbd.conf").unlink(missing_ok=True)
            _write_secret(folder / "etc" / "slurmdbd.conf", text.encode())
            accounting = DATABASE_ACCOUNTING.format(**self.values) + ACCOUNTS_ENFORCED * self.enforce_accounts
        self.conf.write_text(SLURM_CONF.format(**self.values, accounting=accounting))
        # Slurm ignores a GPU without a device file; a link to /dev/null passes for one, and CUDA_VISIBLE_DEVICES
        # is then set as on a real node.
        for index in range(self.gpus):
            device = folder / "dev" / f"gpu{index}"
            if not device.is_symlink():
                device.symlink_to("/dev/null")
        gres = f"Name=gpu File={folder}/dev/gpu[0-{self.gpus - 1}]\n" if self.gpus else ""
        (folder / "etc" / "gres.conf").write_text(gres)
        (folder / "etc" / "cgroup.conf").write_text(CGROUP_CONF if self.cgroups else self._no_cgroups())
        (folder / "etc" / "plugstack.conf").write_text("")
        epilog = folder / "etc" / "epilog"
        epilog.write_text(f"#!/bin/sh\nexec {sys.executable} -S -E {Path(__file__).resolve()} reap {self.conf}\n")
        epilog.chmod(0o755)

    def _no_cgroups(self) -> str:
        """A newer Slurm looks for cgroups even where nothing uses them, unless told not to; 22.05 has no such word."""
        said = re.search(r"(\d+)\.(\d+)", self._call("slurmctld", "-V") or "")
        version = (int(said[1]), int(said[2])) if said else (0, 0)
        return "CgroupPlugin=disabled\n" if version >= CGROUPS_CAN_BE_OFF else "CgroupAutomount=no\n"

    def _spawn(self, program: str, *arguments: str, name: str | None = None) -> None:
        name = name or program
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            process = subprocess.Popen(
                [program, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        (self.folder / "run" / f"{name}.json").write_text(json.dumps({"pid": process.pid, "born": _born(process.pid)}))

    def _pids(self) -> dict[str, dict[str, int]]:
        return {one.stem: json.loads(one.read_text()) for one in sorted((self.folder / "run").glob("*.json"))}

    def _alive(self, name: str) -> bool:
        record = self._pids().get(name)
        return record is not None and _born(record["pid"]) == record["born"]

    def _end(self, name: str) -> None:
        process = self._pids()[name]["pid"]
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._alive(name):
                os.kill(process, number)
            if self._comes_true(lambda: not self._alive(name)):
                break
        (self.folder / "run" / f"{name}.json").unlink()

    def _call(self, *command: str, timeout: float = 10) -> str | None:
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def _idle_nodes(self) -> int:
        states = self._call("sinfo", "-h", "-N", "-p", "cpu", "-o", "%T") or ""
        return states.split().count("idle")

    def _wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until a daemon is ``ready``, however slow the machine is, but not for one that has died."""
        until = time.monotonic() + START_SECONDS
        while not ready():
            if dead := [name for name, alive in self.status().items() if not alive]:
                raise SystemExit(f"{', '.join(dead)} ended while it started; see the logs in {self.folder / 'log'}")
            if time.monotonic() > until:
                raise SystemExit(f"waited {START_SECONDS} s for {what}; see the logs in {self.folder / 'log'}")
            time.sleep(0.05)

    def _comes_true(self, ready: Callable[[], bool], seconds: float = 20) -> bool:
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


def search_path(slurm: str) -> str:
    """Where programs are looked for: first below the prefix ``slurm``, if there is one."""
    first = f"{slurm}/bin:{slurm}/sbin:" if slurm else ""
    return f"{first}{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}"


def reap(conf: str) -> None:
    """End what a job left behind: processes that made themselves daemons escape Slurm's own tracking."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = map(int, filter(str.isdigit, os.listdir("/proc")))
        left = [process for process in processes if _belongs(process, job, conf)]
        if not left:
            return
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        time.sleep(0.4)


def _belongs(process: int, job: str, conf: str) -> bool:
    try:
        with open(f"/proc/{process}/environ", "rb") as stream:
            entries = set(stream.read().split(b"\0"))
    except OSError:
        return False
    wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_CONF={conf}".encode()}
    return wanted <= entries and not any(one.startswith(b"SLURM_SCRIPT_CONTEXT=") for one in entries)


def _born(process: int) -> int | None:
    """Start time of a living process in clock ticks, which tells it from a later one with the same id."""
    try:
        with open(f"/proc/{process}/stat") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _write_secret(path: Path, content: bytes, mode: int = 0o600) -> None:
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)


def main() -> int:
    if sys.argv[1:2] == ["reap"]:
        reap(sys.argv[2])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop", "status", "env"))
    parser.add_argument(
        "--folder", type=Path, default=Path(os.environ.get("MODPO_TESTBED", f"/tmp/slurm-{getpass.getuser()}"))
    )
    parser.add_argument("--cluster", default="testbed", metavar="NAME", help="its name in Slurm (default testbed)")
    parser.add_argument("--port", type=int, default=26900, help="uses PORT to PORT + 10 + nodes (default 26900)")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--cpus", type=int, default=4, help="of each node; their sum may exceed the machine's")
    parser.add_argument("--memory-mb", type=int, default=8000, help="of each node")
    parser.add_argument("--gpus", type=int, default=2, help="of each node; they are not real")
    parser.add_argument("--max-array-size", type=int, default=1001)
    parser.add_argument("--min-job-age", type=int, default=300, help="seconds for which squeue remembers a job")
    parser.add_argument("--no-accounting", dest="accounting", action="store_false", help="no database, so no sacct")
    parser.add_argument(
        "--enforce-accounts",
        action="store_true",
        help="refuse jobs without an account of the user's, or beyond its limits",
    )
    parser.add_argument("--cgroups", action="store_true", help="memory limits by the kernel (root, cgroup v1)")
    parser.add_argument(
        "--slurm",
        metavar="PREFIX",
        default=os.environ.get(PREFIX, ""),
        help=f"where another Slurm than that of the system is installed (default: {PREFIX})",
    )
    arguments = vars(parser.parse_args())
    action = arguments.pop("action")
    bed = TestBed(arguments.pop("folder").resolve(), **arguments)
    if action == "env":
        print(f"export SLURM_CONF={bed.conf}")
        if arguments["slurm"]:
            print(f"export PATH={shlex.quote(search_path(arguments['slurm']))}")
    elif action == "status":
        for name, alive in bed.status().items():
            print(f"{name:12} {'up' if alive else 'down'}")
    elif action == "start":
        began = time.monotonic()
        bed.start()
        print(f"Slurm runs after {time.monotonic() - began:.1f} s. Use it with: export SLURM_CONF={bed.conf}")
    else:
        bed.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
