"""Every setting, from the environment and from the command line, good and bad."""

from __future__ import annotations

import pytest
import typer

from controller.cli import read_settings
from controller.core.state import Limits
from controller.settings import ENV_PREFIX, Settings

GOOD = {
    "kubeconfig": ("/path/to/config", "/path/to/config"),
    "context": ("here", "here"),
    "namespaces": (" a, b ,,", ["a", "b"]),
    "instance_name": ("blue", "blue"),
    "docker_host": ("tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376"),
    "accepted_engine_ids": ("x,y", ["x", "y"]),
    "publish_address": ("0.0.0.0", "0.0.0.0"),  # noqa: S104
    "url_host": ("boxes.example.org", "boxes.example.org"),
    "probe_host": ("::1", "::1"),
    "engine_concurrency": ("4", 4),
    "engine_timeout_seconds": ("2.5", 2.5),
    "api_concurrency": ("8", 8),
    "probe_concurrency": ("8", 8),
    "resync_seconds": ("5", 5.0),
    "default_cpu": ("500m", "500m"),
    "default_memory": ("1Gi", "1Gi"),
    "default_pids": ("0", 0),
    "allowed_images": ('{"a": ["x/*"]}', {"a": ["x/*"]}),
    "allowed_runtimes": ('{"*": ["runsc"]}', {"*": ["runsc"]}),
    "allowed_host_ports": ('{"a": [80, 81]}', {"a": [80, 81]}),
    "allowed_labels": ('{"*": ["team.example/*"]}', {"*": ["team.example/*"]}),
    "require_patched_runc": ("true", True),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
}
BAD = {
    "instance_name": "Not A Label",
    "publish_address": "localhost",
    "url_host": "http://host/",
    "probe_host": "",
    "engine_concurrency": "0",
    "engine_timeout_seconds": "soon",
    "api_concurrency": "1000",
    "probe_concurrency": "-1",
    "resync_seconds": "0.5",
    "default_cpu": "many",
    "default_memory": "-1",
    "default_pids": "-1",
    "allowed_images": "everything",
    "allowed_runtimes": '{"a": "runsc"}',
    "allowed_host_ports": '{"a": ["http"]}',
    "allowed_labels": "all",
    "require_patched_runc": "perhaps",
    "log_level": "loud",
    "log_format": "xml",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{ENV_PREFIX}{name.upper()}", raising=False)


def test_every_setting_is_tried_here() -> None:
    assert GOOD.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", GOOD)
def test_from_the_environment_and_as_an_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, value = GOOD[name]
    assert getattr(read_settings({name: text}), name) == value
    monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", text)
    assert getattr(read_settings({name: None}), name) == value


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}INSTANCE_NAME", "blue")
    assert read_settings({"instance_name": "green"}).instance_name == "green"


@pytest.mark.parametrize("source", ["option", "variable"])
@pytest.mark.parametrize("name", BAD)
def test_a_wrong_one_is_named_with_both_its_names_and_its_value(
    name: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{ENV_PREFIX}{name.upper()}"
    if source == "variable":
        monkeypatch.setenv(variable, BAD[name])
    with pytest.raises(typer.BadParameter) as refused:
        read_settings({name: BAD[name]} if source == "option" else {})
    message = str(refused.value)
    assert message.startswith(f"--{name.replace('_', '-')} ({variable}): ")
    assert "\n" not in message


def test_all_wrong_ones_are_named_at_once() -> None:
    with pytest.raises(typer.BadParameter) as refused:
        read_settings({"log_level": "loud", "default_pids": "-1"})
    assert "--log-level" in str(refused.value)
    assert "--default-pids" in str(refused.value)


def test_the_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.publish_address == "127.0.0.1"
    rules = settings.rules()
    assert rules.default_limits == Limits(None, 2 << 30, 512)
    assert (dict(rules.allowed_runtimes), dict(rules.allowed_host_ports)) == ({}, {})


def test_the_rules_are_the_settings_in_the_cores_words() -> None:
    rules = read_settings(
        {
            "default_cpu": "500m",
            "default_memory": "",
            "default_pids": "0",
            "allowed_runtimes": '{"a": ["runsc"]}',
            "url_host": "h",
        }
    ).rules()
    assert rules.default_limits == Limits(500, None, None)
    assert rules.allowed_runtimes == {"a": ("runsc",)}
    assert rules.url_host == "h"
