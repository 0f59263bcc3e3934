"""The embedded default: what is in its configuration, and what its root is made of."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest

from attachd.errors import UsageError
from attachd.keeper import bundle
from attachd.keeper.bundle import read_spec, wants_terminal, write_bundle

BUSYBOX = shutil.which("busybox")
PT_LOAD, PT_INTERP = 1, 3


def elf(
    *kinds: int, offset: int = 64, count: int | None = None, name: bytes = b"\x02\x01"
) -> bytes:
    """Return an ELF file's header and program headers, of the given kinds."""
    ident = (b"\x7fELF" + name).ljust(16, b"\0")
    number = len(kinds) if count is None else count
    head = struct.pack("<16sHHIQQQIHHH", ident, 2, 62, 1, 0, offset, 0, 0, 64, 56, number)
    return head.ljust(offset, b"\0") + b"".join(struct.pack("<I52x", kind) for kind in kinds)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in PATH, empty."""
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty directory for a bundle."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    return directory


def install(programs: Path, content: bytes) -> None:
    """Put a program called busybox into PATH."""
    (programs / "busybox").write_bytes(content)
    (programs / "busybox").chmod(0o755)


def spec_of(home: Path, *command: str, name: str = "box") -> dict:
    """Write a bundle and return its configuration."""
    write_bundle(str(home), command or ("true",), name)
    return json.loads((home / "config.json").read_text())


# The configuration


@pytest.mark.usefixtures("programs")
def test_the_command_is_taken_as_it_is(home: Path) -> None:
    """No shell comes between; every argument is kept."""
    spec = spec_of(home, "sh", "-c", "echo 'a  b'", "", "é")

    assert spec["process"]["args"] == ["sh", "-c", "echo 'a  b'", "", "é"]


@pytest.mark.usefixtures("programs")
def test_the_container_is_one_of_its_own(home: Path) -> None:
    """Own pid, mount, ipc, uts and network namespaces, the id as host name, no terminal."""
    spec = spec_of(home, name="x" * 100)

    kinds = {entry["type"] for entry in spec["linux"]["namespaces"]}
    assert kinds == {"pid", "network", "ipc", "uts", "mount"}
    assert all("path" not in entry for entry in spec["linux"]["namespaces"])
    assert spec["hostname"] == "x" * 63
    assert spec["root"] == {"path": "rootfs", "readonly": False}
    assert not wants_terminal(spec)
    assert spec["process"]["cwd"] == "/"


@pytest.mark.usefixtures("programs")
def test_the_container_has_few_rights(home: Path) -> None:
    """No network or system administration, no new privileges, no device but the usual."""
    spec = spec_of(home)

    capabilities = spec["process"]["capabilities"]
    for granted in capabilities.values():
        assert not {c for c in granted if c.startswith(("CAP_NET", "CAP_SYS_A", "CAP_SYS_M"))}
        assert len(granted) == 11
    assert set(capabilities) == {"bounding", "effective", "permitted"}
    assert spec["process"]["noNewPrivileges"] is True
    assert spec["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert "/proc/kcore" in spec["linux"]["maskedPaths"]
    assert "/proc/sys" in spec["linux"]["readonlyPaths"]


@pytest.mark.usefixtures("programs")
def test_the_bundle_reads_back(home: Path) -> None:
    """What we write is what we accept."""
    write_bundle(str(home), ("true",), "box")

    assert read_spec(str(home))["ociVersion"] == "1.0.2"


def test_an_empty_command_is_refused(home: Path) -> None:
    """The message says what to give; nothing was written."""
    with pytest.raises(UsageError, match="a command after --"):
        write_bundle(str(home), (), "box")
    assert os.listdir(home) == []


@pytest.mark.usefixtures("programs")
def test_a_bundle_that_cannot_be_written_is_told(tmp_path: Path, home: Path) -> None:
    """The message has the directory and the reason."""
    with pytest.raises(UsageError, match="missing: No such file"):
        write_bundle(str(tmp_path / "missing"), ("true",), "box")
    (home / "rootfs").mkdir()
    with pytest.raises(UsageError, match="File exists"):
        write_bundle(str(home), ("true",), "box")


# The host's /usr as a root


def check_host_root(home: Path, spec: dict) -> None:
    """Assert that a bundle's root is the host's programs, to be read only."""
    mounts = {m["destination"]: m for m in spec["mounts"] if m["type"] == "bind"}
    assert "/usr" in mounts
    for path, mount in mounts.items():
        assert mount["source"] == path
        assert {"ro", "nosuid", "nodev"} <= set(mount["options"])
        assert (home / "rootfs" / path[1:]).is_dir()
    for name in ("bin", "sbin", "lib", "lib64"):
        host, ours = Path("/", name), home / "rootfs" / name
        if host.is_symlink():
            assert os.readlink(ours) == os.readlink(host)
        elif host.is_dir():
            assert f"/{name}" in mounts


@pytest.mark.usefixtures("programs")
def test_without_busybox_the_hosts_programs_are_used(home: Path) -> None:
    """Read-only below an empty root, in the host's own arrangement of links."""
    check_host_root(home, spec_of(home))


@pytest.mark.parametrize(
    "program",
    [elf(PT_LOAD, PT_INTERP), b"#!/bin/sh\n", b"", b"\x7fELF", elf(PT_LOAD, name=b"\x01\x01")],
    ids=["dynamic", "script", "empty", "cut", "32-bit"],
)
def test_a_busybox_that_needs_more_than_itself_is_not_used(
    programs: Path, home: Path, program: bytes
) -> None:
    """A dynamic program would find no libraries in a root of its own."""
    install(programs, program)

    check_host_root(home, spec_of(home))


@pytest.mark.usefixtures("programs")
def test_the_hosts_secrets_stay_outside(home: Path) -> None:
    """Of /etc there are two accounts; home, root and tmp are empty."""
    write_bundle(str(home), ("true",), "box")
    root = home / "rootfs"

    assert sorted(os.listdir(root / "etc")) == ["group", "passwd"]
    for name in ("root", "tmp", "run", "var", "proc", "sys", "dev"):
        assert os.listdir(root / name) == []
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (root / "etc" / "passwd").read_text().startswith("root:x:0:0:")


def test_a_real_dynamic_program_is_known(tmp_path: Path) -> None:
    """The Python that runs this, or the shell: an ELF program with an interpreter."""
    programs = [os.path.realpath("/bin/sh"), os.path.realpath("/bin/ls")]
    with_interpreter = [
        p for p in programs if b"/lib64/ld-linux" in Path(p).read_bytes()[:4096]
    ]

    for program in with_interpreter:
        assert not bundle._is_static(program)


# A static busybox as a root


def is_static(path: Path, content: bytes) -> bool:
    """Return the verdict on a file of this content."""
    path.write_bytes(content)
    return bundle._is_static(str(path))


def test_static_is_an_elf_program_without_an_interpreter(tmp_path: Path) -> None:
    """Every program header is looked at, the last one, too."""
    path = tmp_path / "program"

    assert is_static(path, elf(PT_LOAD, PT_LOAD))
    assert not is_static(path, elf(PT_INTERP))
    assert not is_static(path, elf(*[PT_LOAD] * 20, PT_INTERP))
    assert not is_static(path, b"MZ" + bytes(100))
    assert not is_static(path, b"")


def test_what_cannot_be_seen_is_not_called_static(tmp_path: Path) -> None:
    """Program headers beyond what was read (patchelf puts them at the end) may hold anything."""
    path = tmp_path / "program"

    assert not is_static(path, elf(PT_LOAD, PT_INTERP, offset=8192))
    assert not is_static(path, elf(PT_LOAD, count=5))


@pytest.mark.skipif(
    BUSYBOX is None or not bundle._is_static(BUSYBOX), reason="needs a static busybox"
)
def test_a_static_busybox_makes_a_root_of_its_own(home: Path) -> None:
    """A copy and its applets: nothing of the host is mounted, and everything is writable."""
    assert BUSYBOX is not None
    spec = spec_of(home)
    root = home / "rootfs"

    assert not [mount for mount in spec["mounts"] if mount["type"] == "bind"]
    assert (root / "bin" / "busybox").read_bytes() == Path(BUSYBOX).read_bytes()
    assert not (root / "bin" / "busybox").is_symlink()
    for applet in ("sh", "cat", "sleep", "["):
        assert os.readlink(root / "bin" / applet) == "busybox"
    for name in ("sbin", "usr/bin", "usr/sbin"):
        assert os.readlink(root / name) == "/bin"
    assert os.access(root / "bin" / "busybox", os.X_OK)
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_a_busybox_that_lists_no_applets_is_not_used(programs: Path, home: Path) -> None:
    """One that looks right and is broken is refused or passed over: no root without a shell."""
    install(programs, elf(PT_LOAD))
    try:
        write_bundle(str(home), ("sh",), "box")
    except UsageError:
        return
    mounted = [mount["destination"] for mount in read_spec(str(home))["mounts"]]

    assert "/usr" in mounted or (home / "rootfs" / "bin" / "sh").is_symlink()


# Reading a bundle


def test_a_directory_without_a_configuration_is_no_bundle(tmp_path: Path) -> None:
    """A missing directory is told from one that lacks its config.json."""
    with pytest.raises(UsageError, match=r"it has no config\.json"):
        read_spec(str(tmp_path))
    with pytest.raises(UsageError, match="there is no such directory"):
        read_spec(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"1", b"null", b'{"process": []}', b'{"process": 1}', b"\xff"]
)
def test_a_broken_configuration_is_told(tmp_path: Path, text: bytes) -> None:
    """The message has the file's path."""
    (tmp_path / "config.json").write_bytes(text)

    with pytest.raises(UsageError, match=r"config\.json is broken"):
        read_spec(str(tmp_path))


def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """The message has the reason."""
    (tmp_path / "config.json").mkdir()

    with pytest.raises(UsageError, match=r"cannot read .*config\.json: Is a directory"):
        read_spec(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, False),
        ({"process": {}}, False),
        ({"process": {"terminal": False}}, False),
        ({"process": {"terminal": True}}, True),
        ({"process": {"terminal": "true"}}, False),
        ({"process": None}, False),
    ],
)
def test_a_terminal_is_wanted_when_it_is_asked_for(spec: dict, wanted: bool) -> None:
    """Only ``process.terminal: true`` asks for one."""
    assert wants_terminal(spec) is wanted
