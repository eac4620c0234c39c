"""``docs/how-to/deploy.md`` and ``docs/how-to/secure.md`` speak of what is there."""

import re
import shlex
from pathlib import Path

import click
import yaml
from ray.scripts.scripts import cli as ray

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/how-to/deploy.md").read_text()
SECURITY = (ROOT / "docs/how-to/secure.md").read_text()


def test_the_files_that_the_guide_names_are_there() -> None:
    named = {name.rstrip(".") for name in re.findall(r"(?:infra|jobs)/[\w./-]+", GUIDE + SECURITY)}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_example_says_first_what_was_checked_and_what_was_not() -> None:
    files = sorted((ROOT / "infra/examples").iterdir())
    assert len(files) >= 5
    for file in files:
        first = file.read_text().partition("\n")[0]
        assert re.match(r"(#|//) Checked by .*: .+\. Not checked: .+\.$", first), f"{file}: {first}"


def test_the_commands_of_ray_are_known_to_it_with_their_options() -> None:
    lines = [*SECURITY.splitlines(), *(ROOT / "infra/examples/ray-aws.yaml").read_text().splitlines()]
    shown = [line.lstrip("# ") for line in lines if re.match(r"(#\s+)?ray (start|get-auth-token) ", line)]
    assert len(shown) >= 3
    for line in shown:
        _, name, *words = shlex.split(line.split(">/dev/null")[0], comments=True)
        command = ray.commands[name]
        command.make_parser(click.Context(command)).parse_args(words)


def test_the_properties_that_lock_spark_are_those_of_compose() -> None:
    compose = yaml.safe_load((ROOT / "infra/docker/compose.yaml").read_text())
    options = compose["services"]["spark-master"]["environment"]["SPARK_DAEMON_JAVA_OPTS"]
    assert f"export SPARK_DAEMON_JAVA_OPTS='{options}'" in SECURITY
    for variable in ("RAY_AUTH_TOKEN", "_SPARK_AUTH_SECRET"):
        assert f"{variable}=$(openssl rand -hex 32)" in SECURITY


def test_the_ports_of_the_network_policy_are_those_that_are_told() -> None:
    policy = yaml.safe_load((ROOT / "infra/kubernetes/network.yaml").read_text())["spec"]
    told = SECURITY.split("**The NetworkPolicy**")[1]
    for rule in [*policy["ingress"], *policy["egress"]]:
        for port in rule.get("ports", []):
            assert str(port["port"]) in told or port["port"] == 53
    labels = [one["podSelector"]["matchLabels"] for rule in policy["ingress"] for one in rule["from"]]
    assert {"bisieve/submits": "true"} in labels
    assert 'bisieve/submits: "true"' in told
