"""The agents' clients as a person sets them up: from npm, in a home of their own, with the scripted model."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".cache" / "agent-clients" / "node_modules" / ".bin"
NO_CREDIT = "not-a-key"  # what the scripted model is paid with


@dataclass(frozen=True)
class Client:
    """One client. configure: write a person's own settings into a home, return the variables that belong to them."""

    name: str
    configure: Callable[[Path, str], dict[str, str]]

    def __str__(self) -> str:
        return self.name


def _claude_code(home: Path, model: str) -> dict[str, str]:
    return {
        "ANTHROPIC_API_KEY": NO_CREDIT,
        "ANTHROPIC_BASE_URL": model,
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "CLAUDE_CODE_MAX_RETRIES": "0",
    }


def _codex(home: Path, model: str) -> dict[str, str]:
    folder = home / ".codex"
    folder.mkdir(exist_ok=True)
    provider = f"""
model = "scripted"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{model}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
request_max_retries = 0
stream_max_retries = 0
"""
    (folder / "config.toml").write_text(provider)
    return {"OPENAI_API_KEY": NO_CREDIT, "CODEX_HOME": str(folder)}


def _opencode(home: Path, model: str) -> dict[str, str]:
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True, exist_ok=True)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{model}/v1", "apiKey": NO_CREDIT},
        "models": {"scripted": {}},
    }
    settings = {
        "model": "scripted/scripted",
        "small_model": "scripted/scripted",
        "provider": {"scripted": provider},
    }
    (folder / "opencode.json").write_text(json.dumps(settings))
    return {"OPENCODE_DISABLE_MODELS_FETCH": "1"}


def _gemini(home: Path, model: str) -> dict[str, str]:
    folder = home / ".gemini"
    folder.mkdir(exist_ok=True)
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"maxAttempts": 1},
        "privacy": {"usageStatisticsEnabled": False},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return {
        "GEMINI_API_KEY": NO_CREDIT,
        "GEMINI_MODEL": "gemini-2.5-flash",
        "GOOGLE_GEMINI_BASE_URL": model,
    }


def _qwen(home: Path, model: str) -> dict[str, str]:
    folder = home / ".qwen"
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({"security": {"auth": {"selectedType": "openai"}}}))
    return {"OPENAI_API_KEY": NO_CREDIT, "OPENAI_BASE_URL": f"{model}/v1", "OPENAI_MODEL": "scripted"}


CLIENTS = tuple(
    Client(name, configure)
    for name, configure in (
        ("claude-code", _claude_code),
        ("codex", _codex),
        ("opencode", _opencode),
        ("gemini", _gemini),
        ("qwen", _qwen),
    )
)


def by_name(name: str) -> Client:
    """Find a client."""
    return next(client for client in CLIENTS if client.name == name)


def surroundings(home: Path, model: str, *clients: Client) -> dict[str, str]:
    """Make a home in which clients are set up for the model; returns the environment of who works there."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitconfig").write_text("[user]\n\tname = An agent\n\temail = agent@example.org\n")
    environment = {"PATH": f"{INSTALLED}:{os.defpath}", "HOME": str(home), "LANG": "C.UTF-8"}
    for role in ("AUTHOR", "COMMITTER"):  # as the launcher sets them, from the configuration of git
        environment |= {f"GIT_{role}_NAME": "An agent", f"GIT_{role}_EMAIL": "agent@example.org"}
    node = shutil.which("node")
    assert node, "bin/test --with agents finds node first"
    environment["PATH"] += f":{Path(node).parent}"
    for client in clients:
        environment |= client.configure(home, model)
    return environment


def git(folder: Path, *arguments: str) -> str:
    """Run git, and return what it printed."""
    identity = ("-c", "user.name=A person", "-c", "user.email=person@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def repository(folder: Path) -> Path:
    """Make a repository with one commit, and a file that is not committed."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "README.md").write_text("# Beans\n")
    git(folder, "add", "README.md")
    git(folder, "commit", "--quiet", "--message=Begin")
    return folder
