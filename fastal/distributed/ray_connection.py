"""Connects this process to a Ray cluster."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastal.base.errors import Interrupted

_CONNECTING = threading.Lock()  # Ray's own check is not safe for threads
_REACHABLE_SECONDS = 10  # in which the machine of an address answers


def connect(address: str | None) -> str:
    """Connects this process to a Ray cluster, unless it is connected.

    Returns:
        The URL of the cluster's dashboard; empty if it has none.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ValueError: the process is connected to another cluster.
        ConnectionError: there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise ModuleNotFoundError(
            "engine='ray' needs Ray: pip install 'fastal[ray]'", name="ray"
        ) from None
    if ray.is_initialized():
        present = str(ray.get_runtime_context().gcs_address)
        _check_connected(address, present, ray.util.get_node_ip_address())
    else:
        _check_reachable(address)
    with _CONNECTING, _own_signals():
        try:
            context = ray.init(
                address, ignore_reinit_error=True, logging_level=logging.ERROR, log_to_driver=False
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            name = "RAY_ADDRESS" if address is None and "RAY_ADDRESS" in os.environ else "address"
            raise ConnectionError(f"{name}: {' '.join(str(error).split())}") from error
    return context.dashboard_url or ""


def _check_reachable(address: str | None) -> None:
    """ConnectionError if nothing listens at an address. Ray would try for minutes."""
    name = "address"
    if address in (None, "auto") and "RAY_ADDRESS" in os.environ:
        name, address = "RAY_ADDRESS", os.environ["RAY_ADDRESS"]
    host, _, port = (address or "").rpartition(":")
    if "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHABLE_SECONDS).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConnectionError(f"{name}: no Ray cluster at {address}: {reason}") from error


def _check_connected(address: str | None, present: str, this_machine: str) -> None:
    """Checks that an address is that of the cluster to which this process is connected.

    Args:
        address: as for `Ray`.
        present: the host and the port of the cluster.
        this_machine: the host by which Ray knows this machine.

    Raises:
        ValueError: it is the address of another.
    """
    if address in (None, "auto"):
        return
    host, _, port = (address or "").rpartition(":")
    present_host, _, present_port = present.rpartition(":")
    try:
        hosts = {str(info[4][0]) for info in socket.getaddrinfo(host.strip("[]"), None)}
    except (OSError, UnicodeError):
        hosts = {host}
    if any(one.startswith("127.") or one == "::1" for one in hosts):
        hosts.add(this_machine)
    if port != present_port or present_host not in hosts:
        raise ValueError(
            f"address: this process is connected to the Ray cluster at {present}, wanted "
            f"{address}; ray.shutdown() leaves it"
        )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restores the handlers of signals after the block: Ray sets one, which exits on SIGTERM.

    If there was a handler before, as in commands, the run ends as by a signal at other times. If
    Python swallowed the exit, as it does in a callback of `os.fork`, it is raised after the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    exits: list[SystemExit] = []
    reports = sys.unraisablehook

    def keep_exits(swallowed: "sys.UnraisableHookArgs") -> None:
        if isinstance(swallowed.exc_value, SystemExit):
            exits.append(swallowed.exc_value)
        else:
            reports(swallowed)

    sys.unraisablehook = keep_exits
    try:
        yield
        if exits:
            raise exits[0]
    except SystemExit as ended:
        if not callable(before[signal.SIGTERM]):
            raise
        raise Interrupted(signal.SIGTERM) from ended
    finally:
        sys.unraisablehook = reports
        for number, handler in before.items():
            signal.signal(number, handler)
