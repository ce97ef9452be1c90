"""What there is to know of an agent's client: how it is found, permitted, started, and taken up again.

One YAML file a client. A file that cannot be followed is refused, with the file and the line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

PROFILES = Path(__file__).parent / "profiles"
"""The profiles that come with this package."""


class ProfileInvalid(ValueError):
    """A profile cannot be followed; the message begins with the file and the line."""


class ProfileUnknown(LookupError):
    """There is no profile of that name."""


def _within(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != text or text == ".":
        raise ValueError("must be a path within the workspace, without '..'")
    if path.parts[0] == ".git":
        raise ValueError("must not be in .git")
    return text


Name = Annotated[str, StringConstraints(pattern=r"\A[a-z0-9]+(-[a-z0-9]+)*\z", max_length=40)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"\A[^\x00]*\z")]
Variable = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\z", max_length=128)]
Version = Annotated[str, StringConstraints(pattern=r"\A\d+\.\d+\.\d+\z")]
WithinWorkspace = Annotated[str, StringConstraints(min_length=1), AfterValidator(_within)]
Arguments = Annotated[tuple[Text, ...], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Client(_Part):
    """The program. known: the versions that are tested; another is warned of. install: how a person gets it."""

    command: Text
    version: Arguments
    known: tuple[Version, ...] = ()
    install: Text


class SettingsFile(_Part):
    """A file that a person may have written too, and what is merged into it."""

    file: WithinWorkspace
    format: Literal["json", "toml"]
    merge: Annotated[dict[str, Any], Field(min_length=1)]


class CommandFile(_Part):
    """A file of ours alone, such as one that makes a skill typeable as /NAME."""

    file: WithinWorkspace
    text: Text


class Session(_Part):
    """How the id of a session is known: we choose it, or the client prints it in a line of JSON."""

    chosen: bool = False
    where: dict[str, str] = Field(default_factory=dict)
    field: str = ""

    def in_line(self, document: Any) -> str | None:
        """Find the id in a line of the client's output."""
        if not self.field or not isinstance(document, dict):
            return None
        found: Any = document
        if all(document.get(name) == value for name, value in self.where.items()):
            for part in self.field.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            return found if isinstance(found, str) and found else None
        return None


class Profile(_Part):
    """One client.

    launch, resume: its command line, in which {prompt} and {session} are replaced, and {git} and {repository} by the
    attempt's own git folder and that of its repository; an argument that names one of them is left out where there
    is none. environment: what it gets besides. passes: variables that are passed on where they are set. prompt: what
    it is told; {brief} is the file of the brief, {skills} the folder of skills that it reads.
    """

    name: Name
    title: Text
    client: Client
    skills: Annotated[tuple[WithinWorkspace, ...], Field(min_length=1)]
    settings: tuple[SettingsFile, ...] = ()
    commands: tuple[CommandFile, ...] = ()
    environment: dict[Variable, str] = Field(default_factory=dict)
    passes: tuple[Variable, ...] = ()
    launch: Arguments
    resume: Arguments | None = None
    session: Session = Session()
    prompt: Text

    def told(self, *, brief: str) -> str:
        """Write what the client is told."""
        return _filled(self.prompt, {"brief": brief, "skills": self.skills[0]}).strip()


def command_line(template: Sequence[str], values: Mapping[str, str | None]) -> list[str]:
    """Fill in a command line; an argument that names what there is not is left out."""
    absent = ["{" + name + "}" for name, value in values.items() if value is None]
    given = {name: value for name, value in values.items() if value is not None}
    return [_filled(argument, given) for argument in template if not any(name in argument for name in absent)]


def with_scripts(wanted: Any, scripts: Sequence[str]) -> Any:
    """Repeat each item of a list that holds {script} for every script."""
    if isinstance(wanted, dict):
        return {name: with_scripts(value, scripts) for name, value in wanted.items()}
    if not isinstance(wanted, list):
        return wanted
    items: list[Any] = []
    for item in wanted:
        if isinstance(item, str) and "{script}" in item:
            items += [_filled(item, {"script": script}) for script in scripts]
        else:
            items.append(with_scripts(item, scripts))
    return items


def lines_with_scripts(text: str, scripts: Sequence[str]) -> str:
    """Repeat each line that holds {script} for every script."""
    return "".join(with_scripts(text.splitlines(keepends=True), scripts))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Replace each {name} once; a value is never read as a template itself."""
    pattern = "|".join(re.escape("{" + name + "}") for name in values)
    return re.sub(pattern, lambda found: values[found.group()[1:-1]], text) if values else text


def profile_of(document: Any) -> Profile:
    """Read a profile that was validated before. Raises ProfileInvalid."""
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        raise ProfileInvalid(
            f"{'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']}"
        ) from error


def load_profile(file: Path) -> Profile:
    """Read a profile. Raises ProfileInvalid."""
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileInvalid(f"{file}: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProfileInvalid(f"{file}:{line}: {error.problem or 'is not YAML'}") from error
    except yaml.YAMLError as error:
        raise ProfileInvalid(f"{file}: is not YAML: {error}") from error
    if root is None:
        raise ProfileInvalid(f"{file}:1: is empty; it describes a client")
    if (twice := _twice(root)) is not None:
        raise ProfileInvalid(f"{file}:{twice.start_mark.line + 1}: the key {twice.value!r} comes twice")
    try:
        profile = Profile.model_validate(document)
    except ValidationError as error:
        raise ProfileInvalid(_told(file, root, error.errors()[0])) from error
    if profile.name != file.stem:
        raise ProfileInvalid(
            f"{file}:{_line(root, ('name',))}: the name must be that of the file, {file.stem!r}"
        )
    if problem := _problem(profile):
        where, message = problem
        raise ProfileInvalid(f"{file}:{_line(root, where)}: {message}")
    return profile


def find_profile(name: str, own: Path | None = None) -> Profile:
    """Find a profile by name, among a person's own first. Raises ProfileUnknown, ProfileInvalid."""
    for folder in (own, PROFILES):
        if folder is not None and (file := folder / f"{name}.yaml").is_file() and file.stem == name:
            return load_profile(file)
    raise ProfileUnknown(name)


def profile_names(own: Path | None = None) -> list[str]:
    """List the profiles by name."""
    folders = [folder for folder in (own, PROFILES) if folder is not None and folder.is_dir()]
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def _problem(profile: Profile) -> tuple[tuple[str | int, ...], str] | None:
    """Find what only shows when parts are seen together."""
    used = "{session}" in " ".join(profile.launch)
    if profile.session.chosen and not used:
        return ("launch",), "the session's id is chosen by us, so {session} must be in it"
    if used and not profile.session.chosen:
        return ("launch",), "{session} is known only if session.chosen is true"
    if profile.resume is not None and "{session}" not in " ".join(profile.resume):
        return ("resume",), "{session} must be in it"
    if profile.resume is not None and not (profile.session.chosen or profile.session.field):
        return ("resume",), "nothing says what the session's id is: give session.chosen or session.field"
    files = [*(part.file for part in profile.settings), *(part.file for part in profile.commands)]
    if twice := next((file for file in files if files.count(file) > 1), None):
        return ("settings",), f"the file {twice!r} comes twice"
    return None


def _told(file: Path, root: yaml.Node, error: ErrorDetails) -> str:
    where = tuple(error["loc"])
    message = (
        "unknown key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    )
    return f"{file}:{_line(root, where)}: {'.'.join(map(str, where)) or 'the file'}: {message}"


def _line(root: yaml.Node, where: Sequence[str | int]) -> int:
    """Find the line of a place, or of the nearest one around it that there is."""
    node, line = root, root.start_mark.line
    for part in where:
        if isinstance(node, yaml.MappingNode):
            members = {key.value: (key, value) for key, value in node.value}
            if part not in members:
                break
            key, node = members[part]
            line = key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1


def _twice(node: yaml.Node) -> yaml.ScalarNode | None:
    """Find a key that its mapping has already."""
    found: yaml.ScalarNode | None = None
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    return key
                seen.add(key.value)
            found = found or _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        found = next(filter(None, map(_twice, _children(node))), None)
    return found


def _children(node: yaml.SequenceNode) -> Iterator[yaml.Node]:
    yield from node.value
