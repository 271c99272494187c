"""State machines around one Task state, for the unit tests."""

import json
from typing import Any

FARGATE = {
    "LaunchType": "FARGATE",
    "Cluster": "demo",
    "TaskDefinition": "demo-summarize",
    "NetworkConfiguration": {
        "AwsvpcConfiguration": {"Subnets": ["subnet-1"], "SecurityGroups": ["sg-1"], "AssignPublicIp": "ENABLED"}
    },
    "Overrides": {
        "ContainerOverrides": [
            {
                "Name": "main",
                "Command.$": "States.Array('python', $.script)",
                "Environment": [{"Name": "PART", "Value.$": "$.part"}, {"Name": "TOKEN", "Value.$": "$$.Task.Token"}],
            }
        ]
    },
    "Tags": [{"Key": "a", "Value": "b"}],
}
BATCH = {
    "JobName": "summarize",
    "JobQueue": "demo-urgent",
    "JobDefinition": "demo-summarize",
    "Parameters": {"part.$": "$.part"},
    "ArrayProperties": {"Size": 2},
    "RetryStrategy": {"Attempts": 2},
    "Timeout": {"AttemptDurationSeconds": 60},
    "Tags": {"a": "b"},
}
TRAIN = {
    "TrainingJobName.$": "$$.Execution.Name",
    "RoleArn": "arn:aws:iam::123456789012:role/job",
    "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
    "HyperParameters.$": "$.parameters",
    "OutputDataConfig": {"S3OutputPath": "s3://demo/models/"},
    "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 600},
}


def task(resource: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a Task state that is the last one."""
    return {"Type": "Task", "Resource": resource, "Parameters": parameters, "End": True}


def machine(**states: Any) -> str:
    """Return the definition of a machine of these states, the first of which it starts with."""
    return json.dumps({"StartAt": next(iter(states)), "States": states})
