import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.harness import TIMEOUT_S


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--run", "nowhere"), 1, "nowhere is not a run: it has no config.json"),
        (("--runs", "nowhere"), 1, "nowhere holds no run with a checkpoint"),
        (("--class", "chiar"), 2, "did you mean 'chair'?"),
        (("--host", "0.0.0.0"), 2, "--allow-host NAME"),
        (("--host", "no.such.host.invalid", "--allow-host", "x"), 1, "cannot listen on no.such.host.invalid"),
        (("--port", "99999"), 2, "--port"),
        (("--device", "tpu"), 2, "use auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_mistakes_are_named(von, arguments, code, says):
    result = von("serve", *arguments)
    assert result.exit_code == code, result.output
    assert says in result.stderr


def test_a_damaged_configuration_is_named(von, tiny_run):
    (tiny_run / "config.json").write_text('{"class_name": ')
    result = von("serve", "--run", str(tiny_run))
    assert result.exit_code == 1
    assert "config.json" in result.stderr


def test_it_serves_until_it_is_interrupted(tiny_run, tiny_data):
    command = [
        sys.executable,
        "-m",
        "voncli",
        "serve",
        "--run",
        tiny_run,
        "--data",
        tiny_data,
        "--port",
        "0",
        "--json",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        said = json.loads("".join(process.stdout.readline() for _ in range(4)))
        with urllib.request.urlopen(f"{said['address']}api/run") as answer:
            assert json.loads(answer.read())["class"] == "chair"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    assert errors == "closed\n"
