"""``--log-path`` means what it means to conmon; what no log would have is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.doors.conmon.drivers import Driver, check_fields, parse_drivers
from attachd.errors import ConmonError

FILE = Driver("k8s-file", "/x")
JOURNALD = Driver("journald")
NONE = Driver("none")
PASSTHROUGH = Driver("passthrough")
ID = "0123456789abc"


@pytest.mark.parametrize(
    ("log_paths", "drivers"),
    [
        (["/x"], [FILE]),
        (["x"], [Driver("k8s-file", "x")]),
        ([":/x"], [FILE]),
        (["::/x"], [FILE]),
        ([":journald"], [Driver("k8s-file", "journald")]),
        ([":none"], [Driver("k8s-file", "none")]),
        ([":k8s-file"], [Driver("k8s-file", "k8s-file")]),
        (["k8s-file:/x"], [FILE]),
        (["k8s-file::/x"], [FILE]),
        ([":k8s-file:/x"], [FILE]),
        (["k8s-file:/x:/y"], [FILE]),
        (["journald"], [JOURNALD]),
        (["journald:"], [JOURNALD]),
        (["journald:/x"], [JOURNALD]),
        ([":journald:/x"], [JOURNALD]),
        (["none"], [NONE]),
        (["off"], [NONE]),
        (["null:"], [NONE]),
        (["none:/x"], [NONE]),
        (["passthrough"], [PASSTHROUGH]),
        (["passthrough:/x"], [PASSTHROUGH]),
        (["/y", "k8s-file:/x"], [FILE]),
        (["/x", "journald:"], [FILE, JOURNALD]),
        (["journald", "/x", "journald"], [JOURNALD, FILE]),
        (["none", "/x", "off"], [FILE]),
        (["none", "off"], [NONE]),
        (["passthrough", "/x"], [PASSTHROUGH, FILE]),
        (["None"], [Driver("k8s-file", "None")]),
    ],
)
def test_log_paths_and_their_drivers(log_paths, drivers) -> None:
    """A word without a colon is a driver's name or a path; of two files the last one wins."""
    assert parse_drivers(log_paths) == tuple(drivers)


@pytest.mark.parametrize(
    ("log_paths", "text"),
    [
        ([], "Log driver not provided. Use --log-path"),
        ([""], "log-path must not be empty"),
        ([":"], "log-path must not be empty"),
        (["::"], "log-path must not be empty"),
        (["/x", ""], "log-path must not be empty"),
        (["k8s-file"], "k8s-file requires a filename"),
        (["k8s-file:"], "k8s-file requires a filename"),
        (["json-file:/x"], "No such log driver json-file"),
        (["invalid:"], "No such log driver invalid"),
        (["K8S-FILE:/x"], "No such log driver K8S-FILE"),
        ([":/x:/y"], "No such log driver /x"),
        (["/x:y"], "No such log driver /x"),
        (["k8s-file", "bad:"], "k8s-file requires a filename"),
    ],
)
def test_log_paths_that_are_refused(log_paths, text) -> None:
    """The first one that is wrong is told."""
    with pytest.raises(ConmonError) as refusal:
        parse_drivers(log_paths)

    assert str(refusal.value) == f"[conmon:e]: {text}"


@given(st.lists(st.text(":k8s-filenoj/", max_size=12)))
def test_any_log_paths_are_drivers_or_refused(log_paths) -> None:
    """Each driver is there once, a file has a path, and there is always one."""
    try:
        drivers = parse_drivers(log_paths)
    except ConmonError:
        return
    assert drivers
    assert len({driver.driver for driver in drivers}) == len(drivers)
    assert all(bool(driver.path) == (driver.driver == "k8s-file") for driver in drivers)


@pytest.mark.parametrize(
    ("drivers", "cid", "tag", "labels"),
    [
        ([FILE], "", "", []),
        ([NONE], "", "tag", ["no label"]),
        ([PASSTHROUGH], "", "tag", ["no label"]),
        ([JOURNALD], ID, "tag", ["A_1=b", "B=", "_= x%\n"]),
        ([FILE, JOURNALD], ID, "tag", ["A=b"]),
    ],
)
def test_tags_and_labels_that_a_log_has(drivers, cid, tag, labels) -> None:
    """journald has both, a file alone has neither, and where nothing is logged all will do."""
    check_fields(drivers, cid, tag, labels)


@pytest.mark.parametrize(
    ("drivers", "cid", "tag", "labels", "text"),
    [
        ([FILE], ID, "t", ["x"], "k8s-file doesn't support --log-tag"),
        ([FILE], ID, "", ["A=b"], "k8s-file doesn't support --log-label"),
        ([JOURNALD], ID[:12], "", ["x"], "Container ID must be longer than 12 characters"),
        ([FILE, JOURNALD], "", "", [], "Container ID must be longer than 12 characters"),
        ([JOURNALD], ID, "", ["A=b", "A"],
         "Container labels must be in format LABEL=VALUE (no '=' in 'A')"),
        ([JOURNALD], ID, "", [""],
         "Container labels must be in format LABEL=VALUE (no '=' in '')"),
        ([JOURNALD], ID, "", ["A=b=c"],
         "Container labels must be in format LABEL=VALUE (more than one '=' in 'A=b=c')"),
        ([JOURNALD], ID, "", ["=b"],
         "Container labels must be in format LABEL=VALUE (no name in '=b')"),
    ],
)  # fmt: skip
def test_tags_and_labels_that_are_refused(drivers, cid, tag, labels, text) -> None:
    """The id is looked at before the labels."""
    with pytest.raises(ConmonError) as refusal:
        check_fields(drivers, cid, tag, labels)

    assert str(refusal.value) == f"[conmon:e]: {text}"


@pytest.mark.parametrize("name", ["a", "A-B", "A B", "\u00c4", "A.B", "A\n", "MY%LABEL"])
def test_names_that_no_label_has(name) -> None:
    """journald takes capital letters, digits and underscores of ASCII alone."""
    with pytest.raises(ConmonError, match=r"^.conmon:e.: Container label names must contain only"
                       " uppercase letters, numbers and underscore"):  # fmt: skip
        check_fields([JOURNALD], ID, "", [f"{name}=x"])


def test_the_id_is_counted_in_bytes() -> None:
    """As C counts it; also one that is no text."""
    check_fields([JOURNALD], "\u00e9" * 7, "", [])
    check_fields([JOURNALD], "\udcff" * 13, "", [])
