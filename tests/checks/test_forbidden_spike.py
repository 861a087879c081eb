import pytest

from audit_kit.model import Verdict
from tests.builders import log_bounds
from tests.checks.asking import ask_once
from tests.checks.spike_tests import *  # noqa: F403
from tests.checks.spike_tests import BURST, burst, steady


@pytest.fixture(scope="module")
def check():
    return "forbidden_spike"


@pytest.fixture(scope="module")
def status():
    return 403


def test_a_burst_of_403_is_reported(tmp_path, check):
    found = ask_once(tmp_path, check, [*log_bounds(), *steady(without=[BURST]), *burst(403, 30, 40)])
    assert [f.entity for f in found.findings] == ["application crm-agent"]


def test_four_failures_in_an_hour_are_ignored(tmp_path, check):
    found = ask_once(tmp_path, check, [*log_bounds(), *steady(without=[BURST]), *burst(403, 4, 20)])
    assert found.verdict is Verdict.NOTHING_FOUND
