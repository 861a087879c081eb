"""The page in a real browser: it asks for nothing and its own policy finds no fault with it.

Chromium is required here. Without it these tests fail, because a skipped proof looks like a given one.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from audit_kit.report import render_html

POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-AAAA'\">"


@dataclass(frozen=True)
class Visit:
    dom: str
    console: list[str]
    fetched: list[str]


def visit(page: Path, profile: Path) -> Visit:
    """Opens the page and returns what it became, what the console said and what was asked for."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "Chromium is not installed; on Debian: apt-get install chromium"
    log = profile / "net.json"
    profile.mkdir(parents=True)
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--disable-extensions",
            "--disable-sync",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile / 'user'}",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--v=0",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=90,
        check=True,
        env={**os.environ, "HOME": str(profile)},
    )
    errors = done.stderr.decode("utf-8", "replace").splitlines()
    return Visit(
        dom=done.stdout.decode("utf-8"),
        console=[line for line in errors if "CONSOLE" in line],
        fetched=_fetched(json.loads(log.read_text(encoding="utf-8"))),
    )


def _fetched(log: dict[str, object]) -> list[str]:
    """Addresses asked for on behalf of a page.

    The browser has errands of its own, for instance to learn the time. They have no initiator; whatever a
    page starts names the page's origin there, "null" for one from a file.
    """
    constants, events = log["constants"], log["events"]
    assert isinstance(constants, dict)
    assert isinstance(events, list)
    started = constants["logEventTypes"]["URL_REQUEST_START_JOB"]
    starts = [e["params"] for e in events if e["type"] == started and "params" in e]
    return [p["url"] for p in starts if p.get("initiator", "not an origin") != "not an origin"]


@functools.cache
def by_hand() -> ModuleType:
    """The results that test_report.py builds; tests are no package, so it is loaded by its place."""
    path = Path(__file__).with_name("test_report.py")
    spec = importlib.util.spec_from_file_location("results_by_hand", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(tmp_path: Path, html: str) -> Path:
    page = tmp_path / "page.html"
    page.write_text(html, encoding="utf-8")
    return page


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A real server on loopback that notes the paths it is asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", asked
        finally:
            serving.shutdown()
            thread.join()


def test_the_report_asks_for_nothing_and_says_nothing(tmp_path: Path) -> None:
    seen = visit(write(tmp_path, render_html(by_hand().result())), tmp_path / "profile")
    assert "Lovelace &amp; Sons" in seen.dom
    assert seen.console == []
    assert seen.fetched == []


def test_hostile_names_do_nothing_in_a_browser(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, asked = server
    text = " ".join(
        (
            f"<script src={address}/script></script><script>alert(1)</script>",
            f"</style></title></svg></table><img src={address}/img onerror=alert(1)>",
            f'" style="background:url(\'{address}/style\')" onmouseover="alert(1)" x=\'',
            f"<link rel=stylesheet href={address}/link><base href={address}>",
            f"javascript:alert(1) <meta http-equiv=refresh content='0;url={address}/refresh'>",
        )
    )
    seen = visit(write(tmp_path, render_html(by_hand().hostile(text))), tmp_path / "profile")
    assert "&lt;script src=" in seen.dom
    assert seen.console == []
    assert seen.fetched == []
    assert asked == []


def test_a_page_that_fetches_would_be_noticed(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """So that an empty list above means something."""
    address, asked = server
    page = write(tmp_path, f"<!doctype html><title>x</title><img src='{address}/pixel.png'>")
    seen = visit(page, tmp_path / "profile")
    assert f"{address}/pixel.png" in seen.fetched
    assert asked == ["/pixel.png"]


@pytest.mark.parametrize(
    "body",
    [
        "<style>p { color: red }</style>",
        "<p style='color: red'>x</p>",
        "<script>document.title = 'ran'</script>",
        "<img src='http://127.0.0.1:9/pixel.png'>",
    ],
    ids=["other style", "style attribute", "script", "image"],
)
def test_a_page_that_breaks_the_policy_would_be_noticed(tmp_path: Path, body: str) -> None:
    page = write(tmp_path, f"<!doctype html><title>x</title>{POLICY}{body}")
    seen = visit(page, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in seen.console)
    assert seen.fetched == []


def test_a_style_changed_by_one_byte_would_be_noticed(tmp_path: Path) -> None:
    html = render_html(by_hand().result())
    page = write(tmp_path, html.replace("<style>", "<style> ", 1))
    assert any("Content Security Policy" in line for line in visit(page, tmp_path / "profile").console)
