"""One item ahead and no more, in order, errors where they belong."""

import threading

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
