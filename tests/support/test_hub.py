"""Whether the hub is asked, and how long one waits for it."""

import socket

import pytest
from huggingface_hub import constants

import kdpl_utils as kd
from kdpl_utils.support.hub import not_waiting_for_the_hub


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(monkeypatch):
    """The servers whose address was asked for; none of them is known."""
    names = []

    def unknown(host, *_, **__):
        names.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return names


def test_without_a_network_the_hub_is_not_asked_again_and_again(asked, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "https://a.mirror/of/it")
    with not_waiting_for_the_hub():
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is False and asked == ["a.mirror"]


def test_with_a_network_or_a_proxy_it_is_asked(monkeypatch, asked):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    with not_waiting_for_the_hub():
        assert constants.HF_HUB_OFFLINE is False
    assert asked == []
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ["an address"])
    with not_waiting_for_the_hub():
        assert constants.HF_HUB_OFFLINE is False


def test_who_is_offline_by_choice_stays_so(asked, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with not_waiting_for_the_hub():
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is True and asked == []


def test_weights_that_are_not_here_are_told_of_at_once(asked, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="are not on this machine and could not be downloaded"):
        kd.load_vlm("RN50-quickgelu", "openai")
    assert asked and "Retrying" not in capfd.readouterr().err


def test_what_is_here_asks_for_no_address(asked):
    kd.load_vlm("emoji-student-rn")
    assert asked == []
