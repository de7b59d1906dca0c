"""A real Apache Kafka for tests: one KRaft node on free ports, from Maven Central's jars.

    missing() -> why it cannot run here      ApacheKafka(directory)  start | kill | restart | stop

    python -m tests.apache_kafka             prints the address, runs until Ctrl-C

The jars are fetched once into `.cache/kafka-<version>`; the version is pinned in tests/fixtures/kafka/pom.xml.
"""

import asyncio
import base64
import contextlib
import fcntl
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "kafka"
START_DEADLINE = 90.0
FETCH_DEADLINE = 600.0
STOP_DEADLINE = 20.0


def missing() -> str | None:
    """Why Apache Kafka cannot run here, or None."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if not absent:
        return None
    return f"Apache Kafka needs {' and '.join(absent)} on the PATH (Java 17 or newer), or RELAY_TEST_KAFKA=host:port"


def version() -> str:
    """The pinned version."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", (FIXTURES / "pom.xml").read_text())
    assert found
    return found.group(1)


def libraries() -> Path:
    """The folder with the broker's jars, fetched the first time."""
    target = ROOT / ".cache" / f"kafka-{version()}"
    target.parent.mkdir(exist_ok=True)
    with (target.parent / "kafka.lock").open("w") as lock:
        # Test workers start together; one fetches, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ["mvn", "-B", "-q", "-f", str(FIXTURES / "pom.xml"), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_DEADLINE, check=False)
    if done.returncode:
        message = f"Maven could not fetch Apache Kafka {version()}:\n{(done.stdout + done.stderr)[-2000:]}"
        raise RuntimeError(message)
    partial.rename(target)


class ApacheKafka:
    """One broker with its data in `directory`; the same ports and data for its whole life, over kills and restarts."""

    can_restart = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self._login_port, self._controller_port = _free_ports(3)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.login_bootstrap = f"127.0.0.1:{self._login_port}"
        """The listener that wants a login by SASL PLAIN: user `relay`, `password`."""
        self.password = secrets.token_urlsafe()
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "broker.log"

    def start(self) -> None:
        """Format the storage the first time, start, and return when the broker answers."""
        properties = self.directory / "server.properties"
        if not properties.exists():
            self._format(properties)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_java(), "kafka.Kafka", str(properties)], stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_it_answers()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; killed when it takes too long."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again after `kill` or `stop`, on the same data and ports."""
        assert self.process is None
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.stop)

    def _format(self, properties: Path) -> None:
        text = (FIXTURES / "server.properties").read_text()
        names = {
            "{port}": str(self.port),
            "{login_port}": str(self._login_port),
            "{controller_port}": str(self._controller_port),
            "{password}": self.password,
            "{data}": str(self.directory / "data"),
        }
        for name, value in names.items():
            text = text.replace(name, value)
        properties.write_text(text)
        cluster = base64.urlsafe_b64encode(b"relay-test-kafka").decode().rstrip("=")
        command = [*_java(), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_DEADLINE, check=False)
        if done.returncode:
            properties.unlink()
            message = f"Kafka's storage could not be formatted:\n{(done.stdout + done.stderr)[-2000:]}"
            raise RuntimeError(message)

    def _wait_until_it_answers(self) -> None:
        assert self.process
        until = time.monotonic() + START_DEADLINE
        while time.monotonic() < until:
            if _answers(self.port):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.1)
                break
        message = f"Apache Kafka did not start; the end of its log:\n{self._log.read_text()[-2000:]}"
        self.kill()
        raise RuntimeError(message)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RunningKafka:
    """A broker that somebody else runs (RELAY_TEST_KAFKA); it cannot be killed from here."""

    can_restart = False

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


def _java() -> list[str]:
    # Small and quick to start: the tests send thousands of messages, not millions.
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    logging = f"-Dlog4j2.configurationFile={FIXTURES / 'log4j2.properties'}"
    return ["java", *options, logging, "-cp", f"{libraries()}/*"]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _answers(port: int) -> bool:
    """Whether a Kafka broker answers ApiVersions (version 0) on the port."""
    request = struct.pack(">hhih", 18, 0, 1, 5) + b"relay"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            reply = connection.recv(10)
    except OSError:
        return False
    return len(reply) == 10 and struct.unpack(">iih", reply)[1:] == (1, 0)


def main() -> int:
    """Run a broker until Ctrl-C."""
    if reason := missing():
        print(reason, file=sys.stderr)  # noqa: T201  a script talks to people
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="relay-kafka-") as directory, ApacheKafka(Path(directory)) as kafka:
        print(f"RELAY_TEST_KAFKA={kafka.bootstrap}", flush=True)  # noqa: T201  what the caller came for
        assert kafka.process
        with contextlib.suppress(KeyboardInterrupt):
            return kafka.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
