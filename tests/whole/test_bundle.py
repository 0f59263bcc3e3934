"""The embedded default: a root that needs no download and no image."""

import json
import os
import shutil

import pytest

pytestmark = pytest.mark.runc


def test_without_a_busybox_the_hosts_usr_is_the_root_read_only(shop) -> None:
    """The same command line works; nothing of the host can be written."""
    path = shop.scratch / "bin"
    path.mkdir()
    (path / "runc").symlink_to(shutil.which("runc"))
    environment = os.environ | {"ATTACHD_ROOT": str(shop.root), "PATH": str(path)}
    box = shop.name()
    done = shop.call(
        "attachd", "run", "-a", box, "--", "sh", "-c", "touch /usr/x || echo refused; touch /y",
        env=environment,
    )  # fmt: skip

    assert done.stdout == b"refused\n"


def test_spec_writes_a_bundle_that_can_be_edited_and_run(shop) -> None:
    """And refuses a directory that has something in it."""
    bundle = shop.bundle("sh", "-c", "echo $WORD")
    shop.patch(bundle, lambda spec: spec["process"]["env"].append("WORD=edited"))
    box = shop.name()
    done = shop.call("attachd", "run", "-a", "--bundle", bundle, box)
    again = shop.call("attachd", "spec", bundle, "--", "true", check=False)

    assert done.stdout == b"edited\n"
    assert again.returncode == 125
    assert json.loads((bundle / "config.json").read_text())["process"]["args"][0] == "sh"
