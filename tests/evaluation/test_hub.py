"""A hub that does not answer is asked once; a folder asks nobody."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from evaluation.files import InputError
from evaluation.hub import is_out_of_reach
from evaluation.models import load_model

NOBODY = "http://127.0.0.1:9"


def endpoint(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)


def test_any_answer_shows_the_hub_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        assert not is_out_of_reach("somebody/something")
    assert len(asked) == 1


def test_nobody_there_is_out_of_reach_except_for_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint(monkeypatch, NOBODY)
    assert is_out_of_reach("somebody/something")
    assert not is_out_of_reach(str(tmp_path))


def test_a_model_of_a_hub_out_of_reach_is_one_line_without_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint(monkeypatch, NOBODY)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waits for the hub"))
    said = r"nobody/none: cannot be loaded as .* \(We couldn't connect"
    with pytest.raises(InputError, match=said) as caught:
        load_model("nobody/none")
    assert "\n" not in str(caught.value)
