"""One item ahead and no more, in order, errors where they belong."""

import os
import signal
import threading
import time

import pytest

from kdpl_utils.support.prefetch import ahead, openers


def test_order_and_numbers_are_those_of_map():
    assert list(ahead(lambda i: i * i, range(5))) == [0, 1, 4, 9, 16] and list(ahead(str, [])) == []


def test_the_next_is_made_while_this_one_is_used():
    made = [threading.Event() for _ in range(4)]
    for i in ahead(lambda i: made[i].set() or i, range(4)):
        assert i == 3 or made[i + 1].wait(10)  # while the caller is here
        assert not any(event.is_set() for event in made[i + 2 :])  # but not the whole list


def test_calls_are_one_after_another_in_another_thread():
    threads = set(ahead(lambda i: threading.get_ident(), range(5)))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_an_error_comes_in_its_place():
    seen = []
    with pytest.raises(ZeroDivisionError):
        for value in ahead(lambda i: 6 // i, [3, 2, 0, 1]):
            seen.append(value)
    assert seen == [2, 3]


def test_openers_are_shared():
    assert openers() is openers() and list(openers().map(str, range(3))) == ["0", "1", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    """Such as a DataLoader's worker: the pool that it inherits has none, and would be waited for without end."""
    assert list(openers().map(str, range(2))) == ["0", "1"]
    child = os.fork()
    if child == 0:
        os._exit(0 if list(openers().map(str, range(2))) == ["0", "1"] else 1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the forked process waits without end")
