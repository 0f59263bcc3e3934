"""How containers end, and what Podman knows of it afterwards."""

import time
from datetime import datetime

import pytest
from harness import is_alive, wait_for
from podman_host import IMAGE

pytestmark = pytest.mark.runc

IDLE = ("sleep", "1000")

#: A program that a signal ends as it does any other: it is not the init of its namespace.
MORTAL = ("--pid", "host")


def statuses(podman, name: str) -> list[str]:
    return [event["Status"] for event in podman.events(name)]


def seconds(text: str) -> float:
    """Return a time of Podman's, which has more digits than Python reads."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def test_what_runs_is_told_with_its_processes(podman) -> None:
    name = podman.run(*IDLE)
    state = podman.state(name)
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("running", True, 0)
    assert is_alive(state["Pid"])
    assert is_alive(state["ConmonPid"])


def test_what_has_ended_is_told_with_its_end(podman) -> None:
    before = time.time()
    name = podman.run("sh", "-c", "exit 7")
    assert podman.ended(name) == 7
    state = podman.state(name)
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("exited", False, 7)
    assert (state["Pid"], state["OOMKilled"], state["Error"]) == (0, False, "")
    assert before - 1 < seconds(state["StartedAt"]) <= seconds(state["FinishedAt"])
    assert seconds(state["FinishedAt"]) < time.time() + 1


def test_the_exit_command_tidies_up_by_itself(podman) -> None:
    """Nobody asks: the event is there, and the files of a running container are not."""
    name = podman.run("sh", "-c", "exit 7")
    wait_for(lambda: "cleanup" in statuses(podman, name))
    died = [event for event in podman.events(name) if event["Status"] == "died"]
    assert [event["ContainerExitCode"] for event in died] == [7]
    left = {path.name for path in podman.userdata(name).iterdir()}
    assert not left & {"attach", "ctl", "winsz"}


def test_events_tell_a_containers_life(podman) -> None:
    name = podman.name()
    podman.call("run", "--name", name, IMAGE, "true")
    told = ["create", "init", "start", "attach", "died", "cleanup"]
    assert [status for status in statuses(podman, name) if status in told] == told


def test_rm_goes_with_the_container(podman) -> None:
    """Of one in the foreground at its end, and of one in the background by the exit command."""
    first, second = podman.name(), podman.name()
    podman.call("run", "--rm", "--name", first, IMAGE, "true")
    assert not podman.exists(first)
    podman.call("run", "--rm", "-d", "--name", second, IMAGE, "true")
    wait_for(lambda: not podman.exists(second))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("stop",), 143),
        (("kill",), 137),
        (("kill", "--signal", "TERM"), 143),
        (("kill", "--signal", "HUP"), 129),
    ],
)
def test_a_signal_is_in_the_exit_code(podman, words: tuple, code: int) -> None:
    name = podman.run(*IDLE, options=MORTAL)
    podman.call(*words, name)
    assert podman.ended(name) == code
    assert podman.state(name)["ExitCode"] == code


def test_who_does_not_stop_is_killed(podman) -> None:
    """An init without a handler does not hear of SIGTERM."""
    name = podman.run(*IDLE)
    podman.call("stop", "--time", 1, name)
    assert podman.state(name)["ExitCode"] == 137


def test_wait_waits_for_all_and_tells_each_exit_code(podman, gate) -> None:
    first = podman.run("sh", "-c", "read go </gate/fifo; exit 3", options=gate.options)
    second = podman.run("sh", "-c", "exit 4")
    waiting = podman.popen("wait", first, second)
    gate.let_pass()
    assert waiting.stdout.read() == b"3\n4\n"
    assert waiting.wait(60) == 0


def test_rm_force_removes_what_runs(podman) -> None:
    """And neither its program nor its shim is left."""
    name = podman.run(*IDLE)
    state = podman.state(name)
    podman.call("rm", "--force", "--time", 0, name)
    assert not podman.exists(name)
    wait_for(lambda: not is_alive(state["Pid"]))
    wait_for(lambda: not is_alive(state["ConmonPid"]))


def test_a_container_that_fails_is_started_again_so_many_times(podman) -> None:
    """By the exit command: every run's output is in the log, and the last exit code stays."""
    options = ("--restart", "on-failure:2")
    name = podman.run("sh", "-c", "echo ran; exit 3", options=options)
    wait_for(lambda: statuses(podman, name).count("died") == 3)
    wait_for(lambda: podman.state(name)["Status"] == "exited")
    assert podman.output(name) == b"ran\n" * 3
    assert podman.told(name)["RestartCount"] == 2
    assert podman.state(name)["ExitCode"] == 3


def test_a_container_that_succeeds_is_not_started_again(podman) -> None:
    name = podman.run("echo", "ran", options=("--restart", "on-failure:2"))
    wait_for(lambda: "cleanup" in statuses(podman, name))
    assert podman.output(name) == b"ran\n"


def test_restart_starts_the_container_anew(podman) -> None:
    name = podman.run("sh", "-c", "echo ran; exec sleep 1000")
    wait_for(lambda: podman.output(name) == b"ran\n")
    before = podman.state(name)
    podman.call("restart", "--time", 0, name)
    wait_for(lambda: podman.output(name) == b"ran\n" * 2)
    after = podman.state(name)
    assert after["Pid"] != before["Pid"]
    assert after["ConmonPid"] != before["ConmonPid"]
    assert not is_alive(before["ConmonPid"])


def test_cleanup_may_be_called_again(podman) -> None:
    name = podman.run("sh", "-c", "exit 7")
    assert podman.ended(name) == 7
    podman.call("container", "cleanup", name)
    assert podman.state(name)["ExitCode"] == 7


def test_who_outgrows_the_memory_is_killed(podman) -> None:
    name = podman.name()
    words = ("--name", name, "--memory", "16m", IMAGE, "tail", "/dev/zero")
    assert podman.call("run", *words, check=False).returncode == 137
    assert podman.state(name)["ExitCode"] == 137
