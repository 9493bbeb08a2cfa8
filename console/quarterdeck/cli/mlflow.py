"""`qd import --from mlflow`: which MLflow is meant, and how far it is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from quarterdeck.cli.context import Context
from quarterdeck.cli.printing import ProgressBar
from quarterdeck.mlflow.database import Database
from quarterdeck.mlflow.deck import Taken
from quarterdeck.mlflow.folder import Folder
from quarterdeck.mlflow.left import Left
from quarterdeck.mlflow.server import Server
from quarterdeck.mlflow.shapes import Source
from quarterdeck.mlflow.taking import Taking
from quarterstore.records.faults import got


def take_in(context: Context, place: str, dry_run: bool) -> Taken:
    """Take in what an MLflow holds; progress on stderr when that is a terminal."""
    bar = ProgressBar()

    def say(words: str) -> None:
        bar.done()
        context.say(words)

    def show(words: str, fraction: float) -> None:
        if not context.quiet:
            bar.show("import", fraction, words)

    left = Left(say)
    try:
        return Taking(source_at(place, left), context.client, left, say, show, dry_run=dry_run).all()
    finally:
        bar.done()


def source_at(place: str, left: Left) -> Source:
    """The MLflow at a URL, in a folder with `mlflow.db`, or in an `mlruns` folder (or one that holds one)."""
    scheme, mark, path = place.partition("://")
    if mark and scheme in ("http", "https"):
        return Server(place, left)
    if mark and scheme not in ("sqlite", "file"):
        raise got("folder", urlsplit(place).scheme, "a folder, a database file, or http://HOST:PORT")
    folder = Path(unquote(path) if scheme == "file" else path.removeprefix("/")) if mark else Path(place)
    if folder.is_file():
        return Database(folder, folder.parent, left)
    root = folder / "mlruns" if (folder / "mlruns").is_dir() else folder
    of_files = any(root.glob("*/meta.yaml")) or any(root.glob(".trash/*/meta.yaml"))
    if (folder / "mlflow.db").is_file():
        if of_files:
            expected = f"mlflow.db alone: take it in by itself, qd import --from mlflow {root}"
            left.add("mlruns", got("folder", f"a store of files beside {folder / 'mlflow.db'}", expected))
        return Database(folder / "mlflow.db", folder, left)
    if not of_files:
        raise got("folder", place, "MLflow's folder: with mlflow.db, or with mlruns; or http://HOST:PORT")
    return Folder(root, folder, left)
