"""Bundles on their way in: what is checked before a byte is taken, and the act that registers what came."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from quarterdeckd.api.dispatch import Prepare, Wide
from quarterdeckd.api.identity import deck_name
from quarterdeckd.services.remotes import check_newer, registering, trusted
from quarterdeckd.services.signing import bundle_id, upload_name
from quarterstore.ledger.state import State
from quarterstore.records.faults import Refused, TooLarge, got
from quarterstore.records.places import Home
from quarterstore.records.registry import RegisterVersion
from quarterstore.records.remotes import BundlePlan, CheckBundle, Manifest, Sender, TakeBundle
from quarterstore.shelf.artefacts import LARGEST, Artefacts


class Bundles:
    """Looks at bundles for the acts about them; in threads, because signatures are checked and files are read."""

    def __init__(
        self, home: Home, view: State, kept: Artefacts, described: Callable[[RegisterVersion], RegisterVersion]
    ) -> None:
        self._home = home
        self._view = view
        self._kept = kept
        self._described = described

    def readers(self) -> dict[type, Wide]:
        """What is asked -> what answers it, in threads."""
        return {CheckBundle: lambda query, speaker, seen: self.plan(query)}

    def preparers(self) -> dict[type, Prepare]:
        """The act to take a bundle -> what looks at its files first."""
        return {TakeBundle: self.prepared}

    def plan(self, bundle: CheckBundle) -> BundlePlan:
        """What is still to be sent; raises where the bundle would not be taken."""
        manifest, sender = trusted(self._view, bundle)
        self._check_receiver(manifest)
        own = bundle_id(bundle.manifest)
        taken = self._view.bundles.get(own)
        if taken is None:
            check_newer(self._view, manifest, sender, time.time())
        sizes = self._sizes(manifest)
        files = {digest: (size, self._here(sender, digest)) for digest, size in sizes.items()}
        return BundlePlan(id=own, sender=sender.key, files=files, version=taken.version if taken else None)

    def prepared(self, act: TakeBundle) -> TakeBundle:
        """The act to take a bundle with what its files are: another format or signature than the manifest says is
        refused, and so is what is not here whole."""
        manifest, sender = trusted(self._view, act)
        self._check_receiver(manifest)
        for digest, size in self._sizes(manifest).items():
            found = self._kept.checked(digest).stat().st_size
            if found != size:
                raise got("manifest.size", size, f"{found}, which the file has")
        return replace(act, register=self._described(registering(manifest, sender)))

    def _check_receiver(self, manifest: Manifest) -> None:
        own = deck_name(self._home)
        if manifest.receiver != own:
            raise Refused(
                f"it is meant for the deck {manifest.receiver[:32]}, this is {own}", field="manifest.receiver"
            )

    def _sizes(self, manifest: Manifest) -> dict[str, int]:
        sizes = {manifest.digest: manifest.size}
        if manifest.golden is not None:
            sizes[manifest.golden] = manifest.golden_size
        if min(sizes.values()) <= 0 or sum(sizes.values()) > LARGEST:
            raise TooLarge(f"got files of {sum(sizes.values())} bytes, expected 1 to {LARGEST}", field="manifest.size")
        return sizes

    def _here(self, sender: Sender, digest: str) -> int:
        """Bytes of a file that need not be sent again."""
        return _size(self._kept.path(digest)) or _size(self._kept.incoming / upload_name(sender.key, digest))


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
