"""`quarterdeckd`: options, signals, readiness; runs one daemon until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import uvloop

from quarterdeckd import notify
from quarterdeckd.assembly import Daemon, words
from quarterdeckd.background import start_apart
from quarterdeckd.settings import PROFILES, Settings, load
from quarterstore.ledger.opening import open_ledger
from quarterstore.records.faults import MEANINGS, Fault
from quarterstore.records.places import Home, default_home

log = logging.getLogger("quarterdeckd")


ABOUT = """Quarterdeck's daemon: answers qd and the console, serves predictions, follows jobs. Each setting can also be
set in the home's quarterdeck.toml or as QUARTERDECK_<NAME>; an option is the strongest. Exit codes: 2 wrong settings,
5 an address or the home is taken."""


class _Options(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other complaint."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The options; each but --home can also be set in `quarterdeck.toml` or as `QUARTERDECK_*`."""
    options = _Options(prog="quarterdeckd", description=ABOUT, allow_abbrev=False)
    options.add_argument("--home", type=Path, default=None, help="the store's folder (QUARTERDECK_HOME, else XDG)")
    options.add_argument("--profile", choices=PROFILES, default=None, help="the rules of approval")
    options.add_argument("--http", metavar="HOST:PORT", default=None, help="where predictions are answered")
    options.add_argument("--listen", metavar="tcp://HOST:PORT", default=None, help="answer on tcp as well, with CURVE")
    options.add_argument("--mlflow", metavar="HOST:PORT", default=None, help="where MLflow's clients are answered")
    options.add_argument(
        "--grpc", metavar="HOST:PORT", default=None, help="where predictions are answered over gRPC too"
    )
    options.add_argument("--rest", metavar="HOST:PORT", default=None, help="where labels and outcomes are taken")
    options.add_argument("--remote", metavar="HOST:PORT", default=None, help="where other decks send versions to")
    options.add_argument("--remote-cert", metavar="FILE", default=None, help="certificate of that door, in PEM")
    options.add_argument("--remote-key", metavar="FILE", default=None, help="key of that certificate")
    options.add_argument("--metrics", metavar="HOST:PORT", default=None, help="not built yet")
    options.add_argument("--hosts", metavar="MIN[:MAX]", default=None, help="serving hosts; up to MAX by load")
    options.add_argument("--workers", type=int, default=None, help="jobs that run at once")
    options.add_argument("--lost-after", type=float, default=None, help="seconds of silence after which a run is LOST")
    options.add_argument("--log-level", default=None, help="debug, info, warning, error or critical")
    options.add_argument(
        "--background", action="store_true", help="start apart from this terminal and return once it answers"
    )
    options.add_argument(
        "--enrol", action="store_true", help="let the owner's key in again: for a store that was restored without keys"
    )
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the daemon; answers its exit code."""
    os.umask(0o077)
    given = vars(parser().parse_args(argv))
    home, enrol = Home(given.pop("home") or default_home()), given.pop("enrol")
    apart = given.pop("background")
    try:
        settings = load(home.settings, given)
        if apart:
            return start_apart(home, _without_background(sys.argv[1:] if argv is None else argv))
        _log_to_stderr(settings.log_level)
        return uvloop.run(_serve(home, settings, given, enrol))
    except Fault as fault:
        print(f"error: {fault.line()}", file=sys.stderr)
        return MEANINGS[type(fault)].exit
    except OSError as error:
        where = error.filename or home.root
        print(f"error: home: got {error.strerror} for {where}, expected a folder that can be written", file=sys.stderr)
        return 1


def _without_background(words: list[str]) -> list[str]:
    return [word for word in words if word != "--background"]


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name in ("apscheduler", "httpx"):  # a line for each alarm, and for each look at a remote
        logging.getLogger(name).setLevel(logging.WARNING)


async def _serve(home: Home, settings: Settings, flags: dict[str, object], enrol: bool) -> int:
    loop = asyncio.get_running_loop()
    ledger = open_ledger(home)
    gc.freeze()  # the state and the code stay: a collection that looked through them held every answer up
    gc.enable()
    try:
        daemon = Daemon(ledger, settings)
        await daemon.start(enrol=enrol)
    except BaseException:
        ledger.close()
        raise
    if daemon.ledger.recovered:
        log.warning("recovered: %s", daemon.ledger.recovered)
    log.info("answering at %s (process %d, profile %s)", home.ask_address, os.getpid(), daemon.profile)
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)  # the second signal does not wait
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, _reload, home, flags)
    notify.ready()
    tasks = [asyncio.create_task(daemon.work()), asyncio.create_task(_watchdog(daemon))]
    waiting = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    failed = next((task.exception() for task in done if task is not waiting and task.exception()), None)
    if failed is not None:
        log.critical("a part of the daemon ended", exc_info=failed)
    notify.stopping()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await daemon.stop()
    log.info("stopped")
    return 1 if failed is not None else 0


def _reload(home: Home, flags: dict[str, object]) -> None:
    """SIGHUP: read the settings again; wrong ones are said and the old ones stay."""
    notify.reloading()
    try:
        settings = load(home.settings, flags)
        logging.getLogger().setLevel(settings.log_level.upper())
        log.info("settings read again; those of sockets and serving need a restart")
    except (Fault, ValueError) as fault:
        log.error("settings kept as they were: %s", fault)
    notify.ready()


async def _watchdog(daemon: Daemon) -> None:
    interval = notify.watchdog_interval()
    while True:
        await asyncio.sleep(min(interval or 10.0, 10.0))
        if interval and daemon.alive(2 * interval):
            notify.watchdog()
        notify.status(words(daemon.health.status()))
