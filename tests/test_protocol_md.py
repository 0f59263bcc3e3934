"""protocol.md is the contract: its tables and hexdumps equal the code."""

import ast
import re
from pathlib import Path

import attrs
import pytest

import attachd.wire.messages as say
from attachd.state import eofpolicy
from attachd.state.execspec import ExecSpec
from attachd.state.exitrecord import Ending, exit_record
from attachd.state.faults import SHELL_CODES
from attachd.wire.frames import MAX_DATA, MAX_FRAME, FrameDecoder, encode_frame
from attachd.wire.session import CONVERSATION, VERSION, Role, State

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "protocol.md").read_text()

KINDS = {
    "int": int,
    "str": str,
    "bin": bytes,
    "bool": bool,
    "[str]": list[str],
    "map": say.Record,
}


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first table under a heading."""
    part = TEXT.split(heading, 1)[1]
    rows = re.search(r"\|---.*\n((?:\|.*\n)+)", part).group(1)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def test_the_message_table_equals_the_messages() -> None:
    """Tags, fields, their types, and which may be left out."""
    told = {}
    for tag, _, fields, _ in table("## 4. Messages"):
        found = re.findall(r"`(\w+)` (\[?\w+\]?)(\??)", fields)
        told[tag.strip("`")] = [(n, KINDS[k], bool(optional)) for n, k, optional in found]
    known = {
        tag: [(f.name, f.type, f.default is not attrs.NOTHING) for f in attrs.fields(kind)]
        for tag, kind in say.MESSAGES.items()
    }
    assert told == known


def test_the_speakers_equal_the_conversation() -> None:
    """Who may say a message at all."""
    for tag, speaker, _, _ in table("## 4. Messages"):
        kind = say.MESSAGES[tag.strip("`")]
        roles = {r.value for s in CONVERSATION.values() for r in Role if kind in s[r]}
        assert roles == ({"client", "server"} if speaker == "both" else {speaker})


def test_the_session_table_equals_the_conversation() -> None:
    """Every state, both speakers."""
    for name, client, server in table("## 5. The conversation"):
        for role, cell in ((Role.CLIENT, client), (Role.SERVER, server)):
            told = set(cell.split(", ")) - {"-"}
            assert told == {say.tag_of(kind) for kind in CONVERSATION[State[name]][role]}


def test_the_policies_of_stdin_are_those_of_the_option() -> None:
    """And what a welcome calls them."""
    told = {policy.split("`")[1]: name.strip("`") for policy, name, _ in table("## 8. stdin")}
    assert told == eofpolicy.STATES


def test_the_exit_record_has_the_fields_of_its_table() -> None:
    """In the same order."""
    ending = Ending(1, 0, 1, 1, 0, False, True, {"stdout": 0, "stderr": 0}, 0, 0, 0)
    told = [row[0].strip("`") for row in table("### The exit record")]
    assert told == list(exit_record("x", "y", ending))


def test_the_codes_are_those_that_the_code_can_send() -> None:
    """Each code in the table is in the source, and the server's own ones are in the table."""
    told = {row[0].strip("`") for row in table("## 10. Errors")}
    found = set()
    sources = [*ROOT.glob("attachd/live/*.py"), *ROOT.glob("attachd/wire/*.py")]
    for path in [
        *sources,
        ROOT / "attachd/state/execspec.py",
        ROOT / "attachd/state/accounts.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("Refused", "say_goodbye") and isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
            for word in node.keywords:
                if (
                    name == "Goodbye"
                    and word.arg == "code"
                    and isinstance(word.value, ast.Constant)
                ):
                    found.add(word.value.value)
    by_class = {"denied", "protocol", "too_large", "bad_phase", "runtime"}
    assert told == found | by_class | SHELL_CODES.keys()


@pytest.mark.parametrize("number", [MAX_FRAME, MAX_DATA])
def test_the_limits_are_told(number) -> None:
    """As numbers."""
    assert str(number) in TEXT
    assert VERSION == 1


DUMPS = re.findall(r"`([A-Z]\w+\(.*\))`\n\n```hexdump\n([^`]*)```", TEXT)


@pytest.mark.parametrize(
    ("text", "dump"), DUMPS, ids=[text.split("(")[0] for text, _ in DUMPS]
)
def test_each_hexdump_is_the_message_beside_it(text, dump) -> None:
    """Decoded and encoded again."""
    data = bytes.fromhex("".join(line[4:] for line in dump.splitlines()))
    decoder = FrameDecoder()
    decoder.feed(data)
    message = say.decode(decoder.next_frame())
    assert decoder.at_boundary
    assert repr(message) == text
    assert encode_frame(say.encode(message)) == data


def test_there_are_hexdumps_of_both_sides() -> None:
    """The example is a whole conversation."""
    assert len(DUMPS) == 14


def test_the_keys_of_a_spec_are_those_that_the_server_takes() -> None:
    """In the same order."""
    told = [row[0].strip("`") for row in table("## 13. Execs")]
    assert told == list(ExecSpec._fields)
