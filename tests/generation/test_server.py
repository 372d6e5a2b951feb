"""The server manager, with a small server of the standard library that can be told to fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.generation.machine import devices_of_job
from modpo_hpc.generation.server import ServerError, Servers, serve
from tests.waiting import wait_until

SERVER = """
import http.server, json, os, subprocess, sys, time
port, marks = int(sys.argv[1]), sys.argv[2]
with open(os.path.join(marks, f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'none')}.starts"), "a") as stream:
    stream.write(f"{os.getpid()}\\n")
# a grandchild in a session of its own, as some servers have
orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
with open(os.path.join(marks, "orphans"), "a") as stream:
    stream.write(f"{orphan.pid}\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(7)
        self.send_response(200 if not os.path.exists(os.path.join(marks, "sick")) else 503)
        self.end_headers()
        self.wfile.write(json.dumps({"pid": os.getpid()}).encode())
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    return tmp_path


def command(marks: Path) -> list[str]:
    return [sys.executable, str(marks / "server.py"), "{port}", str(marks)]


def root(url: str) -> str:
    return url.removesuffix("/v1")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def leased(servers: Servers) -> Iterator[str]:
    """The base URL of the least busy server, waiting for one that is well."""
    server = wait_until(servers.try_lease)
    try:
        yield server.url
    finally:
        servers.release(server)


def started(marks: Path) -> list[int]:
    return [int(line) for file in [*marks.glob("*.starts"), marks / "orphans"] for line in file.read_text().split()]


def test_a_server_lives_in_an_environment_of_its_own(tmp_path, monkeypatch):
    """As vLLM does, whose torch is another one: found by one line of the profile, and without our packages."""
    program = tmp_path / "own" / "bin" / "serve-own"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable} -S\nimport http.server, json, os, sys\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n        self.end_headers()\n"
        "        self.wfile.write(json.dumps(dict(os.environ)).encode())\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()\n"
    )
    program.chmod(0o755)
    with pytest.raises(InputError, match="MODPO_SERVER_PATH"), serve(["serve-own", "{port}"], logs=tmp_path):
        pass
    monkeypatch.setenv("MODPO_SERVER_PATH", str(program.parent))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serve(["serve-own", "{port}"], logs=tmp_path, devices=[None]) as servers, leased(servers) as url:
        variables = httpx.get(url).json()
    assert not {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"} & set(variables)
    assert variables["PATH"].startswith(str(program.parent))


def test_one_server_a_gpu_and_nothing_left_behind(marks):
    with serve(command(marks), logs=marks / "logs", devices=["0", "1"]) as servers:
        assert len(set(servers.urls)) == 2
        assert {httpx.get(f"{root(url)}/health").status_code for url in servers.urls} == {200}
    assert {one.name for one in marks.glob("*.starts")} == {"0.starts", "1.starts"}
    assert len(started(marks)) == 4
    assert all(gone(pid) for pid in started(marks))


def test_leases_go_to_the_least_busy(marks):
    with serve(command(marks), logs=marks / "logs", devices=["0", "1"]) as servers:
        with leased(servers) as first, leased(servers) as second, leased(servers):
            assert {first, second} == set(servers.urls)


def test_a_dead_server_comes_back(marks):
    with serve(command(marks), logs=marks / "logs", devices=["0"]) as servers:
        with leased(servers) as url, pytest.raises(httpx.HTTPError):
            httpx.get(f"{root(url)}/die")
        wait_until(lambda: servers.restarts == 1 and servers.urls)
        with leased(servers) as url:
            assert httpx.get(f"{root(url)}/health").status_code == 200
    assert len((marks / "0.starts").read_text().split()) == 2


def test_a_server_that_keeps_dying_is_given_up(marks):
    with serve(command(marks), logs=marks / "logs", devices=["0"], max_restarts=1) as servers:
        for _ in range(2):
            with leased(servers) as url, pytest.raises(httpx.HTTPError):
                httpx.get(f"{root(url)}/die")
            wait_until(lambda: not servers.urls)
        with pytest.raises(ServerError, match="failed 2 times"), leased(servers):
            pass


def test_a_wrong_command_says_what_the_server_said(marks):
    wrong = [sys.executable, "-c", "raise SystemExit('no such model: mistrall {port}')"]
    with pytest.raises(ServerError, match="no such model: mistrall"), serve(wrong, logs=marks / "logs", devices=[None]):
        pass
    with pytest.raises(InputError, match="not installed"), serve(["vlllm", "{port}"], logs=marks / "logs"):
        pass


def test_draining_waits_for_requests_in_flight(marks):
    ended: list[float] = []

    def hold(servers) -> None:
        with leased(servers):
            inside.set()
            time.sleep(0.5)
            ended.append(time.monotonic())

    inside = threading.Event()
    with serve(command(marks), logs=marks / "logs", devices=["0"]) as servers:
        thread = threading.Thread(target=hold, args=(servers,))
        thread.start()
        inside.wait()
    stopped = time.monotonic()
    thread.join()
    assert ended
    assert ended[0] <= stopped
    assert servers.try_lease() is None


OWNER = """
import sys, time
from pathlib import Path
from modpo_hpc.generation.server import serve
with serve(sys.argv[2:], logs=Path(sys.argv[1]) / "logs", devices=["0"]) as servers:
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_go_when_their_owner_is_killed(marks, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(marks), *command(marks)], stdout=subprocess.PIPE, env=environment
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        owner.send_signal(number)
    wait_until(lambda: all(gone(pid) for pid in started(marks)))


def test_gpus_of_the_job_are_grouped(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-8f,3")
    assert devices_of_job() == ["0", "1", "GPU-8f", "3"]
    assert devices_of_job(2) == ["0,1", "GPU-8f,3"]
    with pytest.raises(InputError, match="takes 8 GPUs"):
        devices_of_job(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices_of_job() == [None]
