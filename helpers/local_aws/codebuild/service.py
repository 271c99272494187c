"""The CodeBuild API: projects, and builds of them."""

import datetime as dt
import json
import threading
import time
import uuid as uuids
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from helpers.local_aws import pages, tag_keys
from helpers.local_aws.codebuild import projects, reports
from helpers.local_aws.codebuild.builds import REPORT_PATH, Builds
from helpers.local_aws.codebuild.records import Record, Records
from helpers.local_aws.containers import Containers
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Service, Site

__all__ = ["REPORT_PATH", "CodeBuild"]

PRINCIPAL = "codebuild.amazonaws.com"


class CodeBuild(Service):
    """Run builds as containers.

    ``assume(role_arn, session_name)`` returns the AWS_* variables with which codebuild.amazonaws.com acts in a
    role, and raises AwsError where the role does not let it. ``minute``: seconds of a minute of timeouts.
    """

    name: ClassVar[str] = "codebuild"

    def __init__(
        self,
        site: Site,
        assume: Callable[[str, str], Mapping[str, str]],
        containers: Containers,
        minute: float = 60.0,
    ) -> None:
        super().__init__(site)
        self._assume = assume
        self._projects = Records(site.state_dir / "codebuild" / "projects")
        self._builds = Builds(site, containers, assume, minute)
        self._lock = threading.Lock()

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what CodeBuild's authorization reference demands for the operation."""
        action = f"codebuild:{operation}"
        role = params.get("serviceRole") or params.get("serviceRoleOverride")
        passing = [Permission("iam:PassRole", role, {"iam:PassedToService": PRINCIPAL})] if role else []
        if operation in ("ListBuilds", "ListProjects"):
            return [Permission(action)]
        names = params.get("names") or [params.get("name") or params.get("projectName")]
        if "ids" in params or "id" in params:
            names = [_project_of(name) for name in params.get("ids") or [params["id"]]]
        request = tag_keys.of_request({tag["key"]: tag["value"] for tag in params.get("tags", [])})
        needed = [
            Permission(action, self._arn(str(name)), {**self._context_of_project(str(name)), **request})
            for name in dict.fromkeys(_bare(str(name)) for name in names)
        ]
        return [*needed, *passing]

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return CodeBuild's error for a parameter that breaks the model's constraints."""
        return projects.invalid(f"Invalid input: {problem}")

    def wait(self, build_id: str, timeout: float | None = None) -> bool:
        """Block until a build is final; False after ``timeout`` seconds. Raises AwsError for an unknown one."""
        return self._builds.wait(self._build(build_id)["uuid"], timeout)

    def report(self, path: str, method: str, body: bytes) -> bytes:
        """Answer a build's agent. Raises AwsError for one that is not known by what follows REPORT_PATH."""
        uuid, _, secret = path.removeprefix(REPORT_PATH).partition("/")
        if method == "GET":
            task = self._builds.task(uuid, secret)
            known, answer = task is not None, json.dumps(task).encode()
        else:
            known, answer = self._builds.report(uuid, secret, reports.read(body)), b"{}"
        if not known:
            raise AwsError("AccessDeniedException", "no build reports here", 403)
        return answer

    # Projects

    def create_project(self, params: Params, caller: Caller) -> Params:
        """Make a project."""
        project = projects.complete(params)
        self._require_role(project["serviceRole"])
        now = time.time()
        with self._lock:
            if self._projects.find(project["name"]):
                raise AwsError(
                    "ResourceAlreadyExistsException", f"Project already exists: {self._arn(project['name'])}"
                )
            project |= {"arn": self._arn(project["name"]), "created": now, "lastModified": now, "builds": 0}
            self._projects.save(project["name"], project)
        return {"project": _project(project)}

    def update_project(self, params: Params, caller: Caller) -> Params:
        """Change what is named of a project."""
        with self._lock:
            before = self._project(params["name"])
            project = projects.complete({**before, **params, "name": before["name"]})
            if "serviceRole" in params:
                self._require_role(project["serviceRole"])
            project["lastModified"] = time.time()
            self._projects.save(project["name"], project)
        return {"project": _project(project)}

    def batch_get_projects(self, params: Params, caller: Caller) -> Params:
        """Describe projects by name or ARN."""
        found = {name: self._projects.find(_bare(name)) for name in params["names"]}
        return {
            "projects": [_project(project) for project in found.values() if project],
            "projectsNotFound": [name for name, project in found.items() if not project],
        }

    def list_projects(self, params: Params, caller: Caller) -> Params:
        """List the names of projects."""
        key = {"CREATED_TIME": "created", "LAST_MODIFIED_TIME": "lastModified"}.get(params.get("sortBy", ""), "name")
        found = sorted(self._projects.all(), key=lambda project: project[key])
        return _page("projects", [project["name"] for project in found], params, "ASCENDING")

    def delete_project(self, params: Params, caller: Caller) -> Params:
        """Delete a project; its builds stay. One that is not there is no error, as with CodeBuild."""
        name = _bare(params["name"])
        with self._lock:
            if self._projects.find(name):
                self._projects.delete(name)
        return {}

    # Builds

    def start_build(self, params: Params, caller: Caller) -> Params:
        """Start a build of a project as it is now, with what is overridden."""
        with self._lock:
            kept = self._project(params["projectName"])
            project = projects.overridden(kept, params)
            self._require_role(project["serviceRole"])
            kept["builds"] += 1
            self._projects.save(kept["name"], kept)
            number = kept["builds"]
        uuid = str(uuids.uuid4())
        group, stream = self._log_of(project, uuid)
        build_id = f"{project['name']}:{uuid}"
        location = project["source"].get("location", "").removeprefix("arn:aws:s3:::")
        self._builds.start(
            {
                "uuid": uuid,
                "id": build_id,
                "arn": self.site.arn("codebuild", f"build/{build_id}"),
                "number": number,
                "project": project,
                "initiator": _initiator(caller.arn),
                "group": group,
                "stream": stream,
                "source_name": f"arn:aws:s3:::{location}" if location else "",
            }
        )
        return {"build": self._described(self._build(build_id))}

    def stop_build(self, params: Params, caller: Caller) -> Params:
        """End a build; one that is final stays as it is."""
        build = self._build(params["id"])
        self._builds.stop(build["uuid"])
        return {"build": self._described(self._build(params["id"]))}

    def batch_get_builds(self, params: Params, caller: Caller) -> Params:
        """Describe builds by id or ARN."""
        found = {build_id: self._find(build_id) for build_id in params["ids"]}
        return {
            "builds": [self._described(build) for build in found.values() if build],
            "buildsNotFound": [build_id for build_id, build in found.items() if not build],
        }

    def batch_delete_builds(self, params: Params, caller: Caller) -> Params:
        """Forget builds that are final."""
        deleted, kept = [], []
        for build_id in params["ids"]:
            build = self._find(build_id)
            if build is None:
                kept.append({"id": build_id, "statusCode": "BUILD_NOT_FOUND"})
            elif build["status"] == "IN_PROGRESS":
                kept.append({"id": build_id, "statusCode": "BUILD_IN_PROGRESS"})
            else:
                self._builds.delete(build["uuid"])
                deleted.append(build["arn"])
        return {"buildsDeleted": deleted, "buildsNotDeleted": kept}

    def list_builds(self, params: Params, caller: Caller) -> Params:
        """List the ids of builds."""
        return _page("ids", [build["id"] for build in self._builds.all()], params, "DESCENDING")

    def list_builds_for_project(self, params: Params, caller: Caller) -> Params:
        """List the ids of a project's builds."""
        name = self._project(params["projectName"])["name"]
        found = [build["id"] for build in self._builds.all() if build["project"]["name"] == name]
        return _page("ids", found, params, "DESCENDING")

    def _arn(self, name: str) -> str:
        return self.site.arn("codebuild", f"project/{name}")

    def _project(self, name: str) -> Record:
        project = self._projects.find(_bare(name))
        if project is None:
            raise AwsError("ResourceNotFoundException", f"Project cannot be found: {self._arn(_bare(name))}")
        return project

    def _find(self, build_id: str) -> Record | None:
        build = self._builds.find(build_id.rpartition(":")[2])
        return build if build and build_id in (build["id"], build["arn"]) else None

    def _build(self, build_id: str) -> Record:
        build = self._find(build_id)
        if build is None:
            raise AwsError("ResourceNotFoundException", f"Build {build_id} does not exist")
        return build

    def _require_role(self, role: str) -> None:
        try:
            self._assume(role, "AWSCodeBuild-check")
        except AwsError as error:
            raise projects.invalid(
                "CodeBuild is not authorized to perform: sts:AssumeRole on service role. Please verify that: 1) The "
                "provided service role exists, 2) The role name is case-sensitive and matches exactly, and 3) The role "
                "has the necessary trust policy configured."
            ) from error

    def _context_of_project(self, name: str) -> dict[str, Any]:
        tags = (self._projects.find(name) or {}).get("tags", [])
        return tag_keys.of_resource({tag["key"]: tag["value"] for tag in tags})

    def _log_of(self, project: Params, uuid: str) -> tuple[str, str]:
        """Return group and stream of a build's log; the group is "" where there is none."""
        wanted = project.get("logsConfig", {}).get("cloudWatchLogs", {})
        if wanted.get("status", "ENABLED") == "DISABLED":
            return "", uuid
        prefix = wanted.get("streamName")
        return wanted.get("groupName") or f"/aws/codebuild/{project['name']}", f"{prefix}/{uuid}" if prefix else uuid

    def _described(self, build: Record) -> Params:
        project = build["project"]
        kept = ("environment", "serviceRole", "timeoutInMinutes", "queuedTimeoutInMinutes", "cache", "source")
        optional = {
            "sourceVersion": project.get("sourceVersion") or build["source_name"],
            "resolvedSourceVersion": build["resolved"],
            "exportedEnvironmentVariables": build["exported"],
            "endTime": _time(build["ended"]) if "ended" in build else None,
        }
        artifacts: Params = (
            {"location": f"arn:aws:s3:::{build['artifacts']}"} if build["artifacts"] else {"location": ""}
        )
        return {
            "id": build["id"],
            "arn": build["arn"],
            "buildNumber": build["number"],
            "startTime": _time(build["created"]),
            "currentPhase": build["phases"][-1]["type"] if "ended" not in build else "COMPLETED",
            "buildStatus": build["status"],
            "projectName": project["name"],
            "phases": [_phase(phase) for phase in build["phases"]],
            "artifacts": artifacts,
            "logs": self._logs(build),
            "buildComplete": "ended" in build,
            "initiator": build["initiator"],
            **{name: project[name] for name in kept},
            **{name: value for name, value in optional.items() if value},
        }

    def _logs(self, build: Record) -> Params:
        config = build["project"].get("logsConfig", {})
        if not build["group"]:
            return {"cloudWatchLogs": {"status": "DISABLED"}}
        group, stream = build["group"], build["stream"]
        return {
            "groupName": group,
            "streamName": stream,
            "cloudWatchLogsArn": self.site.arn("logs", f"log-group:{group}:log-stream:{stream}"),
            "cloudWatchLogs": {"status": "ENABLED", **config.get("cloudWatchLogs", {})},
            "s3Logs": {"status": "DISABLED", "encryptionDisabled": False},
        }


def _project(project: Record) -> Params:
    times = {name: _time(project[name]) for name in ("created", "lastModified")}
    return {**projects.described(project), **times, "badge": {"badgeEnabled": False}}


def _phase(phase: Record) -> Params:
    described = {"phaseType": phase["type"], "startTime": _time(phase["started"])}
    if "ended" in phase:
        seconds = int(phase["ended"] - phase["started"])
        described |= {"endTime": _time(phase["ended"]), "durationInSeconds": seconds, "phaseStatus": phase["status"]}
    return described | ({"contexts": phase["contexts"]} if phase.get("contexts") else {})


def _time(epoch: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(round(epoch, 3), dt.UTC)


def _bare(name: str) -> str:
    """Return the name of a project, which may be given as its ARN."""
    return name.partition(":project/")[2] or name


def _project_of(build_id: str) -> str:
    return (build_id.partition(":build/")[2] or build_id).partition(":")[0]


def _initiator(arn: str) -> str:
    """Return who started a build: a user's name, or a role's and its session's."""
    return arn.partition("/")[2] or arn.rpartition(":")[2]


def _page(member: str, items: list[str], params: Params, usual: str, size: int = 100) -> Params:
    if params.get("sortOrder", usual) == "DESCENDING":
        items = items[::-1]
    try:
        found, token = pages.cut(items, params.get("nextToken"), size)
    except ValueError:
        raise projects.invalid("Invalid token") from None
    return {member: found, **({"nextToken": token} if token else {})}
