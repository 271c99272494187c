"""Our services: each is made with what it needs of the others and of ministack. They start and end together."""

from collections.abc import Callable, Sequence
from functools import partial

from helpers.local_aws import batch
from helpers.local_aws.apis import EXECUTE_PATH, Apis, Gateway
from helpers.local_aws.cloudformation import CloudFormation
from helpers.local_aws.codebuild import CodeBuild
from helpers.local_aws.codecommit import CodeCommit, GitHttp
from helpers.local_aws.containers import Containers, Slots
from helpers.local_aws.containers.hosts import Requests
from helpers.local_aws.ec2 import Ec2
from helpers.local_aws.ec2.machines import Machines
from helpers.local_aws.ecr import Ecr, Registry
from helpers.local_aws.ecs import Ecs
from helpers.local_aws.lambdas import Functions
from helpers.local_aws.prefork import Warm
from helpers.local_aws.sagemaker import SageMaker
from helpers.local_aws.seam import Seam
from helpers.local_aws.states.jobs import JobTasks
from helpers.local_aws.wire import Permission, Service, Site

EVENTS_SECONDS = 5  # in which what is under way with an event has to end, once no function runs any more

TASKS = "ecs-tasks.amazonaws.com"  # acts in the roles of tasks, and of Batch's jobs


class Services:
    """Every service of ours, ready to be asked.

    ``named``: those that answer API calls, by the name that signs for them. EC2 has a protocol of its own. ``git``,
    ``gateway``, ``registry`` and ``codebuild`` also serve paths that are no API calls.
    """

    def __init__(self, site: Site, seam: Seam, warm: Warm, requests: Requests) -> None:
        """Make them. ``requests``: how the processes of jobs and containers reach the embedded AWS."""
        self._seam, self._slots = seam, Slots()
        self._containers = Containers(site, warm.jobs, requests, self._slots)
        self._functions = Functions(site.state_dir / "lambda", site.endpoint_url, zygote=warm.functions)
        ecr, apis = Ecr(site), Apis(site, lambda api: f"{site.endpoint_url}{EXECUTE_PATH}{api}")
        codecommit = CodeCommit(site, partial(seam.invoke_for, "codecommit.amazonaws.com"))
        assume = self._assume("ec2.amazonaws.com")
        self.ec2 = Ec2(site, lambda ended: Machines(site, warm.jobs, assume, ended), seam.instance_profiles.find)
        self._cloudformation = CloudFormation(site, seam.stack_credentials.of_role, seam.stack_credentials.of_key)
        self.codebuild = CodeBuild(site, self._assume("codebuild.amazonaws.com"), self._containers)
        self._sagemaker = self._make_sagemaker(site, warm, ecr, requests)
        self._ecs, self._batch = self._make_ecs(site, ecr), self._make_batch(site, ecr)
        self.named: dict[str, Service] = {
            "apigateway": apis,
            "batch": self._batch,
            "cloudformation": self._cloudformation,
            "codebuild": self.codebuild,
            "codecommit": codecommit,
            "ecr": ecr,
            "ecs": self._ecs,
            "sagemaker": self._sagemaker,
        }
        self.git, self.registry = GitHttp(codecommit, seam.identity.credential), Registry(ecr)
        self.gateway = Gateway(site, apis.records, seam.api_calls)
        seam.install(self._functions, JobTasks(self.named))

    def warm_up(self) -> None:
        """Let the processes of jobs and functions load what these need: what a start does not have to wait for.

        And deliver the events that the last stop left waiting.
        """
        self._seam.events.start()
        self._sagemaker.warm_up()
        self._functions.warm_up()

    def resume(self) -> None:
        """Go on with what was under way when the embedded AWS was stopped."""
        self._sagemaker.resume()
        self._ecs.resume()
        self._batch.resume()
        self._seam.resume()

    def close(self) -> None:
        """End every job and function. Nothing of theirs outlives this call."""
        self.gateway.close()
        self._cloudformation.close()
        self._seam.close()
        self._seam.events.stop()
        self.ec2.close()
        self._ecs.close()
        self._batch.close()
        self._containers.close()
        self._sagemaker.close()
        self._functions.close()
        self._seam.events.join(EVENTS_SECONDS)

    def _make_sagemaker(self, site: Site, warm: Warm, ecr: Ecr, requests: Requests) -> SageMaker:
        return SageMaker(
            site,
            self._assume("sagemaker.amazonaws.com"),
            self._require("sagemaker.amazonaws.com", "SageMaker"),
            host_requests=requests,
            forkserver=warm.jobs,
            slots=self._slots,
            built=ecr.images,
        )

    def _make_ecs(self, site: Site, ecr: Ecr) -> Ecs:
        return Ecs(
            site,
            self._assume(TASKS),
            self._require(TASKS, "ECS"),
            containers=self._containers,
            images=ecr.images,
            networks=self.ec2,
            linked_roles=self._seam.linked_roles,
        )

    def _make_batch(self, site: Site, ecr: Ecr) -> batch.Batch:
        around = batch.Around(
            containers=self._containers,
            images=ecr.images,
            networks=self.ec2,
            linked_roles=self._seam.linked_roles,
            assume=self._assume(TASKS),
            require=self._require(TASKS, "ECS"),
            try_service_role=lambda role: self._seam.identity.assume(role, batch.PRINCIPAL, "aws-batch"),
            make_log_group=self._seam.log_groups.ensure,
        )
        return batch.Batch(site, around)

    def _assume(self, principal: str) -> Callable[[str, str], dict[str, str]]:
        """Return what gives the credentials of ``principal`` in a role, for a session's name."""
        return lambda role, session: self._seam.identity.assume(role, principal, session)

    def _require(self, principal: str, session: str) -> Callable[[str, Sequence[Permission]], None]:
        """Return what raises AwsError unless ``principal`` has the permissions in a role."""
        return lambda role, needed: self._seam.identity.role_caller(role, principal, session).require(*needed)
